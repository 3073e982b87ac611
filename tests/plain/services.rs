//! Services under a real systemd: the host's where that is its first process, and otherwise one that is booted for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::Snapshot;

use crate::common;

const JOB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/plain/services.sh");

#[tokio::test]
async fn services_of_a_real_systemd() {
    let alone = tokio::task::spawn_blocking(testbed::alone).await.unwrap().unwrap();
    let before = Snapshot::take();
    let folder = tempfile::Builder::new().prefix("pt-").tempdir().unwrap();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_parachute"));
    let has_systemd = Path::new("/run/systemd/system").exists();
    println!("systemd is the host's first process: {has_systemd}");
    let place = folder.path().to_owned();
    let job = move || {
        if has_systemd {
            let seconds = (120 * testbed::patience()).to_string();
            let mut job = Command::new("timeout");
            let output = job.args(["--kill-after=5", &seconds, JOB]).arg(program).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}\n{said}\n{error}", output.status);
            return said;
        }
        let files = [(program, "/usr/bin/parachute"), (JOB.into(), "/root/job")];
        common::booted::boot("pt-services", &place, &files)
    };
    let said = tokio::task::spawn_blocking(job).await.unwrap();
    println!("{said}");
    assert!(said.ends_with("all is as it should be\n"), "{said}");
    drop(folder);
    assert_eq!(before.leftovers(), [""; 0]);
    drop(alone);
}
