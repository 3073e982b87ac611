//! One command for a person at a terminal or a script: joined, outside the agent, with the person's own root rights.
//! Not for probes: those have no argv of their own and go through the launcher's socket.

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use rustix::termios::{Termios, Winsize};

use super::EnterError;
use crate::model::End;

/// The namespaces of a target that a command can join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Namespace {
    Pid,
    Net,
    Ipc,
    Uts,
    Cgroup,
    User,
    Mnt,
}

/// Whom a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Where a standard stream of the command leads.
#[derive(Debug)]
pub enum Stream {
    /// To this very file or pipe of the person's. Never a terminal: a process in the container could take it over.
    Direct(OwnedFd),
    /// To a pipe, whose other end is in [`Session`].
    Relayed,
    /// To `/dev/null`.
    Null,
}

/// How the command is connected.
#[derive(Debug)]
pub enum Stdio {
    /// A pseudo-terminal of its own, of this size.
    Terminal(Winsize),
    /// Three streams: in, out, err.
    Streams([Stream; 3]),
}

/// Everything that is decided before anything is started.
#[derive(Debug)]
pub struct SessionPlan {
    pub target: OwnedFd,
    pub namespaces: Vec<Namespace>,
    /// Tried in this order; the first that is there is executed.
    pub programs: Vec<CString>,
    pub argv: Vec<CString>,
    /// `KEY=VALUE` each.
    pub environment: Vec<CString>,
    pub workdir: PathBuf,
    pub user: Option<User>,
    /// Mount a fresh sysfs that shows the joined network namespace; without it the host's `/sys` stays.
    pub fresh_sys: bool,
    pub timeout: Option<Duration>,
    pub allow_unsafe_target: bool,
    /// Folder of a running agent's sockets.
    pub run_directory: PathBuf,
    pub stdio: Stdio,
    /// The person's terminal and its settings, put back by another process if this one is killed.
    pub restore: Option<(OwnedFd, Termios)>,
}

/// A running command. Dropping it, or dying, ends the command and all that it started.
#[derive(Debug)]
pub struct Session {
    /// The master of its terminal. Reading gives EIO once everything that had the terminal has gone.
    pub terminal: Option<OwnedFd>,
    /// The ends of its relayed streams. Dropping stdin is what its reader sees as the end of it.
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    guard: OwnedFd,
}

impl Session {
    /// Starts the command. The calling process must have a single thread.
    pub fn start(plan: SessionPlan) -> Result<Self, EnterError> {
        let _ = plan;
        Err(EnterError::TargetGone)
    }

    /// Readable when [`Session::end`] has something to say.
    pub fn watched(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.guard)
    }

    /// How it ended; None while it runs. Everything of it has gone when this says something (or is stuck).
    pub fn end(&mut self) -> Result<Option<End>, EnterError> {
        Ok(None)
    }

    /// Passes a signal on to the command itself, not to its children.
    pub fn signal(&self, signal: Signal) {
        let _ = signal;
    }

    /// Kills the command and all that it started; [`Session::end`] follows.
    pub fn cancel(&mut self) {}
}
