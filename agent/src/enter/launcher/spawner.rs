//! The launcher's hand: a process of the small program that forks stubs (`agent-stub`). It is started once, outside of all
//! containers, so that neither this process's memory nor its program is ever in sight of one.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use agent_stub::{MOST_FDS, Order, RECORD};
use rustix::cmsg_space;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown,
    socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::inspect::signal;

/// Made by build.rs for this machine, without a C library of its own to load.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/parachute-stub"));

/// A fork takes a fraction of a millisecond. A launcher that waits much longer than this is itself taken for dead.
const DEADLINE: Duration = Duration::from_millis(800);

/// Why there is no stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// One of [`agent_stub::Step`].
    pub(super) step: i32,
    pub(super) errno: i32,
}

/// It ends with this, stopped or not, and the kernel reaps it.
#[derive(Debug)]
pub(in crate::enter) struct Spawner {
    socket: OwnedFd,
    process: OwnedFd,
}

impl Drop for Spawner {
    fn drop(&mut self) {
        signal(self.process.as_fd(), Signal::KILL);
    }
}

impl Spawner {
    pub(in crate::enter) fn start() -> io::Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        for which in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&ours, which, Some(DEADLINE))?;
        }
        let program = program()?;
        // By its descriptor, which is still open when the path is looked up and closes by itself.
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command.env_clear().stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self { socket: ours, process })
    }

    /// Readable when the process has gone.
    pub(super) fn watched(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Has a stub forked; gives back its pidfd. After an error it is of no use any more, and [`Spawner::watched`] says so: a
    /// late answer would be taken for the next one.
    pub(super) fn spawn(&self, order: &Order<'_>) -> io::Result<Result<OwnedFd, Failed>> {
        self.ask(order).inspect_err(|_| {
            let _ = shutdown(&self.socket, Shutdown::Both);
        })
    }

    /// Asks for a sign of life; any answer to an order that is none will do.
    pub(super) fn ping(&self) -> io::Result<()> {
        sendmsg(
            &self.socket,
            &[IoSlice::new(&[0])],
            &mut SendAncillaryBuffer::default(),
            SendFlags::NOSIGNAL,
        )?;
        self.answer().map(|_| ())
    }

    fn ask(&self, order: &Order<'_>) -> io::Result<Result<OwnedFd, Failed>> {
        let (bytes, fds) = order.write();
        let mut file = File::from(memfd_create("parachute-order", MemfdFlags::CLOEXEC)?);
        file.write_all(&bytes)?;
        let fds: Vec<_> = std::iter::once(file.as_fd()).chain(fds).collect();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_FDS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !beside.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.socket, &[IoSlice::new(&[0])], &mut beside, SendFlags::NOSIGNAL)?;
        self.answer()
    }

    fn answer(&self) -> io::Result<Result<OwnedFd, Failed>> {
        let mut record = [0; RECORD];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            let received = recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut record)],
                &mut beside,
                RecvFlags::CMSG_CLOEXEC,
            );
            match received {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?.bytes,
            }
        };
        if got != RECORD {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let stub = beside.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let [step, errno] = super::run::record_of(record);
        Ok(stub.ok_or(Failed { step, errno }))
    }
}

/// The program as a file that has no name and that nobody can change any more (memfd_create(2), "File sealing"): a
/// container that could reach it through `/proc/PID/exe` finds nothing to write to (CVE-2019-5736).
fn program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = match memfd_create("parachute-stub", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every such file can be executed, and the flag is not known.
        Err(rustix::io::Errno::INVAL) => memfd_create("parachute-stub", flags),
        made => made,
    };
    let refused = |error: rustix::io::Errno| {
        let hint = if error == rustix::io::Errno::ACCESS { "; vm.memfd_noexec must not be 2" } else { "" };
        io::Error::other(format!("a file for the stub's program: {error}{hint}"))
    };
    let mut file = File::from(made.map_err(refused)?);
    file.write_all(PROGRAM)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}
