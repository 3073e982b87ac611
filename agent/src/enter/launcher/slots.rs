//! Run slots: one cgroup each, made at start and used again, so that a run makes none and the exec tracepoint meets no
//! new one. A cgroup names every process of a run whatever it forks, and kills them all at once.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::super::mountinfo::{Mount, mounts};
use super::controllers::{Controllers, JOINED_BY, Limited};
use super::devices::Rule;
use super::inspect::{START_TICKS, stat_field};
use crate::config::RunLimits;
use crate::model::Limit;

/// Folder of this program below the hierarchy's root; below it one folder per launcher.
const FOLDER: &str = "parachute";
/// Folder of the slots for observers, below a launcher's: one rule holds for all of them.
pub(super) const OBSERVERS: &str = "observers";
/// Where systemd mounts cgroup2, by itself or beside v1 (systemd's docs/CGROUP_DELEGATION.md).
const USUAL: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// `CGROUP2_SUPER_MAGIC` (linux/magic.h).
const CGROUP2: i64 = 0x6367_7270;
/// What a killed process may take to leave its cgroup at shutdown.
const EMPTY_DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub(in crate::enter) enum SlotError {
    #[error("no cgroup hierarchy is mounted; mount cgroup2 on /sys/fs/cgroup")]
    NoHierarchy,
    #[error("{path}: {source}; runs need a writable cgroup hierarchy so that nothing outlives them")]
    Cgroup { path: PathBuf, source: io::Error },
}

/// All slots of one launcher. Dropping it kills what is in them and removes them.
#[derive(Debug)]
pub(in crate::enter) struct Slots {
    folder: PathBuf,
    /// For all runs but observers.
    free: Vec<Slot>,
    free_observers: Vec<Slot>,
    /// cgroup2.
    unified: bool,
    /// Whether a command is made in its slot, and need not join it.
    born_in: bool,
    made: usize,
    /// Folders that could not be removed yet, because something in them had not gone.
    given_up: Vec<PathBuf>,
    /// Where runs are limited; `None` for a person's command, which is not.
    controllers: Option<Controllers>,
    /// Which devices observers may open, if that can be ruled.
    rule: Option<Rule>,
}

#[derive(Debug)]
pub(super) struct Slot {
    path: PathBuf,
    /// For observers alone, or for others alone.
    observers: bool,
    /// The cgroup's folder, for `CLONE_INTO_CGROUP`.
    folder: OwnedFd,
    /// `cgroup.procs`, to see whether it is empty, or [`JOINED_BY`] of cgroup v1.
    procs: fs::File,
    unified: bool,
    /// `cgroup.kill` (Linux 5.14), where there is one.
    kill: Option<OwnedFd>,
    limited: Limited,
}

