//! The way out: everything that a bed has made on the machine, removed without asking containerd, which is dead by then.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Cgroups;

/// How long processes may take to die, and cgroups to empty, after SIGKILL.
const DEADLINE: Duration = Duration::from_secs(10);

/// containerd's shims listen here whatever its state folder is (`socketRoot` in `runtime/v2/shim/util_unix.go`).
const SHIM_SOCKETS: &str = "/run/containerd/s";

/// libcni remembers here what it has set up, whatever the plugins' own folders are (`CacheDir` in `libcni/api.go`).
const CNI_RESULTS: &str = "/var/lib/cni/results";

/// The lock that beds hold shared while they live, so that the last one to go, and only that, removes what they have in
/// common. It is taken on a folder that is always there: a lock file would itself be left over.
pub(crate) fn lock() -> anyhow::Result<File> {
    let lock = File::open("/sys/fs/cgroup").context("opening /sys/fs/cgroup")?;
    lock.lock_shared().context("locking /sys/fs/cgroup")?;
    Ok(lock)
}

/// The same lock for whoever compares the state of the whole machine: waits until no other bed lives, and keeps others
/// from starting as long as it, or the bed that it is given to, lives.
pub fn alone() -> anyhow::Result<File> {
    let lock = File::open("/sys/fs/cgroup").context("opening /sys/fs/cgroup")?;
    lock.lock().context("locking /sys/fs/cgroup")?;
    Ok(lock)
}

/// Removes all; returns what could not be removed, in words.
pub(crate) fn all(
    dir: &Path,
    bridge: &str,
    cgroups: Cgroups,
    pod_uids: &[String],
    lock: &File,
) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut attempt = |what: &str, done: anyhow::Result<()>| {
        if let Err(error) = done {
            mistakes.push(format!("cleaning up {what}: {error:#}"));
        }
    };
    // Containers before shims: a living shim reaps its container's init, nobody else might.
    attempt("containers", kill_all(|pid| in_pod(pid, pod_uids)));
    attempt("shims", kill_all(|pid| belongs_to(pid, dir) || in_pod(pid, pod_uids)));
    attempt("mounts", unmount_all(dir));
    attempt("the network", remove_network(bridge));
    attempt("CNI results", remove_cni_results(dir));
    if cgroups == Cgroups::Systemd {
        for uid in pod_uids {
            attempt("slices", stop_slice(&Cgroups::slice(uid)));
        }
    }
    for hierarchy in cgroup_hierarchies() {
        for uid in pod_uids {
            attempt("cgroups", remove_cgroup(&hierarchy.join(cgroups.of_pod(uid))));
        }
    }
    attempt("shim sockets", remove_shim_sockets(&dir.join("state/io.containerd.runtime.v2.task/k8s.io")));
    attempt("the folder", fs::remove_dir_all(dir).map_err(Into::into));
    if lock.try_lock().is_ok() {
        remove_shared_folders(cgroups);
    }
    mistakes
}

/// The same of what Docker or Podman has made: `ids` are its containers', `bundles` those of its shims if it has any. The
/// folder itself is left to the caller.
pub(crate) fn engine(dir: &Path, bridge: &str, ids: &[String], bundles: &Path) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut attempt = |what: &str, done: anyhow::Result<()>| {
        if let Err(error) = done {
            mistakes.push(format!("cleaning up {what}: {error:#}"));
        }
    };
    let inside = |pid: i32| {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        ids.iter().any(|id| cgroups.contains(id.as_str()))
    };
    for hierarchy in cgroup_hierarchies() {
        thaw(&hierarchy, ids);
    }
    // The engine before its containers: it would start some of them again.
    attempt("the engine", kill_all(|pid| belongs_to(pid, dir)));
    attempt("containers", kill_all(|pid| inside(pid) || belongs_to(pid, dir)));
    attempt("shim sockets", remove_shim_sockets(bundles));
    attempt("mounts", unmount_all(dir));
    attempt("the network", remove_network(bridge));
    for cgroup in cgroup_hierarchies().iter().flat_map(|hierarchy| cgroups_of(hierarchy, ids)) {
        attempt("cgroups", remove_cgroup(&cgroup));
    }
    mistakes
}

