//! Which mounts the launcher is in, and with it whose programs commands are: its own or, where it is in a container, those of
//! the host's first process. It reads its configuration in its own and is in the chosen ones at all other times, so that
//! template, view and run slots are made of those.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;

use nix::sched::{CloneFlags, setns};

use crate::config::ProbeRoot;

/// Tied to the mount namespace that it is opened in; the kernel marks it with POLLPRI when the table changes (proc(5)).
const TABLE: &str = "/proc/self/mountinfo";

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
        let own = File::open("/proc/self/ns/mnt")?;
        // In a pid namespace of its own the first process is one of its container, or has no namespace that may be opened.
        let host = File::open("/proc/1/ns/mnt").ok();
        let number = |file: &File| file.metadata().map(|about| about.ino()).ok();
        let host = host.filter(|host| number(host) != number(&own));
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