impl Slots {
    /// Makes `count` slots in the cgroup2 hierarchy, or in a v1 one where that is what there is. With `limited` each of
    /// them has its limits, too, and they are observers': most probes are, and a joined one's is made when it is needed.
    pub(in crate::enter) fn create(count: usize, limited: bool) -> Result<Self, SlotError> {
        let usual = USUAL.iter().find(|path| is_whole_cgroup2(path)).map(|path| (PathBuf::from(path), true));
        // The kernel writes the table anew for each reader: milliseconds where there are thousands of mounts.
        let look = || hierarchy(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        let (root, unified) = usual.or_else(look).ok_or(SlotError::NoHierarchy)?;
        let ours = root.join(FOLDER);
        sweep(&ours);
        // Pid and start time: a later launcher can tell whether this one still lives.
        let name = format!("{}-{}", std::process::id(), start_ticks("self").unwrap_or(0));
        let folder = ours.join(&name);
        let observers = folder.join(OBSERVERS);
        let inner = if limited { &observers } else { &folder };
        fs::create_dir_all(inner).map_err(|source| SlotError::Cgroup { path: inner.clone(), source })?;
        let below = Path::new(FOLDER).join(name);
        let controllers =
            limited.then(|| Controllers::find(unified.then_some(root.as_path()), &below, sweep));
        let mut slots = Self {
            free: Vec::new(),
            free_observers: Vec::new(),
            rule: limited.then(|| rule(&observers, unified)).flatten(),
            folder,
            unified,
            born_in: unified && agent_stub::has_clone_into_cgroup(),
            made: 0,
            given_up: Vec::new(),
            controllers,
        };
        for _ in 0..count {
            let slot = slots.make(limited)?;
            slots.free_of(limited).push(slot);
        }
        Ok(slots)
    }

    pub(super) fn born_in(&self) -> bool {
        self.born_in
    }

    /// Whether the kernel kills all of a slot at once. Of a v1 hierarchy it never does.
    pub(in crate::enter) fn has_kill(&self) -> bool {
        fs::File::options().write(true).open(self.folder.join("cgroup.kill")).is_ok()
    }

    /// Whether it is a program of this one's that keeps observers from devices.
    pub(in crate::enter) fn has_device_program(&self) -> bool {
        matches!(self.rule, Some(Rule::Program { .. }))
    }

    /// Whether runs are limited by this controller.
    pub(in crate::enter) fn limits(&self, controller: &str) -> bool {
        self.controllers.as_ref().is_some_and(|controllers| controllers.has(controller))
    }

    /// A free slot. A stuck run keeps its own, so a new one is made in its place; the agent bounds how many.
    pub(super) fn take(&mut self, observer: bool) -> Result<Slot, SlotError> {
        match self.free_of(observer).pop() {
            Some(slot) => Ok(slot),
            None => self.make(observer),
        }
    }

    fn free_of(&mut self, observers: bool) -> &mut Vec<Slot> {
        if observers { &mut self.free_observers } else { &mut self.free }
    }

    /// Takes a slot back, to be used again if nothing in it was killed. A cgroup that was killed once is given up: from
    /// Linux 6.14 on its kill sequence differs from that of the stub's own cgroup, and clone3(CLONE_INTO_CGROUP)
    /// takes that for a kill in flight and kills the new process at once (seen on 6.18).
    pub(super) fn give_back(&mut self, slot: Slot, clean: bool) {
        if clean && slot.is_empty() {
            self.free_of(slot.observers).push(slot);
            return;
        }
        slot.kill_all();
        // One that is not empty yet is tried again with the next.
        let Slot { path, limited, .. } = slot;
        self.given_up.extend(std::iter::once(path).chain(limited.into_folders()));
        self.given_up.retain(|path| {
            // Without cgroup.kill a child that was forked during the last kill is still there.
            kill_cgroup(path);
            fs::remove_dir(path).is_err()
        });
    }

    fn make(&mut self, observers: bool) -> Result<Slot, SlotError> {
        let name = format!("slot-{}", self.made);
        let folder = if observers { &self.folder.join(OBSERVERS) } else { &self.folder };
        let path = folder.join(&name);
        self.made += 1;
        let limited = self.controllers.as_ref().map(|controllers| controllers.make(&path, &name));
        Slot::create(&path, observers, self.unified, limited.unwrap_or_default())
            .map_err(|source| SlotError::Cgroup { path, source })
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.free.clear();
        self.free_observers.clear();
        for folder in self.controllers.iter().flat_map(Controllers::folders).chain([&self.folder]) {
            remove_tree(folder);
            // The parent stays while another launcher is in it.
            let _ = folder.parent().map(fs::remove_dir);
        }
    }
}

impl Slot {
    fn create(path: &Path, observers: bool, unified: bool, limited: Limited) -> io::Result<Self> {
        fs::create_dir(path).or_else(|e| if path.is_dir() { Ok(()) } else { Err(e) })?;
        let open =
            |name: &str, flags: OFlags| openat(CWD, path.join(name), flags | OFlags::CLOEXEC, Mode::empty());
        Ok(Self {
            folder: openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?,
            procs: open(if unified { "cgroup.procs" } else { JOINED_BY }, OFlags::RDWR)?.into(),
            unified,
            kill: open("cgroup.kill", OFlags::WRONLY).ok(),
            path: path.to_owned(),
            observers,
            limited,
        })
    }

    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
    pub(super) fn procs(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }
    pub(super) fn kill(&self) -> Option<BorrowedFd<'_>> {
        self.kill.as_ref().map(AsFd::as_fd)
    }

    /// [`JOINED_BY`] of the cgroups that limit the run, where those are others.
    pub(super) fn limiting(&self) -> [Option<BorrowedFd<'_>>; agent_stub::LIMITING] {
        self.limited.joined()
    }

    /// Sets what the next run may use.
    pub(super) fn limit(&mut self, limits: RunLimits) {
        self.limited.set(limits);
    }

    /// Which limit the run has reached, and whether it was held back for most of its time.
    pub(super) fn reached(&mut self) -> (Option<Limit>, bool) {
        self.limited.reached()
    }

    pub(super) fn is_empty(&self) -> bool {
        if self.unified {
            return self.procs.read_at(&mut [0], 0).is_ok_and(|read| read == 0);
        }
        // cgroup v1 keeps the list of an open file as it was.
        fs::read_to_string(self.path.join("cgroup.procs")).is_ok_and(|procs| procs.is_empty())
    }

    /// Kills everything in the slot, once; who forks in between is met by the next call.
    pub(super) fn kill_all(&self) {
        kill_cgroup(&self.path);
    }
}

/// Without a rule observers go on as they were before there was one, which is said once.
fn rule(observers: &Path, unified: bool) -> Option<Rule> {
    let placed = Rule::place(observers, unified);
    placed
        .inspect_err(|error| {
            tracing::warn!(
                %error,
                "no device rule can be put in place: an observer's command that opens a path of its container's can be led \
                 to any device of the host's"
            );
        })
        .ok()
}

