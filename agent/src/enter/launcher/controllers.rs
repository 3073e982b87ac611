//! What limits a run: the memory, pids and cpu controllers of its cgroup. On cgroup v2 they are files of the slot's own
//! cgroup; on v1, also beside a v2 hierarchy without controllers, each has a hierarchy and a cgroup of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use agent_stub::LIMITING;

use super::slots::OBSERVERS;
use crate::config::RunLimits;
use crate::model::Limit;

/// Microseconds in which a run has its share of processor time (`cpu.max`, `cpu.cfs_period_us`), as the kernel and
/// Kubernetes have it by default.
const PERIOD: u64 = 100_000;
/// A run that was held back in fewer periods than this was slow for another reason: half a second.
const HELD_BACK: u64 = 5;

/// By writing 0 to it the command joins a v1 cgroup. By `cgroup.procs` it would, too; but the kernel then moves a whole
/// thread group and waits, now and then, until every processor has passed through RCU: 10 to 20 ms, in one run of
/// a hundred. A thread that moves itself needs no such wait (`cgroup_procs_write_start` in kernel/cgroup/cgroup.c, Linux 5.5).
pub(super) const JOINED_BY: &str = "tasks";
/// Files of counters are read up to this many bytes; they have some ten short lines.
const MAX_COUNTERS: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// A controller with the files of both versions (cgroups(7); Documentation/admin-guide/cgroup-v1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }

    /// Files and what is written to them, in order. The last is the one that counts: the others may be missing.
    fn settings(self, version: Version, limits: RunLimits) -> Vec<(&'static str, String)> {
        let (memory, pids) = (limits.memory.to_string(), limits.pids.to_string());
        let quota = (limits.cpu_millis * PERIOD / 1000).max(1000);
        match (self, version) {
            (Self::Memory, Version::V2) => vec![
                ("memory.swap.max", "0".into()),
                ("memory.oom.group", "1".into()),
                ("memory.max", memory),
            ],
            // Memory with swap may never be below memory alone, so that which one is written first depends on the last
            // run's limits.
            (Self::Memory, Version::V1) => vec![
                ("memory.memsw.limit_in_bytes", memory.clone()),
                ("memory.limit_in_bytes", memory.clone()),
                ("memory.memsw.limit_in_bytes", memory.clone()),
                ("memory.limit_in_bytes", memory),
            ],
            (Self::Pids, _) => vec![("pids.max", pids)],
            (Self::Cpu, Version::V2) => vec![("cpu.max", format!("{quota} {PERIOD}"))],
            (Self::Cpu, Version::V1) => {
                vec![("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota.to_string())]
            }
        }
    }

    /// File and field that counts how often the limit was met.
    fn counter(self, version: Version) -> (&'static str, &'static str) {
        match (self, version) {
            (Self::Memory, Version::V2) => ("memory.events", "oom_kill"),
            // Since Linux 4.13.
            (Self::Memory, Version::V1) => ("memory.oom_control", "oom_kill"),
            (Self::Pids, _) => ("pids.events", "max"),
            (Self::Cpu, _) => ("cpu.stat", "nr_throttled"),
        }
    }
}

/// The launcher's folder in the hierarchy of each controller that there is.
#[derive(Debug)]
pub(super) struct Controllers {
    own: Vec<(Controller, Version, PathBuf)>,
}

impl Controllers {
    /// Finds them, and makes the launcher's folder `below` each hierarchy's root after `sweep` has cleared what is beside
    /// it. A controller that is missing limits nothing; that is said once. On v2 the folder is there already, and in it that
    /// of the observers' slots.
    pub(super) fn find(unified: Option<&Path>, below: &Path, sweep: impl Fn(&Path)) -> Self {
        let innermost = below.join(OBSERVERS);
        let mut own = Vec::new();
        for controller in Controller::ALL {
            let name = controller.name();
            if let Some(root) = unified.filter(|root| enable(root, &innermost, name).is_ok()) {
                own.push((controller, Version::V2, root.join(below)));
                continue;
            }
            // Where systemd mounts them; cpu is mounted together with cpuacct and has a link.
            let root = Path::new("/sys/fs/cgroup").join(name);
            let folder = root.join(below);
            folder.parent().into_iter().for_each(&sweep);
            match fs::create_dir_all(&folder) {
                Ok(()) if root.join("cgroup.procs").exists() => own.push((controller, Version::V1, folder)),
                made => tracing::warn!(
                    controller = name, error = ?made.err(),
                    "no such cgroup controller can be used: runs are not limited in it"
                ),
            }
        }
        Self { own }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.own.iter().any(|(controller, _, _)| controller.name() == name)
    }

    /// Folders of their own, which are to be removed with the launcher's.
    pub(super) fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        self.own.iter().filter(|(_, version, _)| *version == Version::V1).map(|(_, _, folder)| folder)
    }

    /// What limits the slot of this name, whose own cgroup is at `slot`.
    pub(super) fn make(&self, slot: &Path, name: &str) -> Limited {
        let mut limited = Limited::default();
        for (controller, version, folder) in &self.own {
            let folder = if *version == Version::V2 { slot.to_owned() } else { folder.join(name) };
            match joinable(&folder, *version) {
                Ok(tasks) => limited.parts.push(Part {
                    controller: *controller,
                    version: *version,
                    tasks,
                    counter: fs::File::open(folder.join(controller.counter(*version).0)).ok(),
                    folder,
                }),
                Err(error) => {
                    tracing::warn!(path = %folder.display(), %error, "this run slot is not limited");
                }
            }
        }
        limited
    }
}

