//! The unsafe room: what happens between a fork and an exec, beside the container. System calls only: no allocation,
//! no lock, no logging, no panic; a failure is left for the spawner as `[step, errno]` and the process ends with `_exit`.
//! For an observer without a stub the spawner runs `live` itself, and takes the next order afterwards.

#![allow(unsafe_code, reason = "clone3, execve and the calls around them have no safe form; DESIGN, law 4")]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use rustix_core::fd::{AsRawFd, RawFd};

use libc::{c_int, c_ulong, c_void, pid_t};

use crate::calls::{
    CLONE_INTO_CGROUP, CloneArgs, attach, check, clone_here, close_range, errno, hide, mount, open_tree,
};
use crate::command::Command;
use crate::frame::Frame;
use crate::limits::{has_ended, limits, lowered};
use crate::neighbours;
use crate::observer::container_proc;
use crate::own_pid::Hearing;
use crate::steps::{END, ENDED, ENDED_BY_KILL, ENDED_TAMPERED, GONE, Step};

/// How often a killed tree is looked at until it has gone, in milliseconds: only after a kill, and only while
/// something of it is left.
const KILL_INTERVAL_MS: c_int = 20;
/// So long the command's parent stays on the processor on which its run has begun. Most commands have ended by then; whoever has it for itself, with
/// a real-time priority, must not keep it from ending a long one.
const STAY_MS: c_int = 50;

/// A step that failed, and its errno.
pub(crate) type Failure = (Step, i32);

/// Runs in the child, in the container's pid namespace or, for an observer that needs one, in the host's.
pub(crate) fn stub(frame: &Frame<'_>) -> ! {
    // SAFETY: plain system calls on numbers and on constants with static life; nothing here touches the heap.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"parachute-stub".as_ptr());
        // Orphans of the command come to this process and not to the container's init, which may never reap them.
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as c_ulong);
        for fd in [&frame.own.pid_ns, &frame.own.mnt_ns] {
            libc::close(fd.as_raw_fd());
        }
    }
    match live(frame) {
        // SAFETY: ends this process without running anything of the spawner's.
        Ok(()) => unsafe { libc::_exit(0) },
        Err((step, errno)) => fail(step, errno),
    }
}

