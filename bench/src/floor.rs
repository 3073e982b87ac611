//! What a joined run comes to where agent and launcher cost nothing (bench/floor.c): the floor that ours is told beside. It does
//! not enter as safely, and is no way to do it.

use std::io::{IoSlice, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::fcntl::OFlag;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, recv, sendmsg, setsockopt,
    shutdown, socketpair,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::Bench;

/// Seconds that a command of milliseconds may take.
const PATIENCE: i64 = 10;

/// The program's two processes, which take one command at a time.
#[derive(Debug)]
pub(crate) struct Floor {
    socket: OwnedFd,
    process: Child,
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It takes its cgroups with it, which it would leave if it were killed.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        let _ = self.process.wait();
    }
}

/// What is asked for besides the command, as in bench/floor.c.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// Nothing else is run at this moment.
    pub alone: bool,
    /// With the cgroups and looks that protect a joined command.
    pub guarded: bool,
}

impl Floor {
    /// So many, each for a thread of its own.
    pub(crate) fn start(bench: &Bench, count: usize) -> anyhow::Result<Vec<Self>> {
        // Of as little memory as it needs.
        let program = bench.compiled("floor", &["-static"])?;
        (0..count).map(|_| Self::start_one(&program)).collect()
    }

    fn start_one(program: &Path) -> anyhow::Result<Self> {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        Ok(Self { socket, process: Command::new(program).stdin(Stdio::from(theirs)).spawn()? })
    }

    /// Runs the command and reads what it prints.
    pub(crate) fn run(
        &self,
        container: BorrowedFd<'_>,
        words: &[&str],
        how: How,
    ) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let pipes = [nix::unistd::pipe2(OFlag::O_CLOEXEC)?, nix::unistd::pipe2(OFlag::O_CLOEXEC)?];
        let message = format!("{}{}\0", u8::from(how.alone) + 2 * u8::from(how.guarded), words.join("\0"));
        let fds = [container.as_raw_fd(), pipes[0].1.as_raw_fd(), pipes[1].1.as_raw_fd()];
        let beside = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(message.as_bytes())],
            &beside,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        let readers = pipes.map(|(read, _write)| read);
        let mut status = [0; 4];
        let got = recv(self.socket.as_raw_fd(), &mut status, MsgFlags::empty())?;
        let mut output = Vec::new();
        for read in readers {
            std::fs::File::from(read).read_to_end(&mut output)?;
        }
        let took = started.elapsed();
        ensure!((got, status) == (4, [0; 4]), "bench/floor.c answers {:?} for {words:?}", &status[..got]);
        Ok(took)
    }
}

/// What it comes to beside bare spawns, plain and guarded.
pub(crate) fn told([plain, guarded]: [f64; 2]) -> String {
    format!("; the steps alone (bench/floor.c): {plain:.2} ×, with what protects it: {guarded:.2} ×")
}