/// Makes a cgroup, if there is none, and opens what a command joins it by: nothing on v2, where it is born in the slot.
fn joinable(folder: &Path, version: Version) -> io::Result<Option<OwnedFd>> {
    fs::create_dir_all(folder)?;
    if version == Version::V2 {
        return Ok(None);
    }
    Ok(Some(fs::File::options().write(true).open(folder.join(JOINED_BY))?.into()))
}

/// Turns a controller on for what is in this folder and in those above it (`cgroup.subtree_control`).
fn enable(root: &Path, below: &Path, name: &str) -> io::Result<()> {
    let available = fs::read_to_string(root.join("cgroup.controllers"))?;
    if !available.split_whitespace().any(|controller| controller == name) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut folder = root.to_owned();
    fs::write(folder.join("cgroup.subtree_control"), format!("+{name}"))?;
    for part in below.components() {
        folder.push(part);
        fs::write(folder.join("cgroup.subtree_control"), format!("+{name}"))?;
    }
    Ok(())
}

/// The limits of one slot.
#[derive(Debug, Default)]
pub(super) struct Limited {
    parts: Vec<Part>,
    set: Option<RunLimits>,
    /// What the counters said last, by their files.
    counted: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Part {
    controller: Controller,
    version: Version,
    folder: PathBuf,
    /// [`JOINED_BY`] of a cgroup of its own, which the command joins.
    tasks: Option<OwnedFd>,
    /// What counts how often the limit was met; open, because it is read after each run.
    counter: Option<fs::File>,
}

impl Limited {
    pub(super) fn joined(&self) -> [Option<BorrowedFd<'_>>; LIMITING] {
        let mut all = [None; LIMITING];
        let tasks = self.parts.iter().filter_map(|part| part.tasks.as_ref());
        for (place, tasks) in all.iter_mut().zip(tasks) {
            *place = Some(tasks.as_fd());
        }
        all
    }

    pub(super) fn set(&mut self, limits: RunLimits) {
        if self.set.replace(limits) == Some(limits) {
            return;
        }
        for part in &self.parts {
            let mut last = Ok(());
            for (file, text) in part.controller.settings(part.version, limits) {
                last = fs::write(part.folder.join(file), text);
            }
            if let Err(error) = last {
                tracing::warn!(path = %part.folder.display(), %error, "a limit of a run could not be set");
            }
        }
    }

