//! The launcher's hands: processes of the small program that makes stubs (`agent-stub`). They are started outside of all
//! containers, so that neither this process's memory nor its program is ever in sight of one.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use agent_stub::{ALIVE, ASKS, MOST_FDS, MOST_INLINE, Order, PING, RECORD};
use rustix::cmsg_space;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::inspect::{PARENT, signal, stat_field};

/// Made by build.rs for this machine, without a C library of its own to load.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/parachute-stub"));

/// An order is taken at once, and so is a ping. A launcher that waits much longer than this is itself taken for dead.
const DEADLINE: Duration = Duration::from_millis(800);

/// The spawners that have nothing to do. While a run goes on it has one to itself.
#[derive(Debug)]
pub(super) struct Spawners {
    program: OwnedFd,
    free: Vec<Spawner>,
}

impl Spawners {
    /// With one that is ready.
    pub(super) fn start() -> io::Result<Self> {
        let program = program()?;
        let free = vec![Spawner::start(&program)?];
        Ok(Self { program, free })
    }

    pub(super) fn take(&mut self) -> io::Result<Spawner> {
        self.free.pop().map_or_else(|| Spawner::start(&self.program), Ok)
    }

    pub(super) fn give_back(&mut self, spawner: Spawner) {
        self.free.push(spawner);
    }

    /// As many as ran at once are kept as long as anything runs; then one, which is started anew if the last one was given up.
    pub(super) fn trim(&mut self) {
        self.free.truncate(1);
        if self.free.is_empty() {
            // The next run tries again, and says it if it fails once more.
            self.free.extend(Spawner::start(&self.program));
        }
    }

    /// Their sockets: what can be read there without an order is the end of one of them.
    pub(super) fn watched(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.free.iter().map(|spawner| spawner.socket.as_fd())
    }

    /// Asks one that has nothing to do for a sign of life.
    pub(super) fn ping(&self) -> io::Result<()> {
        let Some(spawner) = self.free.first() else { return Ok(()) };
        let nothing = &mut SendAncillaryBuffer::default();
        sendmsg(&spawner.socket, &[IoSlice::new(&[PING])], nothing, SendFlags::NOSIGNAL)?;
        match spawner.heard(RecvFlags::empty())? {
            Some(Heard::Record([ALIVE, _])) => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// What a spawner, or its stub, has said.
#[derive(Debug)]
pub(super) enum Heard {
    Record([i32; 2]),
    /// Whether this neighbour is a process of another run; the stub waits for [`OURS`](agent_stub::OURS) or
    /// [`END`](agent_stub::END).
    /// None where there was no room for its descriptor.
    Asks(Option<OwnedFd>),
}

/// It ends with this, stopped or not, and the kernel reaps it. A run that goes on ends itself then.
#[derive(Debug)]
pub(super) struct Spawner {
    socket: OwnedFd,
    process: OwnedFd,
    pid: i32,
}

impl Drop for Spawner {
    fn drop(&mut self) {
        signal(self.process.as_fd(), Signal::KILL);
    }
}

impl Spawner {
    fn start(program: &OwnedFd) -> io::Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        for which in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&ours, which, Some(DEADLINE))?;
        }
        // By its descriptor, which is still open when the path is looked up and closes by itself.
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command.env_clear().stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = Pid::from_child(&command.spawn()?);
        let process = pidfd_open(child, PidfdFlags::empty())?;
        Ok(Self { socket: ours, process, pid: child.as_raw_nonzero().get() })
    }

    /// Readable when the process has gone.
    pub(super) fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Readable when a record of the run has come, or nobody of it is left.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Has a stub made. What becomes of it, its records tell.
    pub(super) fn spawn(&self, order: &Order<'_>) -> io::Result<()> {
        let (bytes, fds) = order.write();
        if bytes.len() <= MOST_INLINE {
            return self.send(&bytes, &fds);
        }
        let mut file = File::from(memfd_create("parachute-order", MemfdFlags::CLOEXEC)?);
        file.write_all(&bytes)?;
        let fds: Vec<_> = std::iter::once(file.as_fd()).chain(fds).collect();
        self.send(&[0], &fds)
    }

    fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_FDS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !beside.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Tells the stub: a signal for the command, [`END`](agent_stub::END), or what it has asked. One that is stopped and has been told hundreds
    /// of times is told no more.
    pub(super) fn tell(&self, word: u8) {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = sendmsg(&self.socket, &[IoSlice::new(&[word])], &mut SendAncillaryBuffer::default(), flags);
    }

    /// What comes next; none when neither spawner nor stub is left to say anything.
    pub(super) fn heard(&self, flags: RecvFlags) -> io::Result<Option<Heard>> {
        let mut bytes = [0; RECORD];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let got = rustix::io::retry_on_intr(|| {
            let parts = &mut [IoSliceMut::new(&mut bytes)];
            recvmsg(&self.socket, parts, &mut beside, flags | RecvFlags::CMSG_CLOEXEC)
        });
        match got.map(|got| got.bytes) {
            Ok(RECORD) => {}
            Ok(0) | Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(error) => return Err(error.into()),
        }
        let [a, b, c, d, rest @ ..] = bytes;
        let record = [i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes(rest)];
        let fd = beside.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Ok(Some(if record.first() == Some(&ASKS) { Heard::Asks(fd) } else { Heard::Record(record) }))
    }

    /// The stub, or an observer's command that has none: the spawner has one child or no child. Looked for only where it has to be
    /// forced.
    pub(super) fn stub(&self) -> Option<OwnedFd> {
        let is_child = |pid: i32| {
            let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat_field(&String::from_utf8_lossy(&stat), PARENT) == u64::try_from(self.pid).ok()
        };
        let names = std::fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.file_name());
        let pid = names.filter_map(|name| name.to_str()?.parse().ok()).find(|pid| is_child(*pid))?;
        let stub = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // The pid may have become another process's between the two, but no other child's.
        is_child(pid).then_some(stub)
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

/// nix offers no way to set SIG_IGN that it calls safe, as a handler may be unsafe; this one is none.
#[allow(unsafe_code, reason = "sigaction is marked unsafe for handlers' sake")]
pub(in crate::enter) fn ignore_sigchld() -> nix::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: SIG_IGN runs no code of this program.
    unsafe { sigaction(Signal::SIGCHLD, &ignore) }.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::super::super::capabilities::without;
    use super::*;

    /// Its program headers name no loader (PT_INTERP, elf(5)), which would not be there in a container.
    #[test]
    fn the_stub_has_its_c_library_in_it() {
        let number = |at: usize, length: usize| {
            PROGRAM[at..at + length].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
        };
        let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
        let kinds: Vec<usize> = (0..count).map(|index| number(start + index * size, 4)).collect();
        assert!(kinds.contains(&1) && !kinds.contains(&3), "{kinds:?}");
    }

    #[test]
    fn a_kernel_that_does_not_know_of_executable_files_in_memory_has_them_all_the_same() {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | libc::MFD_EXEC;
        let made = without::call(libc::SYS_memfd_create, Some(flags), libc::EINVAL, program).unwrap();
        assert!(rustix::fs::fstat(&made).unwrap().st_mode & 0o111 != 0);
    }
}