/// By what observers are kept from devices, for the doctor. None if they are not, and a warning says why.
pub fn device_rule() -> Result<Option<String>, String> {
    let slots = Slots::create(0, true).map_err(|error| error.to_string())?;
    Ok(slots.rule.as_ref().map(ToString::to_string))
}

/// Every cgroup but the root of all has a type (cgroups(7), `cgroup.type`): a part of the tree, as a cgroup namespace shows
/// it, has one at its top.
fn is_whole_cgroup2(path: &str) -> bool {
    rustix::fs::statfs(path).is_ok_and(|about| about.f_type == CGROUP2)
        && !Path::new(path).join("cgroup.type").exists()
}

/// The cgroup2 mount if there is one, else a v1 hierarchy, as (mount point, is cgroup2).
fn hierarchy(mountinfo: &str) -> Option<(PathBuf, bool)> {
    // A cgroup namespace or a bind mount shows a part of the tree only; the whole one has root `/`.
    let whole = || mounts(mountinfo).filter(|mount| mount.root == "/");
    let unified = whole().find(|mount| mount.kind == "cgroup2").map(|mount| (mount.point, true));
    // Where there is the devices controller, observers' slots need no other cgroup for their rule. The freezer exists on
    // every v1 host. Neither limits anything by itself.
    let v1 = |controller: &str| {
        let is_it = |mount: &Mount<'_>| mount.kind == "cgroup" && mount.point.ends_with(controller);
        whole().find(is_it).map(|mount| (mount.point, false))
    };
    unified.or_else(|| v1("devices")).or_else(|| v1("freezer"))
}

/// As the listing says: a folder of a cgroup has some twenty files, and a look at each takes a system call.
fn is_folder(entry: &fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// Removes what launchers left behind that were killed together with their agent.
fn sweep(ours: &Path) {
    // Beside the launchers' folders are the files of the cgroup itself.
    for entry in fs::read_dir(ours).into_iter().flatten().flatten().filter(is_folder) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let lives = name
            .split_once('-')
            .is_some_and(|(pid, ticks)| start_ticks(pid).is_some_and(|now| ticks.parse() == Ok(now)));
        if !lives {
            remove_tree(&entry.path());
        }
    }
}

/// Kills and removes a launcher's folder with all its slots.
fn remove_tree(folder: &Path) {
    // One deadline for all: many slots with a process in D state must not keep the next launcher from starting.
    remove_below(folder, Instant::now() + EMPTY_DEADLINE);
    if let Err(error) = fs::remove_dir(folder) {
        tracing::warn!(path = %folder.display(), %error, "a cgroup of a finished launcher could not be removed");
    }
}

fn remove_below(folder: &Path, deadline: Instant) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(is_folder) {
        remove_below(&entry.path(), deadline);
        kill_cgroup(&entry.path());
        // rmdir succeeds once the last process has left, which no event tells on every kernel that is supported.
        while fs::remove_dir(entry.path()).is_err_and(|e| e.raw_os_error() == Some(libc::EBUSY))
            && Instant::now() < deadline
        {
            kill_cgroup(&entry.path());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn kill_cgroup(path: &Path) {
    if fs::write(path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for pid in fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default().lines() {
        // The pid was read from the cgroup just now; it is in it as long as it is not reaped, and only its own
        // parent can reap it. A pid is used here because a cgroup offers nothing else before Linux 5.14.
        if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Start time of a process in clock ticks since boot.
fn start_ticks(pid: &str) -> Option<u64> {
    stat_field(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, START_TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_cgroup_kill_all_are_killed_one_by_one() {
        use std::os::unix::process::ExitStatusExt as _;
        let folder = tempfile::tempdir().unwrap();
        // A folder that looks like a cgroup, and whose `cgroup.kill` takes nothing.
        fs::create_dir(folder.path().join("cgroup.kill")).unwrap();
        let sleep = || std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let mut children = [sleep(), sleep()];
        let procs = children.each_ref().map(|child| child.id().to_string()).join("\n");
        fs::write(folder.path().join("cgroup.procs"), procs).unwrap();
        kill_cgroup(folder.path());
        for child in &mut children {
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        }
    }

    #[test]
    fn the_unified_hierarchy_is_preferred_and_devices_are_next() {
        let v2 = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let v1 = "31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  32 24 0:28 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer";
        let unified = "33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let part = "34 24 0:29 /kubepods/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(hierarchy(v2), Some(("/sys/fs/cgroup".into(), true)));
        assert_eq!(hierarchy(v1), Some(("/sys/fs/cgroup/freezer".into(), false)));
        let devices = format!("{v1}\n34 24 0:30 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices");
        assert_eq!(hierarchy(&devices), Some(("/sys/fs/cgroup/devices".into(), false)));
        assert_eq!(hierarchy(&format!("{v1}\n{unified}")), Some(("/sys/fs/cgroup/unified".into(), true)));
        assert_eq!(hierarchy(part), None);
    }
}
