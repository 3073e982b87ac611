//! Which mounts the launcher is in, and with it whose programs commands are: its own or, where it is in a container, those of
//! the host. It reads its configuration in its own and is in the chosen ones at all other times, so that
//! template, view and run slots are made of those.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;

use nix::sched::{CloneFlags, setns};

use crate::config::{ProbeRoot, on_the_host};

/// Tied to the mount namespace that it is opened in; the kernel marks it with POLLPRI when the table changes (proc(5)).
const TABLE: &str = "/proc/self/mountinfo";

/// The number of the host's mount namespace, where this process was started in another one.
pub(super) fn hosts_mounts() -> Option<u64> {
    // It never changes, and to find it may take a look at all ancestors.
    static NUMBER: OnceLock<Option<u64>> = OnceLock::new();
    *NUMBER.get_or_init(|| {
        let process = on_the_host().ok()??;
        File::open(format!("/proc/{process}/ns/mnt")).ok()?.metadata().map(|about| about.ino()).ok()
    })
}

#[derive(Debug)]
pub(super) struct Roots {
    own: File,
    /// None where they are this process's own.
    host: Option<File>,
    current: ProbeRoot,
    table: File,
}

impl Roots {
    /// The caller must have a single thread.
    pub(super) fn open() -> io::Result<Self> {
        // Remembered while this process is at home.
        hosts_mounts();
        let own = File::open("/proc/self/ns/mnt")?;
        let host = on_the_host()?.map(|process| File::open(format!("/proc/{process}/ns/mnt"))).transpose()?;
        Ok(Self { own, host, current: ProbeRoot::Image, table: File::open(TABLE)? })
    }

    /// The mounts that commands are made of, to be polled for changes.
    pub(super) fn table(&self) -> BorrowedFd<'_> {
        self.table.as_fd()
    }

    pub(super) fn enter(&mut self, root: ProbeRoot) -> io::Result<()> {
        if let Some(host) = self.host.as_ref().filter(|_| root != self.current) {
            let wanted = if root == ProbeRoot::Host { host } else { &self.own };
            setns(wanted, CloneFlags::CLONE_NEWNS)?;
            self.current = root;
            self.table = File::open(TABLE)?;
        }
        Ok(())
    }

    /// Does something among the launcher's own files.
    pub(super) fn at_home<T>(&mut self, task: impl FnOnce() -> T) -> io::Result<T> {
        let current = self.current;
        self.enter(ProbeRoot::Image)?;
        let done = task();
        self.enter(current)?;
        Ok(done)
    }
}
