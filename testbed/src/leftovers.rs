//! What stands on the machine, as lines that can be compared: the proof that a test, a demo or a run left nothing over.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cleanup::cgroup_hierarchies;

/// How long the kernel and init may take to clear away what has ended.
const DEADLINE: Duration = Duration::from_secs(5);

/// Processes, mounts, cgroups, network interfaces, named network namespaces and runtime files at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    pub fn take() -> Self {
        let mut lines = BTreeSet::new();
        lines.extend(processes());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        lines.extend(mounts.lines().map(|line| format!("mount {}", without_shared_options(line))));
        for hierarchy in cgroup_hierarchies() {
            folders("cgroup", &hierarchy, &mut lines);
        }
        for (kind, folder) in [
            ("interface", "/sys/class/net"),
            ("netns", "/run/netns"),
            ("shim socket", "/run/containerd/s"),
            ("cni result", "/var/lib/cni/results"),
            ("runc state", "/run/runc"),
        ] {
            let names = fs::read_dir(folder).into_iter().flatten().flatten();
            lines.extend(names.map(|entry| format!("{kind} {}", entry.path().display())));
        }
        Self(lines)
    }

    /// What is there now and was not there at this snapshot; empty when nothing is left over. Some things go a moment
    /// after their cause (init reaps orphans, the kernel tears network namespaces down), so this waits a little.
    pub fn leftovers(&self) -> Vec<String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left: Vec<String> = Self::take().0.difference(&self.0).cloned().collect();
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A mount's line without what every other mount of the same file system changes as well: whoever mounts cgroup2 for a
/// container takes the host's options of it away on old kernels, and does not bring them back.
fn without_shared_options(line: &str) -> &str {
    let (own, _) = line.split_once(" - cgroup2 ").unwrap_or((line, ""));
    own
}

/// Our descendants, zombies among them, and every process that has lost its parent: a leak is one or the other. The rest
/// of the machine is none of our business.
fn processes() -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Some((name, parent, start, is_zombie)) = stat(pid) else { continue };
        // What has ended and lost its parent waits for init, which here looks once a second.
        if (parent == 1 && !is_zombie) || descends_from(parent, std::process::id()) {
            found.push(format!("process {pid} {name} started at {start}"));
        }
    }
    found
}

fn descends_from(mut pid: u32, ancestor: u32) -> bool {
    while pid > 1 {
        if pid == ancestor {
            return true;
        }
        pid = stat(pid).map_or(0, |(_, parent, ..)| parent);
    }
    false
}

/// Name, parent, start time (clock ticks since boot), and whether it is a zombie, from `proc_pid_stat(5)`, fields 2, 4, 22 and 3.
fn stat(pid: u32) -> Option<(String, u32, String, bool)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let (name, start) = (head.split_once('(')?.1.to_owned(), (*fields.get(19)?).to_owned());
    Some((name, fields.get(1)?.parse().ok()?, start, *fields.first()? == "Z"))
}

fn folders(kind: &str, folder: &Path, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|file| file.is_dir()) {
            lines.insert(format!("{kind} {}", entry.path().display()));
            folders(kind, &entry.path(), lines);
        }
    }
}