/// Enters the container, has the command made and stays its parent until it has ended, with all that it has started. What it has come to
/// is in the record.
pub(crate) fn live(frame: &Frame<'_>) -> Result<(), Failure> {
    // The spawner ignores SIGCHLD, which would reap the command before its status is read.
    default_signal(libc::SIGCHLD);
    // Before the container's namespaces are joined, but for its mounts.
    let observer = frame.way.observer.as_ref();
    let proc = observer.map(|observer| container_proc(frame, observer)).transpose()?;
    // Of the host's network namespace, too: in the container's it would be counted with the container's sockets.
    let [own_end, commands_end] = if proc.is_some() { channel()? } else { [-1; 2] };
    // Without a stub it is the command that goes there.
    let empty = if frame.has_stub() { enter(frame)? } else { None };

    // SAFETY: getpid and the signalfd call take numbers and a signal set on this stack.
    let (own_pid, signals) = unsafe {
        let mut set = core::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        (libc::getpid(), libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))
    };
    check(signals).map_err(|e| (Step::Prepare, e))?;
    let mut early = END;
    if frame.way.check_neighbours {
        let known = |pid| neighbours::is_ours(pid, frame.socket, &mut early);
        match frame.own.user_ns.and_then(|own| neighbours::dangerous(own_pid, own, known)) {
            Ok(None) => {}
            Ok(Some(pid)) => return Err((Step::Neighbours, pid)),
            Err(e) => return Err((Step::MountProc, e)),
        }
    }
    if let Some(empty) = empty {
        hide(own_pid, empty).map_err(|e| (Step::HideStub, e))?;
    }

    let mut args = CloneArgs { exit_signal: libc::SIGCHLD as u64, ..CloneArgs::default() };
    args.flags = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    if proc.is_some() {
        args.flags |= libc::CLONE_NEWPID as u64;
    }
    if frame.unified {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(frame.fds.cgroup.as_raw_fd().unsigned_abs());
    }
    let seen = proc.map(|proc| (proc, commands_end));
    let command = Command { frame, parent: own_pid, seen, own_end };
    // SAFETY: this process waits until the command has its own memory or has gone, and `command` outlives that. It makes system
    // calls only and never returns.
    let pid = unsafe { clone_here(&args, begin, core::ptr::from_ref(&command).cast(), false) };
    let pid = match pid_t::try_from(pid) {
        Ok(pid @ 1..) => pid,
        Ok(errno) => return Err((Step::CloneCommand, errno.wrapping_neg())),
        Err(_) => return Err((Step::CloneCommand, libc::EINVAL)),
    };
    // The readers of the pipes must see their end when the command's tree has gone, not when this process has.
    // In an order's order these stand one after the other: above what the spawner has itself all numbers were free.
    let [_, _, stderr] = frame.fds.stdio;
    let [first, last] = [frame.fds.target, stderr].map(|fd| c_ulong::from(fd.as_raw_fd().unsigned_abs()));
    let closed = close_range(first, last).map_err(|e| note((Step::CloseFds, e)));
    for fd in [commands_end, proc.unwrap_or(-1)] {
        // SAFETY: these are this process's own copies, and nothing below uses them.
        unsafe { libc::close(fd) };
    }
    let hearing = if own_end < 0 { Hearing::Nothing } else { Hearing::Waiting(own_end) };
    if early != END {
        // SAFETY: numbers. Only this process reaps the command, so that the pid is still the command's.
        unsafe { libc::kill(pid, c_int::from(early)) };
    }
    watch(frame, pid, signals, hearing, closed.is_err());
    Ok(())
}

extern "C" fn begin(command: *const c_void) -> ! {
    // SAFETY: what `stub` has handed over.
    unsafe { &*command.cast::<Command<'_>>() }.run()
}

/// A pair of sockets for the command's listener; that it is open tells the command that its parent lives.
fn channel() -> Result<[RawFd; 2], Failure> {
    let mut channel: [c_int; 2] = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the two descriptors are written into a local.
    let made = check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, channel.as_mut_ptr()) });
    made.map_err(|e| (Step::Seccomp, e))?;
    Ok(channel)
}

/// Joins the namespaces and mounts what belongs into the run's own copy of the template.
///
/// Gives back a detached mount of an empty folder to cover the stub with, where anything was mounted.
fn enter(frame: &Frame<'_>) -> Result<Option<c_int>, Failure> {
    let way = &frame.way;
    let target = frame.fds.target.as_raw_fd();
    if way.join_mnt {
        // SAFETY: numbers. This process has one thread and shares no file system state, which is what
        // setns(CLONE_NEWNS) asks for.
        let joined = check(unsafe { libc::setns(target, libc::CLONE_NEWNS) });
        joined.map_err(|e| (Step::MountNs, e))?;
    } else if !frame.has_own_mounts() {
        // SAFETY: as above.
        let (template, own) = unsafe {
            (
                check(libc::setns(frame.fds.template.as_raw_fd(), libc::CLONE_NEWNS)),
                check(libc::unshare(libc::CLONE_NEWNS)),
            )
        };
        template.map_err(|e| (Step::Template, e))?;
        own.map_err(|e| (Step::MountNs, e))?;
    }
    join(frame)?;
    // An observer's root is finished by the command itself, as a process of its own pid namespace.
    if way.join_mnt || way.observer.is_some() {
        return Ok(None);
    }
    // The mount point of /proc in the template, before anything is mounted there.
    let empty = open_tree(c"/proc").map_err(|e| (Step::HideStub, e))?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount(c"proc", c"/proc", flags).map_err(|e| (Step::MountProc, e))?;
    match way.sys {
        None => mount(c"sysfs", c"/sys", flags | libc::MS_RDONLY),
        Some(tree) => attach(tree.as_raw_fd(), c"/sys"),
    }
    .map_err(|e| (Step::MountSys, e))?;
    if let Some(devpts) = way.devpts {
        attach(devpts.as_raw_fd(), c"/dev/pts").map_err(|e| (Step::MountDevpts, e))?;
    }
    Ok(Some(empty))
}

