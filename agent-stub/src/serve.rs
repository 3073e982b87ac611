//! The spawner: takes orders one by one, forks a stub for each, and answers with its pidfd. It has one thread, waits for
//! nothing but the next order, and ends when the launcher does.

#![allow(unsafe_code, reason = "clone3 and the calls around it have no safe form; DESIGN, law 4")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_ulong};

use crate::calls::{CloneArgs, check, clone3, errno, forbid_core};
use crate::frame::Frame;
use crate::passing::{receive, send};
use crate::steps::{RECORD, Step};
use crate::stub::{block_all_signals, stub};

/// Serves the launcher at the other end of standard input until that end closes.
///
/// # Errors
/// The errno of the call that this process cannot do without.
pub fn serve() -> Result<(), i32> {
    let (socket, own_pid_ns) = settle()?;
    loop {
        // The order itself is in a file, the first descriptor.
        let (length, fds) = match receive(socket.as_raw_fd(), &mut [0], 0) {
            Ok(received) => received,
            Err(libc::EINTR) => continue,
            Err(errno) => return Err(errno),
        };
        if length == 0 {
            return Ok(());
        }
        let answer = obey(&fds, own_pid_ns.as_raw_fd());
        // What was ordered is the stub's alone from here on: its pipes must see their end when it has gone.
        drop(fds);
        let (record, stub) = match &answer {
            Ok(stub) => ([0, 0], Some(stub.as_raw_fd())),
            Err((step, errno)) => ([*step as i32, *errno], None),
        };
        let mut bytes = [0; RECORD];
        for (place, byte) in bytes.iter_mut().zip(record.into_iter().flat_map(i32::to_ne_bytes)) {
            *place = byte;
        }
        send(socket.as_raw_fd(), &bytes, stub.as_slice())?;
    }
}

/// Makes this process what a stub may begin as: deaf to signals, without a core, with only its socket and its pid namespace
/// open besides the standard streams, which lead nowhere.
fn settle() -> Result<(OwnedFd, OwnedFd), i32> {
    block_all_signals();
    forbid_core()?;
    // SAFETY: numbers and constants with static life. The new descriptors are this process's and nobody else knows of them.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"parachute-spawn".as_ptr());
        // Its children are reaped by the kernel: nobody's end waits for this process, not even while it is stopped.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0 as c_ulong))?;
        // Also while it is stopped it does not outlive the launcher. Whether that has gone already, the socket tells.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong))?;
        libc::setsid();
        let socket = OwnedFd::from_raw_fd(check(libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3))?);
        let read = libc::O_RDONLY | libc::O_CLOEXEC;
        let null = OwnedFd::from_raw_fd(check(libc::open(c"/dev/null".as_ptr(), libc::O_RDWR))?);
        for stream in 0..3 {
            check(libc::dup2(null.as_raw_fd(), stream))?;
        }
        let own = OwnedFd::from_raw_fd(check(libc::open(c"/proc/self/ns/pid".as_ptr(), read))?);
        Ok((socket, own))
    }
}

/// Forks the stub of one order.
fn obey(fds: &[Option<OwnedFd>], own_pid_ns: RawFd) -> Result<OwnedFd, (Step, i32)> {
    let prepare = |errno| (Step::Prepare, errno);
    let (order, fds) = fds.split_first().ok_or(prepare(libc::EINVAL))?;
    let order = order.as_ref().ok_or(prepare(libc::EINVAL))?;
    let mut memory = Memory::of(order).map_err(prepare)?;
    let frame = Frame::read(memory.cells(), fds).ok_or(prepare(libc::EINVAL))?;
    if !frame.join_pid {
        return spawn(&frame);
    }
    // Moves this process's future children only; it is taken back whatever happens.
    // SAFETY: numbers.
    let joined = check(unsafe { libc::setns(frame.fds.target.as_raw_fd(), libc::CLONE_NEWPID) });
    joined.map_err(|errno| (Step::JoinPidNs, errno))?;
    let stub = spawn(&frame);
    // SAFETY: numbers. Should it fail, the next order's setns starts from the same place all the same.
    unsafe { libc::setns(own_pid_ns, libc::CLONE_NEWPID) };
    stub
}

fn spawn(frame: &Frame<'_>) -> Result<OwnedFd, (Step, i32)> {
    let kept = frame.kept();
    let mut pidfd: c_int = -1;
    let mut args = CloneArgs {
        flags: libc::CLONE_PIDFD as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    // SAFETY: without CLONE_VM the child has a copy of this process's memory and this thread alone. There is one thread, so
    // no lock can be held by one that the child lacks, and `stub` does nothing but system calls on memory that the
    // copy holds; it never returns. `args` and `pidfd` outlive the call.
    let pid = unsafe { clone3(&args) };
    match pid {
        0 => stub(frame, &kept),
        // SAFETY: the kernel has put a new fd there, which nobody else knows of.
        1.. => Ok(unsafe { OwnedFd::from_raw_fd(pidfd) }),
        _ => Err((Step::CloneStub, errno())),
    }
}

/// An order's file as memory of this process's own: what is changed in it stays here.
struct Memory {
    start: *mut u64,
    cells: usize,
}

impl Memory {
    fn of(file: &OwnedFd) -> Result<Self, i32> {
        // SAFETY: zeroes are a valid `stat`, which outlives the call. The mapping is new, private and of a length that the
        // kernel has checked; the file has no other name, and the launcher closes it after it has written it.
        unsafe {
            let mut about: libc::stat = std::mem::zeroed();
            check(libc::fstat(file.as_raw_fd(), &raw mut about))?;
            let length = usize::try_from(about.st_size).unwrap_or(0);
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let start =
                libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_PRIVATE, file.as_raw_fd(), 0);
            if start == libc::MAP_FAILED {
                return Err(errno());
            }
            Ok(Self { start: start.cast(), cells: length / size_of::<u64>() })
        }
    }

    fn cells(&mut self) -> &mut [u64] {
        // SAFETY: the mapping is at least so long, page-aligned, and this value's own as long as it lives.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.cells) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping that `of` made, to which nothing borrowed from this value leads any more. The length is rounded up
        // to whole pages by the kernel.
        unsafe { libc::munmap(self.start.cast(), size_of::<u64>() * self.cells) };
    }
}