/// Every cgroup whose name holds one of the ids: the engines' and systemd's ways to name them are many.
fn cgroups_of(folder: &Path, ids: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name();
        if ids.iter().any(|id| name.to_string_lossy().contains(id.as_str())) {
            found.push(entry.path());
        } else {
            found.extend(cgroups_of(&entry.path(), ids));
        }
    }
    found
}

/// In a frozen cgroup of v1 nothing dies.
fn thaw(hierarchy: &Path, ids: &[String]) {
    for cgroup in cgroups_of(hierarchy, ids) {
        // Only the freezer's has this file.
        let state = cgroup.join("freezer.state");
        if state.exists() {
            let _ = fs::write(state, "THAWED");
        }
    }
}

/// What several beds, and other containerds, use together: removed where empty, which rmdir(2) guarantees.
pub(crate) fn remove_shared_folders(cgroups: Cgroups) {
    for folder in cgroups.above() {
        if cgroups == Cgroups::Systemd {
            stop_empty_slice(folder);
        }
        for hierarchy in cgroup_hierarchies() {
            let _ = fs::remove_dir(hierarchy.join(folder));
        }
    }
    for hierarchy in cgroup_hierarchies() {
        for parent in ["docker", "libpod_parent/conmon", "libpod_parent", "conmon"] {
            let _ = fs::remove_dir(hierarchy.join(parent));
        }
    }
    for folder in [SHIM_SOCKETS, "/run/containerd", CNI_RESULTS, "/var/lib/cni"] {
        let _ = fs::remove_dir(folder);
    }
}

/// Whether there is a cgroup of this path, in any hierarchy.
pub(crate) fn has_slice(path: &str) -> bool {
    cgroup_hierarchies().iter().any(|hierarchy| hierarchy.join(path).exists())
}

/// Ends the slice of this path if nothing is below it: systemd would end that, too.
pub(crate) fn stop_empty_slice(path: &str) {
    let holds_more = |hierarchy: &PathBuf| {
        let below = fs::read_dir(hierarchy.join(path)).into_iter().flatten().flatten();
        below.filter_map(|entry| entry.file_type().ok()).any(|kind| kind.is_dir())
    };
    if has_slice(path) && !cgroup_hierarchies().iter().any(holds_more) {
        let _ = stop_slice(path.rsplit('/').next().unwrap_or(path));
    }
}

/// Ends a slice that holds no process: systemd would keep it, and its cgroup, for ever.
fn stop_slice(name: &str) -> anyhow::Result<()> {
    let output = Command::new("systemctl").args(["stop", name]).output().context("starting systemctl")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Kills every process that `doomed` names until there is none; a killed process may have forked meanwhile.
fn kill_all(doomed: impl Fn(i32) -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let victims: Vec<i32> = processes().into_iter().filter(|&pid| doomed(pid)).collect();
        if victims.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "processes {victims:?} do not die");
        for pid in victims {
            // It may have gone by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// All living processes; zombies are dead already.
fn processes() -> Vec<i32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|&pid| !is_zombie(pid)).collect()
}

pub(crate) fn is_alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists() && !is_zombie(pid)
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything, also parentheses: the state stands after the last one.
    stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
}

fn in_pod(pid: i32, pod_uids: &[String]) -> bool {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    // As the bed's driver has it, and, in a container with a user namespace, as cgroupfs has it.
    pod_uids.iter().any(|uid| {
        [Cgroups::Cgroupfs, Cgroups::Systemd]
            .iter()
            .any(|driver| cgroups.contains(&format!("/{}", driver.of_pod(uid))))
    })
}

