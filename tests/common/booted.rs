//! A Debian that a real systemd boots, in systemd-nspawn, for what needs one. `cargo xtask test` makes that Debian.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::groups;

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

/// Boots it with these files of the host's in it and runs `/root/job`, which must be one of them. What it writes to
/// `/root/shared` is in `folder/shared` afterwards; what it said is given back. Fails as the job does.
pub(crate) fn boot(machine: &str, folder: &Path, files: &[(PathBuf, &str)]) -> String {
    let shared = folder.join("shared");
    fs::create_dir(&shared).unwrap();
    let unit = folder.join("job.service");
    fs::write(&unit, UNIT).unwrap();
    let root = Path::new(ROOT).join("target/deb-test/root");
    assert!(root.exists(), "{}: cargo xtask test makes it", root.display());
    let mut nspawn = Command::new("timeout");
    nspawn.args(["--kill-after=5", DEADLINE, "systemd-nspawn", "--quiet", "--boot", "--volatile=overlay"]);
    nspawn.arg("--directory").arg(root);
    // Without a systemd on the machine there is nobody to register with. The agent asks for what a container is not given.
    nspawn.args(["--register=no", "--keep-unit", "--console=pipe", "--private-network", "--capability=all"]);
    nspawn.arg(format!("--machine={machine}"));
    nspawn.arg("--system-call-filter=bpf perf_event_open open_by_handle_at @mount");
    let unit = [(unit, "/etc/systemd/system/job.service")];
    for (from, to) in files.iter().chain(&unit) {
        nspawn.arg(format!("--bind-ro={}:{to}", from.display()));
    }
    nspawn.arg(format!("--bind={}:/root/shared", shared.display()));
    nspawn.args(["systemd.unified_cgroup_hierarchy=1", "systemd.wants=job.service"]);
    let output = nspawn.output().unwrap();
    // It leaves these two in its own cgroup, of which there is none but the root.
    groups::clear("payload");
    groups::clear("supervisor");
    let said = fs::read_to_string(shared.join("said")).unwrap_or_default();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}\n{error}", output.status);
    said
}
