//! The spawner: takes orders one by one, makes a stub for each or does its work itself, and says when the run is over. It has one
//! thread, waits for nothing but the next order and the run's end, and ends when the launcher does.

#![allow(unsafe_code, reason = "clone3 and the calls around it have no safe form; DESIGN, law 4")]

use rustix_core::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{c_ulong, c_void};

use crate::calls::{CloneArgs, check, clone_here, close_range, errno, forbid_core};
use crate::cpus::Cpus;
use crate::frame::{Frame, Own};
use crate::layout::MOST_INLINE;
use crate::limits::limits;
use crate::neighbours::own_user_ns;
use crate::passing::{receive, say};
use crate::steps::{ALIVE, PING, Step};
use crate::stub::{Failure, block_all_signals, default_signal, live, stub, take_record};

/// Serves the launcher at the other end of standard input until that end closes.
///
/// # Errors
/// The errno of the call that this process cannot do without.
pub fn serve() -> Result<(), i32> {
    let (socket, own) = settle()?;
    let mut room = [0_u64; MOST_INLINE / size_of::<u64>()];
    loop {
        let (length, fds) = match receive(socket.as_raw_fd(), bytes(&mut room), 0) {
            Ok(received) => received,
            Err(libc::EINTR) => continue,
            Err(errno) => return Err(errno),
        };
        if length == 0 {
            return Ok(());
        }
        if fds.iter().all(Option::is_none) {
            // Another byte was for a command that has gone.
            if bytes(&mut room).first() == Some(&PING) {
                say(socket.as_raw_fd(), [ALIVE, 0], &[])?;
            }
            continue;
        }
        let obeyed = match room.get_mut(..length / size_of::<u64>()) {
            Some(order) if !order.is_empty() => obey(order, &fds, &socket, &own),
            // The order is in a file, the first descriptor.
            _ => match fds.split_first() {
                Some((Some(file), fds)) => Memory::of(file)
                    .map_err(|errno| (Step::Prepare, errno))
                    .and_then(|mut memory| obey(memory.cells(), fds, &socket, &own)),
                _ => Err((Step::Prepare, libc::EINVAL)),
            },
        };
        // The readers of the command's pipes see their end before the launcher hears of the run's, and both at once.
        core::mem::forget(fds);
        close_range(c_ulong::from(own.first_free), c_ulong::from(u32::MAX))?;
        // The next stub is in another container's sight.
        room.fill(0);
        let record = take_record();
        let record = obeyed.map_or_else(|(step, errno)| [step as i32, errno], |()| record);
        say(socket.as_raw_fd(), record, &[])?;
        own.cpus.allow();
        // The run's mounts go now.
        // SAFETY: numbers.
        check(unsafe { libc::setns(own.mnt_ns.as_raw_fd(), libc::CLONE_NEWNS) })?;
    }
}

fn bytes(cells: &mut [u64]) -> &mut [u8] {
    // SAFETY: the same memory for as long; bytes are less aligned, and every value of them is one of a cell's.
    unsafe { core::slice::from_raw_parts_mut(cells.as_mut_ptr().cast(), size_of_val(cells)) }
}

/// Makes this process what a stub may begin as: deaf to signals, without a core, with only its socket and its own namespaces
/// open besides the standard streams, which lead nowhere.
fn settle() -> Result<(OwnedFd, Own), i32> {
    block_all_signals();
    // What is handled here is handled so by commands.
    (1..=64).for_each(default_signal);
    forbid_core()?;
    // SAFETY: numbers and constants with static life. The new descriptors are this process's and nobody else knows of them.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"parachute-spawn".as_ptr());
        ignore_children();
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0 as c_ulong))?;
        // Also while it is stopped it does not outlive the launcher. Whether that has gone already, the socket tells.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong))?;
        libc::setsid();
        let socket = OwnedFd::from_raw_fd(check(libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3))?);
        let read = libc::O_RDONLY | libc::O_CLOEXEC;
        let pid_ns = OwnedFd::from_raw_fd(check(libc::open(c"/proc/self/ns/pid".as_ptr(), read))?);
        let mnt_ns = OwnedFd::from_raw_fd(check(libc::open(c"/proc/self/ns/mnt".as_ptr(), read))?);
        // The last of them: no number below it is free when it has gone.
        let null = OwnedFd::from_raw_fd(check(libc::open(c"/dev/null".as_ptr(), libc::O_RDWR))?);
        for stream in 0..3 {
            check(libc::dup2(null.as_raw_fd(), stream))?;
        }
        let first_free = null.as_raw_fd().unsigned_abs();
        close_range(c_ulong::from(first_free).wrapping_add(1), c_ulong::from(u32::MAX))?;
        let (limits, user_ns, cpus) = (limits(0), own_user_ns(), Cpus::own());
        Ok((socket, Own { pid_ns, mnt_ns, first_free, limits, user_ns, cpus }))
    }
}

