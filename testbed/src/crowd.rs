//! Many containers without a runtime, in seconds: each is a process in namespaces and a cgroup of its own, with the bundle
//! that a runtime would leave on disk. The agent finds, names and enters them as it does any other; nothing of it is replaced.

use std::fs::{self, File};
use std::io::PipeWriter;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::Cgroups;
use crate::cleanup;

/// How long all of them may take to be in their cgroups.
const START: Duration = Duration::from_mins(1);
/// So many are started before they are waited for: what the machine has to do at once is bounded.
const BATCH: usize = 100;

/// Its containers end with it, and also if whoever holds it is killed: each reads a pipe of which we have the other end.
#[derive(Debug)]
pub struct Crowd {
    dir: tempfile::TempDir,
    cgroups: PathBuf,
    /// Told from other crowds' by this in the uids of its pods.
    name: String,
    /// Oldest first.
    members: Vec<Member>,
    started: usize,
    ends: std::io::PipeReader,
    /// None once all are to end.
    leash: Option<PipeWriter>,
    /// As any other bed has it.
    _lock: File,
}

#[derive(Debug)]
struct Member {
    /// `unshare`, whose child is the container's init and dies with it.
    child: Child,
    cgroup: PathBuf,
    bundle: PathBuf,
}

impl Crowd {
    /// An empty one; under a lock of [`crate::alone`]'s if there is one. Needs root.
    pub fn new(lock: Option<File>) -> anyhow::Result<Self> {
        let lock = lock.map_or_else(cleanup::lock, Ok)?;
        let hierarchies = cleanup::cgroup_hierarchies();
        let unified = hierarchies.iter().find(|path| path.join("cgroup.controllers").exists());
        let cgroups = unified.context("there is no cgroup2 hierarchy")?.join(Cgroups::Cgroupfs.above()[0]);
        let dir = tempfile::Builder::new().prefix("pt-crowd-").tempdir()?;
        let name = format!("{:08x}", std::process::id());
        let (ends, leash) = std::io::pipe()?;
        let crowd = Self {
            dir,
            cgroups,
            name,
            members: Vec::new(),
            started: 0,
            ends,
            leash: Some(leash),
            _lock: lock,
        };
        fs::create_dir_all(crowd.bundle("shim"))?;
        Ok(crowd)
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Starts so many more pods of one container each, named `pod-NUMBER` in the namespace `crowd`.
    pub fn grow(&mut self, count: usize) -> anyhow::Result<()> {
        let first = self.members.len();
        for done in 0..count {
            let member = self.member()?;
            self.members.push(member);
            if (done + 1) % BATCH == 0 || done + 1 == count {
                self.members[first..].iter().try_for_each(Member::is_up)?;
            }
        }
        Ok(())
    }

    /// Ends the oldest so many.
    pub fn shrink(&mut self, count: usize) -> anyhow::Result<()> {
        let mut ending: Vec<_> = self.members.drain(..count.min(self.members.len())).collect();
        for member in &mut ending {
            member.child.kill()?;
        }
        ending.into_iter().try_for_each(Member::end)
    }

    fn bundle(&self, id: &str) -> PathBuf {
        // The agent knows containerd's bundles by this path.
        self.dir.path().join("io.containerd.runtime.v2.task/k8s.io").join(id)
    }

    fn member(&mut self) -> anyhow::Result<Member> {
        let number = self.started;
        self.started += 1;
        let id = format!("{number:08x}{:0>56}", self.name);
        let uid = format!("c0000000-0000-4000-8000-{:0>4}{}", number % 10_000, self.name);
        let pod = format!("pod-{number}");
        let bundle = self.bundle(&id);
        fs::create_dir(&bundle)?;
        fs::write(bundle.join("config.json"), config(&pod, &uid))?;
        let cgroup = self.cgroups.join(format!("pod{uid}-{number}")).join(&id);
        fs::create_dir_all(&cgroup).with_context(|| cgroup.display().to_string())?;
        // The exec comes last: it is what the kernel half sees of a start.
        let init = format!("echo 0 >{}/cgroup.procs && exec cat", cgroup.display());
        let child = Command::new("unshare")
            .args([
                "--pid",
                "--mount",
                "--net",
                "--uts",
                "--ipc",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                &init,
            ])
            // A shim stands among the bundles.
            .current_dir(self.bundle("shim"))
            .stdin(self.ends.try_clone()?)
            .stdout(Stdio::null())
            // Of the old one in Debian 12, a complaint at each end.
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting unshare")?;
        Ok(Member { child, cgroup, bundle })
    }
}

impl Member {
    fn is_up(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while fs::read_to_string(self.cgroup.join("cgroup.procs"))?.is_empty() {
            ensure!(Instant::now() < deadline, "{}: nobody came", self.cgroup.display());
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// It has been told to end.
    fn end(mut self) -> anyhow::Result<()> {
        self.child.wait()?;
        cleanup::remove_cgroup(self.cgroup.parent().unwrap_or(&self.cgroup))?;
        fs::remove_dir_all(&self.bundle)?;
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.leash = None;
        for member in self.members.drain(..) {
            if let Err(error) = member.end() {
                eprintln!("cleaning up a crowd: {error:#}");
            }
        }
        // Where nobody else has anything in them.
        let _ = fs::remove_dir(&self.cgroups);
        let _ = self.cgroups.parent().map(fs::remove_dir);
    }
}

/// As containerd names the pod; the labels as CRI-O does, because containerd's are nowhere on disk.
fn config(pod: &str, uid: &str) -> String {
    let labels = serde_json::json!({ "app": "crowd", "pod-template-hash": "5d8c7b9f4" }).to_string();
    serde_json::json!({ "annotations": {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": "main",
        "io.kubernetes.cri.image-name": "registry.example.org/shop/crowd:1.4.2",
        "io.kubernetes.cri.sandbox-id": format!("{pod}-sandbox"),
        "io.kubernetes.cri.sandbox-name": pod,
        "io.kubernetes.cri.sandbox-namespace": "crowd",
        "io.kubernetes.cri.sandbox-uid": uid,
        "io.kubernetes.cri-o.Labels": labels,
    }})
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_json_and_names_its_pod() {
        let text: serde_json::Value = serde_json::from_str(&config("pod-7", "u")).unwrap();
        assert_eq!(text["annotations"]["io.kubernetes.cri.sandbox-name"], "pod-7");
    }
}