/// Joins the namespaces that the way names.
pub(crate) fn join(frame: &Frame<'_>) -> Result<(), Failure> {
    for (which, step) in [
        (frame.way.join & libc::CLONE_NEWNET, Step::JoinNetNs),
        (frame.way.join & !libc::CLONE_NEWNET, Step::JoinNamespaces),
    ] {
        if which != 0 {
            // SAFETY: numbers.
            check(unsafe { libc::setns(frame.fds.target.as_raw_fd(), which) }).map_err(|e| (step, e))?;
        }
    }
    Ok(())
}

/// Waits until the command and all its descendants have gone; kills them when the command ends, or when
/// the launcher says so or has gone, or at once. What it has come to is in the record then.
fn watch(frame: &Frame<'_>, command: pid_t, signals: RawFd, mut hearing: Hearing, mut killing: bool) {
    let mut tampered = false;
    let mut ended: Option<c_int> = None;
    let mut killed = false;
    let mut stays = frame.stay;
    loop {
        // Reap first: a signal may have come before the signalfd existed.
        loop {
            let mut how: c_int = 0;
            if frame.way.check_limits && ended.is_none() {
                tampered |= has_ended(command) && lowered(&frame.own.limits, &limits(command));
            }
            // SAFETY: `how` is a local that outlives the call.
            let pid = unsafe { libc::waitpid(-1, &raw mut how, libc::WNOHANG | libc::__WALL) };
            if pid == command {
                ended = Some(how);
                killing = true;
            }
            match pid {
                1.. => {}
                0 => break,
                _ if errno() == libc::EINTR => {}
                // ECHILD: nothing is left. As a subreaper a stub would have got every orphan; an observer's command is the first of a
                // pid namespace, whose end the kernel lets wait for all others in it.
                _ => {
                    let how = ended.unwrap_or(libc::SIGKILL);
                    let first = match (tampered, killed) {
                        (true, _) => ENDED_TAMPERED,
                        (false, true) => ENDED_BY_KILL,
                        (false, false) => ENDED,
                    };
                    // Nothing went wrong before, unless the container had a hand in it.
                    if first == ENDED_TAMPERED || RECORD_OF_RUN.load(Relaxed) == NOTHING {
                        RECORD_OF_RUN.store(packed([first, how]), Relaxed);
                    }
                    return;
                }
            }
        }
        if killing {
            kill_tree(frame);
            killed = true;
        }
        let mut fds = [
            libc::pollfd { fd: signals, events: libc::POLLIN, revents: 0 },
            // A closed socket is readable for ever: it is not asked again once it has closed.
            libc::pollfd { fd: if killing { -1 } else { frame.socket }, events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: hearing.fd(), events: libc::POLLIN, revents: 0 },
        ];
        let [signal, launcher, heard] = &mut fds;
        let timeout = match (killing, stays) {
            (true, _) => KILL_INTERVAL_MS,
            (false, true) => STAY_MS,
            (false, false) => -1,
        };
        let mut drained = [0u8; 128];
        // SAFETY: the three pollfds lie side by side in `fds`, and `drained` is as long as said.
        let ready = unsafe {
            let ready = libc::poll(core::ptr::from_mut(signal), 3, timeout);
            libc::read(signals, drained.as_mut_ptr().cast(), drained.len());
            ready
        };
        if ready == 0 && stays {
            frame.own.cpus.allow();
            stays = false;
        }
        if heard.revents != 0 {
            hearing = hearing.turn(heard.revents);
        }
        if launcher.revents != 0 {
            killing |= !pass_signal(frame, ended.is_none().then_some(command));
        }
    }
}

