//! The keeper: starts a launcher, and another one whenever there is none. It stands between agent and launcher because the
//! agent has given up the rights that a launcher is started with. It takes nothing from the agent but the order to kill a
//! launcher that hangs, and starts it with the arguments that it was started with itself. One that is stopped it kills by
//! itself: the agent notices only one that it waits for.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::kept::SILENCE;
use super::protocol::{receive, send};

/// After a life of less than this the next one begins after a pause. All together is less than the 2 s within which there
/// is to be another launcher.
const SOUND: Duration = Duration::from_secs(1);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A launcher whose agent has gone ends its runs and itself within this.
const LEAVE_DEADLINE: Duration = Duration::from_secs(10);

/// To the agent, with one fd: the socket of a launcher that has just been started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handed {
    /// The one before was stopped, and the keeper has killed it.
    pub(super) hung: bool,
}

/// From the agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    Kill,
}

/// Keeps launchers until the other end of `control` closes; `arguments` are those of `parachute launcher`.
pub fn keep(control: &OwnedFd, arguments: &[OsString]) -> io::Result<()> {
    let mut pause = Pause::default();
    let children = SignalFd::with_flags(
        &SigSet::from_iter([Signal::SIGCHLD]),
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?;
    let mut hung = false;
    loop {
        let (theirs, own) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let started = Instant::now();
        let mut command = Command::new("/proc/self/exe");
        command.arg("launcher").args(arguments).stdin(Stdio::from(own)).stdout(Stdio::null());
        let mut child = command.spawn()?;
        // This process's copies of the launcher's end go with the command.
        drop(command);
        if send(control.as_fd(), &Handed { hung }, &[theirs.as_fd()]).is_err() {
            drop(theirs);
            return leave(child);
        }
        drop(theirs);
        match watch_over(control, &mut child, &children)? {
            Over::AgentGone => return leave(child),
            Over::Ended { stopped } => hung = stopped,
        }
        let status = child.wait()?;
        let length = pause.after(started.elapsed());
        tracing::error!(%status, ?length, "the launcher has ended; another one is started");
        if !rest(control, length)? {
            return Ok(());
        }
    }
}

/// What the watch over a launcher came to.
enum Over {
    Ended {
        /// It was killed because it was stopped.
        stopped: bool,
    },
    AgentGone,
}

/// Waits for the end of the launcher, or of the agent.
fn watch_over(control: &OwnedFd, child: &mut Child, children: &SignalFd) -> io::Result<Over> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut stopped_at: Option<Instant> = None;
    let mut stopped = false;
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(children.as_fd(), PollFlags::IN),
        ];
        let left = stopped_at.map(|at| (at + SILENCE).saturating_duration_since(Instant::now()));
        match poll(&mut fds, left.and_then(|left| Timespec::try_from(left).ok()).as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [asked, ended, changed] = fds.map(|fd| !fd.revents().is_empty());
        if ended {
            return Ok(Over::Ended { stopped });
        }
        if changed {
            // One signal may stand for several: what has become of the child is asked for itself.
            while children.read_signal()?.is_some() {}
            stopped_at =
                is_stopped(&pidfd, stopped_at.is_some()).then_some(stopped_at.unwrap_or(Instant::now()));
        }
        if !stopped && stopped_at.is_some_and(|at| at.elapsed() >= SILENCE) {
            tracing::error!(silence = ?SILENCE, "the launcher is stopped and is killed");
            (stopped, stopped_at) = (true, None);
            child.kill()?;
        }
        if asked {
            match receive::<Order>(control.as_fd()) {
                Ok(Some((Order::Kill, _))) => child.kill()?,
                Ok(None) | Err(_) => return Ok(Over::AgentGone),
            }
        }
    }
}

/// Whether it is stopped now, as far as the kernel has said more than was known.
fn is_stopped(child: &OwnedFd, mut known: bool) -> bool {
    let news = WaitPidFlag::WSTOPPED | WaitPidFlag::WCONTINUED | WaitPidFlag::WNOHANG;
    loop {
        match waitid(Id::PIDFd(child.as_fd()), news) {
            Ok(WaitStatus::Stopped(..)) => known = true,
            Ok(WaitStatus::Continued(_)) => known = false,
            _ => return known,
        }
    }
}

/// Sees the launcher out, which has noticed by its own socket that the agent has gone.
fn leave(mut child: Child) -> io::Result<()> {
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    let deadline = Timespec::try_from(LEAVE_DEADLINE).ok();
    if !matches!(poll(&mut fds, deadline.as_ref()), Ok(1..)) {
        child.kill()?;
    }
    child.wait().map(|_| ())
}

/// False if the agent goes in the meantime. An order to kill means one that has gone already.
fn rest(control: &OwnedFd, length: Duration) -> io::Result<bool> {
    let end = Instant::now() + length;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => return Ok(true),
            Ok(_) if matches!(receive::<Order>(control.as_fd()), Ok(None) | Err(_)) => return Ok(false),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// How long to wait before the next start: not at all after a sound life, longer and longer after short ones.
#[derive(Debug, Default)]
struct Pause {
    short_lives: u32,
}

impl Pause {
    fn after(&mut self, life: Duration) -> Duration {
        if life >= SOUND {
            self.short_lives = 0;
            return Duration::ZERO;
        }
        let length = SHORTEST_PAUSE.saturating_mul(1 << self.short_lives.min(16)).min(LONGEST_PAUSE);
        self.short_lives += 1;
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lives_make_it_wait_longer_and_a_sound_one_ends_that() {
        let mut pause = Pause::default();
        let lengths: Vec<_> = [0, 1, 999, 9, 9, 9, 9, 1000, 0]
            .map(|ms| pause.after(Duration::from_millis(ms)).as_millis())
            .into();
        assert_eq!(lengths, [50, 100, 200, 400, 800, 1000, 1000, 0, 50]);
    }
}