/// Stubs are reaped by the kernel: nobody's end waits for this process, not even while it is stopped.
fn ignore_children() {
    // SAFETY: SIG_IGN is no function that could run.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Makes the stub of one order, and waits until it has gone; or does what it would do.
fn obey(order: &mut [u64], fds: &[Option<OwnedFd>], socket: &OwnedFd, own: &Own) -> Result<(), Failure> {
    let frame = Frame::read(order, fds, socket.as_raw_fd(), own);
    let frame = frame.ok_or((Step::Prepare, libc::EINVAL))?;
    if frame.has_own_mounts() {
        let template = frame.fds.template.as_raw_fd();
        // SAFETY: numbers. This process has one thread and shares no file system state, which is what setns(CLONE_NEWNS) asks for.
        let (template, own) = unsafe {
            (check(libc::setns(template, libc::CLONE_NEWNS)), check(libc::unshare(libc::CLONE_NEWNS)))
        };
        template.map_err(|errno| (Step::Template, errno))?;
        own.map_err(|errno| (Step::MountNs, errno))?;
    }
    if frame.stay {
        own.cpus.stay();
    }
    if !frame.has_stub() {
        let lived = live(&frame);
        ignore_children();
        return lived;
    }
    if !frame.join_pid {
        return spawn(&frame);
    }
    // Moves this process's future children only; it is taken back whatever happens.
    // SAFETY: numbers.
    let joined = check(unsafe { libc::setns(frame.fds.target.as_raw_fd(), libc::CLONE_NEWPID) });
    joined.map_err(|errno| (Step::JoinPidNs, errno))?;
    let spawned = spawn(&frame);
    // SAFETY: numbers. Should it fail, for want of memory, the next joined run's setns starts from the same place all the same, and
    // the kernel refuses an observer's CLONE_NEWPID.
    unsafe { libc::setns(own.pid_ns.as_raw_fd(), libc::CLONE_NEWPID) };
    spawned
}

fn spawn(frame: &Frame<'_>) -> Result<(), Failure> {
    let args =
        CloneArgs { flags: libc::CLONE_VM as u64, exit_signal: libc::SIGCHLD as u64, ..CloneArgs::default() };
    // SAFETY: this process has one thread, with all signals blocked, and waits until the stub has gone; the frame outlives that.
    // The stub makes system calls only, on memory that this process does not look at again, and never returns.
    let pid = unsafe { clone_here(&args, begin, core::ptr::from_ref(frame).cast(), true) };
    if pid < 0 { Err((Step::CloneStub, i32::try_from(-pid).unwrap_or(libc::EINVAL))) } else { Ok(()) }
}

extern "C" fn begin(frame: *const c_void) -> ! {
    // SAFETY: what `spawn` has handed over.
    stub(unsafe { &*frame.cast::<Frame<'_>>() })
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
            let mut about: libc::stat = core::mem::zeroed();
            check(libc::fstat(file.as_raw_fd(), &raw mut about))?;
            let length = usize::try_from(about.st_size).unwrap_or(0);
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let start =
                libc::mmap(core::ptr::null_mut(), length, access, libc::MAP_PRIVATE, file.as_raw_fd(), 0);
            if start == libc::MAP_FAILED {
                return Err(errno());
            }
            Ok(Self { start: start.cast(), cells: length / size_of::<u64>() })
        }
    }

    fn cells(&mut self) -> &mut [u64] {
        // SAFETY: the mapping is at least so long, page-aligned, and this value's own as long as it lives.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.cells) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping that `of` made, to which nothing borrowed from this value leads any more. The length is rounded up
        // to whole pages by the kernel.
        unsafe { libc::munmap(self.start.cast(), size_of::<u64>() * self.cells) };
    }
}