/// Sends the command a signal that came from the launcher; false when that wants the run to end, or has gone.
fn pass_signal(frame: &Frame<'_>, command: Option<pid_t>) -> bool {
    let mut signal = [0_u8; 1];
    // SAFETY: the buffer is as long as said.
    let got = unsafe { libc::recv(frame.socket, signal.as_mut_ptr().cast(), 1, libc::MSG_DONTWAIT) };
    let [signal] = signal;
    if got == 1
        && signal != END
        && let Some(command) = command
    {
        // SAFETY: numbers. Only this process reaps the command, so that the pid is still the command's.
        unsafe { libc::kill(command, c_int::from(signal)) };
    }
    if got < 0 { [libc::EINTR, libc::EAGAIN].contains(&errno()) } else { got == 1 && signal != END }
}

/// Kills every process in the slot's cgroup. This process is not in it.
fn kill_tree(frame: &Frame<'_>) {
    if let Some(kill) = frame.fds.cgroup_kill {
        // SAFETY: one byte from a static.
        if unsafe { libc::write(kill.as_raw_fd(), c"1".as_ptr().cast(), 1) } == 1 {
            return;
        }
    }
    // Where the kernel has no `cgroup.kill`: one by one. cgroup.procs shows pids as this process's pid namespace knows them. It is opened
    // anew each time: cgroup v1 keeps the list of an open file as it was, for a second after its last use
    // (CGROUP_PIDLIST_DESTROY_DELAY), and a pid in it may be another process by then.
    let mut text = [0u8; 4096];
    // SAFETY: a static path below a folder that stays open, and a buffer that is as long as said.
    let got = unsafe {
        let procs = libc::openat(
            frame.fds.cgroup.as_raw_fd(),
            c"cgroup.procs".as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        );
        let got = libc::read(procs, text.as_mut_ptr().cast(), text.len());
        libc::close(procs);
        got
    };
    let mut pid: pid_t = 0;
    for byte in text.iter().take(usize::try_from(got).unwrap_or(0)) {
        if byte.is_ascii_digit() {
            pid = pid.wrapping_mul(10).wrapping_add(pid_t::from(byte & 0x0f));
            continue;
        }
        // 0 stands for a process that this namespace does not see, and kill(0) would hit this process.
        if pid > 1 {
            // SAFETY: a number.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        pid = 0;
    }
}

/// What the run has come to. Stub and command leave it in the memory that they share with the spawner.
static RECORD_OF_RUN: AtomicU64 = AtomicU64::new(NOTHING);
const NOTHING: u64 = packed([GONE, 0]);

const fn packed([first, second]: [i32; 2]) -> u64 {
    (first.cast_unsigned() as u64) << 32 | second.cast_unsigned() as u64
}

/// Takes the record of the run that is over; [`GONE`] where its stub was killed before it said anything.
pub(crate) fn take_record() -> [i32; 2] {
    let record = RECORD_OF_RUN.swap(NOTHING, Relaxed);
    [record >> 32, record & 0xffff_ffff].map(|half| u32::try_from(half).unwrap_or_default().cast_signed())
}

/// Leaves the failure for the spawner. The first one counts: a failed step of the command's is followed by its end.
fn note((step, errno): Failure) {
    let _ = RECORD_OF_RUN.compare_exchange(NOTHING, packed([step as i32, errno]), Relaxed, Relaxed);
}

/// Leaves the failure for the spawner and ends. If this is the command, its parent sees that.
pub(crate) fn fail(step: Step, errno: i32) -> ! {
    note((step, errno));
    // SAFETY: ends this process without running anything of the spawner's.
    unsafe { libc::_exit(127) }
}

/// A signal to the whole of the pid namespace (`kill -TERM -1` by the container's init) must not end the stub.
pub(crate) fn block_all_signals() {
    // SAFETY: a signal set on this stack.
    unsafe {
        let mut all = core::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, core::ptr::null_mut());
    }
}

pub(crate) fn default_signal(signal: c_int) {
    // SAFETY: SIG_DFL is no function that could run; numbers that are no signal are refused by the kernel.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}