/// What containerd starts beside the containers, or we: all of them name a path in the folder, in an argument or (the CNI
/// plugins) in the environment. One that is still setting something up must not finish after the clean-up.
fn belongs_to(pid: i32, dir: &Path) -> bool {
    const HELPERS: [&str; 16] = [
        "containerd-shim-runc-v2",
        "containerd",
        "runc",
        "crun",
        "ctr",
        "bridge",
        "host-local",
        "loopback",
        "dockerd",
        "docker",
        "docker-proxy",
        "podman",
        "conmon",
        "netavark",
        "aardvark-dns",
        "rootlessport",
    ];
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments);
    let program = Path::new(arguments.split('\0').next().unwrap_or_default()).file_name();
    if !HELPERS.iter().any(|&helper| program == Some(helper.as_ref())) {
        return false;
    }
    let inside = format!("{}/", dir.display());
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    arguments.contains(&inside) || String::from_utf8_lossy(&environment).contains(&inside)
}

fn unmount_all(dir: &Path) -> anyhow::Result<()> {
    let mut targets: Vec<PathBuf> = mounts().into_iter().map(|mount| mount.0).collect();
    targets.retain(|target| target.starts_with(dir));
    // The last mount first: mounts stack.
    for target in targets.iter().rev() {
        umount2(target, MntFlags::MNT_DETACH).with_context(|| target.display().to_string())?;
    }
    Ok(())
}

/// Mount point and file system type of every mount. Points with blanks come escaped; no bed makes such.
fn mounts() -> Vec<(PathBuf, String)> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = text.lines().map(|line| line.split(' ').skip(1));
    fields.filter_map(|mut field| Some((field.next()?.into(), field.next()?.to_owned()))).collect()
}

pub(crate) fn cgroup_hierarchies() -> Vec<PathBuf> {
    let all = mounts().into_iter();
    all.filter(|(_, kind)| kind == "cgroup" || kind == "cgroup2").map(|(target, _)| target).collect()
}

fn remove_network(bridge: &str) -> anyhow::Result<()> {
    let sysfs = Path::new("/sys/class/net").join(bridge);
    if !sysfs.exists() {
        return Ok(());
    }
    // The pods' links go with their network namespaces, which the kernel tears down together and in its own time.
    let deadline = Instant::now() + DEADLINE;
    while fs::read_dir(sysfs.join("brif"))?.next().is_some() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = Command::new("ip").args(["link", "delete", bridge]).output().context("starting ip")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Each result names the network namespace it was made for, and ours lie in the folder.
fn remove_cni_results(dir: &Path) -> anyhow::Result<()> {
    let dir = dir.display().to_string();
    for entry in fs::read_dir(CNI_RESULTS).into_iter().flatten().flatten() {
        if fs::read_to_string(entry.path()).is_ok_and(|result| result.contains(&dir)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes a cgroup and those below it. A cgroup stays busy for a moment after its last process has died.
pub(crate) fn remove_cgroup(path: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    let deadline = Instant::now() + DEADLINE;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| path.display().to_string());
            }
            _ => return Ok(()),
        }
    }
}

/// A killed shim leaves its socket's file; `address` in its bundle names it.
fn remove_shim_sockets(bundles: &Path) -> anyhow::Result<()> {
    for bundle in fs::read_dir(bundles).into_iter().flatten().flatten() {
        let address = shim_address(&bundle.path());
        let socket = Path::new(address.trim_start_matches("unix://"));
        if socket.starts_with(SHIM_SOCKETS) && socket.exists() {
            fs::remove_file(socket)?;
        }
    }
    Ok(())
}

/// Where a shim listens: containerd 1 keeps that alone in a file, and 2 in one of JSON.
fn shim_address(bundle: &Path) -> String {
    let text = |name| fs::read_to_string(bundle.join(name)).unwrap_or_default();
    let kept: serde_json::Value = serde_json::from_str(&text("bootstrap.json")).unwrap_or_default();
    kept["address"].as_str().map_or_else(|| text("address"), str::to_owned)
}
