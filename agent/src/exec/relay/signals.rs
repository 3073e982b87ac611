//! The signals of the foreground process, read as data between other things (signalfd(2)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::Signal;

/// What a person, a shell or a supervisor sends. SIGTSTP, SIGTTIN and SIGTTOU stop this process as they stop any other.
const TAKEN: [Number; 9] = [
    Number::SIGHUP,
    Number::SIGINT,
    Number::SIGQUIT,
    Number::SIGTERM,
    Number::SIGUSR1,
    Number::SIGUSR2,
    Number::SIGALRM,
    Number::SIGCONT,
    Number::SIGWINCH,
];

#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// From here on they wait to be read. To be called before a command is started, so that none is lost.
    pub fn block() -> io::Result<Self> {
        let set = SigSet::from_iter(TAKEN);
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Those that have come.
    pub fn read(&self) -> Vec<Signal> {
        let mut come = Vec::new();
        while let Ok(Some(info)) = self.0.read_signal() {
            come.extend(i32::try_from(info.ssi_signo).ok().and_then(Signal::from_named_raw));
        }
        come
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
