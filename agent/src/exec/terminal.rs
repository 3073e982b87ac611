//! The person's own terminal: its settings, its size, raw while a command has a pseudo-terminal. It is never handed in.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr};

/// Put back to what it was when this is dropped, also on the way out of a panic.
#[derive(Debug)]
pub struct Terminal {
    input: OwnedFd,
    before: Termios,
}

impl Terminal {
    /// The terminal on standard input.
    pub fn open() -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&input)?;
        Ok(Self { input, before })
    }

    /// What another process needs to put it back, if this one is killed.
    pub fn backup(&self) -> io::Result<(OwnedFd, Termios)> {
        Ok((self.input.try_clone()?, self.before.clone()))
    }

    pub fn size(&self) -> io::Result<Winsize> {
        Ok(tcgetwinsize(&self.input)?)
    }

    /// Every key becomes a byte, Ctrl-C too: the pseudo-terminal makes signals of them.
    pub fn make_raw(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(&self.input, OptionalActions::Drain, &raw)?;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that has hung up has no settings any more.
        let _ = tcsetattr(&self.input, OptionalActions::Drain, &self.before);
    }
}
