//! The Debian package on a Debian of its own, which a real systemd boots: installed, running, scraped, upgraded, removed, and
//! nothing left of it after a purge. `cargo xtask test` makes the packages and that Debian.

use std::fs;
use std::path::Path;
use std::process::Command;

use testbed::Snapshot;

use crate::common;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Boots no slower than this, and does its job.
const DEADLINE: &str = "120";

/// Runs the job and ends the machine with its status.
const UNIT: &str = "\
[Unit]
After=basic.target dbus.socket
[Service]
Type=oneshot
ExecStart=/bin/sh -c '/root/job; systemctl --no-block exit $?'
StandardOutput=file:/root/shared/said
StandardError=inherit
";

#[tokio::test]
async fn a_debian_package_comes_works_and_goes() {
    let alone = tokio::task::spawn_blocking(testbed::alone).await.unwrap().unwrap();
    let before = Snapshot::take();
    let folder = tempfile::Builder::new().prefix("pt-").tempdir().unwrap();
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(folder.path().join("job.service"), UNIT).unwrap();
    let root = Path::new(ROOT);
    let made = root.join("target/deb-test");
    let version = env!("CARGO_PKG_VERSION");
    let one = root.join(format!("dist/parachute_{version}-1_amd64.deb"));
    let two = made.join(format!("parachute_{version}-2_amd64.deb"));
    for part in [&one, &two] {
        assert!(part.exists(), "{}: cargo xtask test makes it", part.display());
    }
    let mut nspawn = Command::new("timeout");
    nspawn.args(["--kill-after=5", DEADLINE, "systemd-nspawn", "--quiet", "--boot", "--volatile=overlay"]);
    nspawn.arg("--directory").arg(made.join("root"));
    // Without a systemd on the machine there is nobody to register with. The agent asks for what a container is not given.
    nspawn.args(["--register=no", "--keep-unit", "--console=pipe", "--private-network", "--capability=all"]);
    nspawn.args([
        "--machine=package-test",
        "--system-call-filter=bpf perf_event_open open_by_handle_at @mount",
    ]);
    for (from, to) in [
        (one.as_path(), "/root/one.deb"),
        (&two, "/root/two.deb"),
        (&root.join("tests/package/job.sh"), "/root/job"),
        (&folder.path().join("job.service"), "/etc/systemd/system/job.service"),
        (Path::new("/usr/bin/prometheus"), "/usr/bin/prometheus"),
    ] {
        nspawn.arg(format!("--bind-ro={}:{to}", from.display()));
    }
    nspawn.arg(format!("--bind={}:/root/shared", shared.display()));
    nspawn.args(["systemd.unified_cgroup_hierarchy=1", "systemd.wants=job.service"]);
    let output = tokio::task::spawn_blocking(move || nspawn.output()).await.unwrap().unwrap();
    let said = fs::read_to_string(shared.join("said")).unwrap_or_default();
    assert!(
        output.status.success(),
        "{}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.ends_with("nothing is left\n"), "{said}");
    common::promtool(&fs::read_to_string(shared.join("metrics")).unwrap());
    drop(folder);
    assert_eq!(before.leftovers(), [""; 0]);
    drop(alone);
}
