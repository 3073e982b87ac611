//! What Docker and Podman have in common: a client that takes the same words, containers that it starts, and a way out that
//! asks the engine first and does without it where it does not answer. What each of them is, is in files of their own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use nix::mount::{MntFlags, umount2};

use crate::pod::PodContainer;
use crate::{Cgroups, WORKLOAD_IMAGE, cleanup};

/// How long a client may take, in seconds: in a virtual machine without hardware support a start takes some.
const PATIENCE: &str = "120";

/// What engines leave outside of the folders that they are told to use, innermost first. What was there before stays.
const SHARED: [&str; 14] = [
    "/etc/docker/key.json",
    "/etc/docker",
    "/run/docker/plugins",
    "/run/docker",
    "/opt/containerd/bin",
    "/opt/containerd/lib",
    "/opt/containerd",
    "/run/containers/networks/ipam.db",
    "/run/containers/networks",
    "/run/containers",
    "/run/crun",
    "/run/runc",
    "/run/netns",
    "/run/libpod",
];

/// Where Podman has systemd put containers.
const SLICE: &str = "machine.slice";

/// A running Docker or Podman. Dropping it removes its containers and all that it has made on the machine.
pub trait Engine {
    /// `docker` or `podman`.
    fn name(&self) -> &'static str;

    /// Its command-line client, talking to this one.
    fn client(&self) -> Command;

    fn traces(&self) -> &Traces;

    /// Starts a container of the bed's own image in the background. `options` go before the image, `command` is the
    /// program's, as in `["/workload", "sleep"]`.
    fn run(&self, name: &str, options: &[&str], command: &[&str]) -> anyhow::Result<PodContainer> {
        self.run_image(name, options, WORKLOAD_IMAGE, command)
    }

    /// The same of another image that it has, such as [`crate::HOST_IMAGE`].
    fn run_image(
        &self,
        name: &str,
        options: &[&str],
        image: &str,
        command: &[&str],
    ) -> anyhow::Result<PodContainer> {
        let program = command.first().context("a container needs a program")?;
        // A workload does not hear SIGTERM as the first process of a namespace, and Podman would wait ten seconds for it at each removal.
        let run = ["run", "--detach", "--name", name, "--entrypoint", program, "--stop-signal=KILL"];
        let words = [&run, options, &[image], &command[1..]];
        let id = self.ask(&words.concat()).with_context(|| format!("starting {name} by {}", self.name()))?;
        self.traces().remember(&id);
        self.inspect(name)
    }

    /// A container that there is, as it is now.
    fn inspect(&self, name: &str) -> anyhow::Result<PodContainer> {
        let told =
            self.ask(&["inspect", "--type", "container", "--format", "{{.Id}} {{.State.Pid}}", name])?;
        let (id, pid) = told.split_once(' ').with_context(|| format!("{name}: no id and pid in {told}"))?;
        Ok(PodContainer { name: name.into(), id: id.into(), pid: pid.parse()? })
    }

    /// Takes in an archive as `docker save` writes it.
    fn load(&self, archive: &Path) -> anyhow::Result<()> {
        let archive = archive.to_str().context("the archive's path is no text")?;
        self.ask(&["load", "--quiet", "--input", archive]).map(drop)
    }

    /// Kills and removes a container.
    fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.ask(&["rm", "--force", "--volumes", name]).map(drop)
    }

    /// Says this to the client, and returns what it printed.
    fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut client = self.client();
        client.args(words).stdin(Stdio::null());
        let output = client.output().with_context(|| format!("starting the client of {}", self.name()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} {}: {}", self.name(), words.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// A client that is ended if the engine does not answer.
pub(crate) fn patient(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", PATIENCE, program]);
    command
}

/// What an engine may have left on the machine when it ends.
#[derive(Debug)]
pub struct Traces {
    pub(crate) dir: PathBuf,
    pub(crate) bridge: String,
    /// The bundles below which containerd's shims name their sockets.
    pub(crate) bundles: PathBuf,
    ids: Mutex<Vec<String>>,
    /// Those of [`SHARED`] that were not there.
    new: Vec<&'static str>,
    slice_is_new: bool,
    /// Held shared while the bed lives; see `cleanup::shared_folders`.
    lock: File,
}

impl Traces {
    pub(crate) fn new(dir: &Path, bridge: String, bundles: PathBuf, lock: File) -> Self {
        let new = SHARED.into_iter().filter(|path| !Path::new(path).exists()).collect();
        let slice_is_new = !cleanup::has_slice(SLICE);
        Self { dir: dir.into(), bridge, bundles, ids: Mutex::default(), new, slice_is_new, lock }
    }

    /// A container or a pod whose cgroups are to be removed at the end.
    pub(crate) fn remember(&self, id: &str) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).push(id.to_owned());
    }

    /// Removes whatever there still is, without asking the engine.
    pub(crate) fn remove(&mut self) {
        let ids = self.ids.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut mistakes = cleanup::engine(&self.dir, &self.bridge, ids, &self.bundles);
        if self.lock.try_lock().is_ok() {
            cleanup::remove_shared_folders(Cgroups::default());
            // systemd keeps the slice in which Podman's containers were.
            if self.slice_is_new {
                cleanup::stop_empty_slice(SLICE);
            }
            for path in &self.new {
                // Podman makes a mount of the folder of network namespaces.
                let _ = umount2(*path, MntFlags::MNT_DETACH);
                // A folder goes only if it is empty.
                let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            mistakes.push(format!("{}: {error}", self.dir.display()));
        }
        for mistake in mistakes {
            eprintln!("testbed: {mistake}");
        }
    }
}

/// The driver that a distribution sets: systemd's where that is in charge.
pub(crate) fn cgroup_driver() -> &'static str {
    if Path::new("/run/systemd/system").is_dir() { "systemd" } else { "cgroupfs" }
}

/// True where a container cannot be given all capabilities, raised limits or a lowered `oom_score_adj`.
pub(crate) fn lacks_sys_resource() -> bool {
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    bounding
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set & SYS_RESOURCE == 0)
}

/// An OCI runtime that asks for one capability less than it was told to: `--privileged` means what the machine has, as
/// containerd's CRI plugin understands it, and old Docker does not.
pub(crate) fn modest_runtime(dir: &Path, runtime: &str) -> anyhow::Result<PathBuf> {
    let path = modest_path(dir, runtime);
    let script = format!(
        r#"#!/bin/sh
bundle=. next=
for word in "$@"; do
    [ "$next" != bundle ] || bundle=$word
    next=
    case $word in --bundle | -b) next=bundle ;; --bundle=*) bundle=${{word#*=}} ;; esac
done
[ ! -f "$bundle/config.json" ] || sed -i 's/"CAP_SYS_RESOURCE",\?//g; s/,]/]/g' "$bundle/config.json"
exec {runtime} "$@"
"#
    );
    fs::write(&path, script)?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(path)
}

pub(crate) fn modest_path(dir: &Path, runtime: &str) -> PathBuf {
    dir.join(format!("{runtime}-without-sys-resource"))
}

/// True where a program stands in one of the folders of PATH.
pub(crate) fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