    /// What has been met since it was asked last: a limit that costs a process, and whether time was short.
    pub(super) fn reached(&mut self) -> (Option<Limit>, bool) {
        let (mut reached, mut held_back) = (None, false);
        for part in &self.parts {
            let (file, field) = part.controller.counter(part.version);
            let mut bytes = [0; MAX_COUNTERS];
            let read = part.counter.as_ref().and_then(|open| open.read_at(&mut bytes, 0).ok()).unwrap_or(0);
            let now = counter(&String::from_utf8_lossy(bytes.get(..read).unwrap_or_default()), field);
            let met = now.saturating_sub(self.counted.insert(file, now).unwrap_or(0));
            match part.controller {
                Controller::Memory if met > 0 => reached = Some(Limit::Memory),
                Controller::Pids if met > 0 => reached = reached.or(Some(Limit::Pids)),
                Controller::Cpu => held_back = met >= HELD_BACK,
                Controller::Memory | Controller::Pids => {}
            }
        }
        (reached, held_back)
    }

    /// Folders of its own.
    pub(super) fn into_folders(self) -> impl Iterator<Item = PathBuf> {
        self.parts.into_iter().filter(|part| part.tasks.is_some()).map(|part| part.folder)
    }
}

fn counter(text: &str, field: &str) -> u64 {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(name, _)| *name == field).find_map(|(_, count)| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v2_slot_is_limited_without_a_file_to_join_it_by() {
        let dir = tempfile::tempdir().unwrap();
        let controllers = Controllers {
            own: Controller::ALL.map(|one| (one, Version::V2, dir.path().to_owned())).to_vec(),
        };
        let slot = dir.path().join("slot-0");
        let mut limited = controllers.make(&slot, "slot-0");
        assert!(limited.joined().iter().all(Option::is_none), "nothing is joined after the clone");
        limited.set(RunLimits { memory: 1 << 20, pids: 7, cpu_millis: 250 });
        for (file, text) in [("memory.max", "1048576"), ("pids.max", "7"), ("cpu.max", "25000 100000")] {
            assert_eq!(fs::read_to_string(slot.join(file)).unwrap(), text, "{file}");
        }
        fs::write(slot.join("memory.events"), "oom_kill 1\n").unwrap();
        fs::write(slot.join("pids.events"), "max 0\n").unwrap();
        let mut limited = controllers.make(&slot, "slot-0");
        assert_eq!(limited.reached(), (Some(Limit::Memory), false));
    }

    #[test]
    fn counters_are_read_from_what_the_kernel_writes() {
        let v2 = "low 0\nhigh 0\nmax 12\noom 1\noom_kill 3\noom_group_kill 1\n";
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        assert_eq!((counter(v2, "oom_kill"), counter(v1, "oom_kill")), (3, 2));
        assert_eq!(counter("max 7\n", "max"), 7);
        assert_eq!(counter("nr_periods 9\nnr_throttled 5\nthrottled_time 1\n", "nr_throttled"), 5);
        assert_eq!(counter("", "max"), 0);
    }

    #[test]
    fn limits_are_written_as_the_kernel_wants_them() {
        let limits = RunLimits { memory: 1 << 20, pids: 7, cpu_millis: 250 };
        let cpu = |version| Controller::Cpu.settings(version, limits).pop();
        assert_eq!(cpu(Version::V2), Some(("cpu.max", "25000 100000".into())));
        assert_eq!(cpu(Version::V1), Some(("cpu.cfs_quota_us", "25000".into())));
        assert_eq!(Controller::Pids.settings(Version::V1, limits), [("pids.max", "7".into())]);
        let memory = Controller::Memory.settings(Version::V2, limits).pop();
        assert_eq!(memory, Some(("memory.max", "1048576".into())));
    }
}
