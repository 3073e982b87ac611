//! The unsafe room: what happens between a fork and an exec, beside the container. System calls only: no allocation,
//! no lock, no logging, no panic; a failure goes home as `[step, errno]` and the process ends with `_exit`.

#![allow(unsafe_code, reason = "clone3, execve and the calls around them have no safe form; DESIGN, law 4")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_ulong, pid_t};

use super::calls::{CLONE_INTO_CGROUP, CloneArgs, check, clone3, close_all_but, close_range, errno};
use super::plan::Frame;

/// Names of the steps, as they stand in metrics and messages; a step's number is its place here.
pub const STEPS: [&str; 15] = [
    "prepare",
    "join_pid_ns",
    "clone_stub",
    "close_fds",
    "template",
    "mount_ns",
    "join_net_ns",
    "mount_proc",
    "mount_sys",
    "hide_stub",
    "clone_command",
    "join_cgroup",
    "stdio",
    "limits",
    "exec",
];

#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(super) enum Step {
    Prepare = 0,
    JoinPidNs,
    CloneStub,
    CloseFds,
    Template,
    MountNs,
    JoinNetNs,
    MountProc,
    MountSys,
    HideStub,
    CloneCommand,
    JoinCgroup,
    Stdio,
    Limits,
    Exec,
}

/// First half of the stub's record when the command has ended; the second half is its wait(2) status.
pub(super) const ENDED: i32 = -1;
/// The same, when something of the run had to be killed through its cgroup.
pub(super) const ENDED_BY_KILL: i32 = -2;
/// Size in bytes of the stub's record: two native-endian `i32`.
pub(super) const RECORD: usize = 8;

/// How often a killed tree is looked at until it has gone, in milliseconds: only after a kill, and only while
/// something of it is left.
const KILL_INTERVAL_MS: c_int = 20;

/// Clones the stub and gives back its pidfd. The caller's children must already go to the container's pid namespace.
///
/// # Errors
/// The errno of clone3(2); `ENOMEM` also means that the pid namespace's init has gone.
pub(super) fn spawn(frame: &Frame<'_>) -> Result<OwnedFd, i32> {
    let kept = frame.kept();
    let mut pidfd: c_int = -1;
    let mut args = CloneArgs {
        flags: libc::CLONE_PIDFD as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    // SAFETY: without CLONE_VM the child has a copy of this process's memory and this thread alone. The launcher is
    // single-threaded, so no lock can be held by a thread that the child lacks, and `stub` does nothing but system
    // calls on memory that the copy holds; it never returns. `args` and `pidfd` outlive the call.
    let pid = unsafe { clone3(&args) };
    match pid {
        0 => stub(frame, &kept),
        // SAFETY: the kernel has put a new fd there, which nobody else knows of.
        1.. => Ok(unsafe { OwnedFd::from_raw_fd(pidfd) }),
        _ => Err(errno()),
    }
}

/// Runs in the child, in the container's pid namespace.
fn stub(frame: &Frame<'_>, kept: &[RawFd]) -> ! {
    let status = frame.status.as_raw_fd();
    // SAFETY: plain system calls on numbers and on constants with static life; nothing here touches the heap.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"parachute-stub".as_ptr());
        // Orphans of the command come to this process and not to the container's init, which may never reap them.
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as c_ulong);
    }
    block_all_signals();
    // The launcher ignores SIGCHLD, which would reap the command before its status is read.
    default_signal(libc::SIGCHLD);
    close_all_but(kept).unwrap_or_else(|e| fail(status, Step::CloseFds, e));
    // SAFETY: setns and unshare take numbers only. This process has one thread and shares no file system state, which
    // is what setns(CLONE_NEWNS) asks for.
    let (template, own, net) = unsafe {
        (
            check(libc::setns(frame.template.as_raw_fd(), libc::CLONE_NEWNS)),
            check(libc::unshare(libc::CLONE_NEWNS)),
            check(libc::setns(frame.target.as_raw_fd(), libc::CLONE_NEWNET)),
        )
    };
    template.unwrap_or_else(|e| fail(status, Step::Template, e));
    own.unwrap_or_else(|e| fail(status, Step::MountNs, e));
    net.unwrap_or_else(|e| fail(status, Step::JoinNetNs, e));
    let empty = open_empty().unwrap_or_else(|e| fail(status, Step::HideStub, e));
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount(c"proc", c"/proc", flags).unwrap_or_else(|e| fail(status, Step::MountProc, e));
    mount(c"sysfs", c"/sys", flags | libc::MS_RDONLY).unwrap_or_else(|e| fail(status, Step::MountSys, e));

    // SAFETY: getpid and the signalfd call take numbers and a signal set on this stack.
    let (own_pid, signals) = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        (libc::getpid(), libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))
    };
    check(signals).unwrap_or_else(|e| fail(status, Step::Prepare, e));
    hide(own_pid, empty).unwrap_or_else(|e| fail(status, Step::HideStub, e));

    let mut args = CloneArgs { exit_signal: libc::SIGCHLD as u64, ..CloneArgs::default() };
    if frame.unified {
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = u64::from(frame.cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: as in `spawn`: a copied address space with one thread, and `command` makes system calls only.
    let pid = unsafe { clone3(&args) };
    match pid {
        0 => command(frame, own_pid),
        1.. => {}
        _ => fail(status, Step::CloneCommand, errno()),
    }
    // The readers of the pipes must see their end when the command's tree has gone, not when this process has.
    for fd in [frame.stdout, frame.stderr, frame.null, frame.template, frame.target] {
        // SAFETY: these are this process's own copies, and nothing below uses them.
        unsafe { libc::close(fd.as_raw_fd()) };
    }
    watch(frame, pid, signals)
}

/// Waits until the command and all its descendants have gone; kills them when the command ends or the leash closes.
fn watch(frame: &Frame<'_>, command: pid_t, signals: RawFd) -> ! {
    let mut ended: Option<c_int> = None;
    let mut killing = false;
    let mut killed = false;
    loop {
        // Reap first: a signal may have come before the signalfd existed.
        loop {
            let mut how: c_int = 0;
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
                // ECHILD: nothing is left, and as a subreaper this process would have got every orphan.
                _ => {
                    let how = ended.unwrap_or(libc::SIGKILL);
                    record(frame.status.as_raw_fd(), if killed { ENDED_BY_KILL } else { ENDED }, how);
                    // SAFETY: ends this process without running anything of the launcher's.
                    unsafe { libc::_exit(0) }
                }
            }
        }
        if killing {
            kill_tree(frame);
            killed = true;
        }
        let mut fds = [
            libc::pollfd { fd: signals, events: libc::POLLIN, revents: 0 },
            // A closed leash is readable for ever: it is not asked again once it has closed.
            libc::pollfd {
                fd: if killing { -1 } else { frame.leash.as_raw_fd() },
                events: libc::POLLIN,
                revents: 0,
            },
        ];
        let [signal, leash] = &mut fds;
        let timeout = if killing { KILL_INTERVAL_MS } else { -1 };
        let mut drained = [0u8; 128];
        // SAFETY: the two pollfds lie side by side in `fds`, and `drained` is as long as said.
        unsafe {
            libc::poll(std::ptr::from_mut(signal), 2, timeout);
            libc::read(signals, drained.as_mut_ptr().cast(), drained.len());
        }
        killing |= leash.revents != 0;
    }
}

/// Kills every process in the slot's cgroup. This process is not in it.
fn kill_tree(frame: &Frame<'_>) {
    if let Some(kill) = frame.cgroup_kill {
        // SAFETY: one byte from a static.
        if unsafe { libc::write(kill.as_raw_fd(), c"1".as_ptr().cast(), 1) } == 1 {
            return;
        }
    }
    // Before Linux 5.14: one by one. cgroup.procs shows pids as this process's pid namespace knows them. It is opened
    // anew each time: cgroup v1 keeps the list of an open file as it was, for a second after its last use
    // (CGROUP_PIDLIST_DESTROY_DELAY), and a pid in it may be another process by then.
    let mut text = [0u8; 4096];
    // SAFETY: a static path below a folder that stays open, and a buffer that is as long as said.
    let got = unsafe {
        let procs = libc::openat(
            frame.cgroup.as_raw_fd(),
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

/// Becomes the command.
fn command(frame: &Frame<'_>, stub: pid_t) -> ! {
    let status = frame.status.as_raw_fd();
    if !frame.unified {
        // SAFETY: one byte from a static; "0" means the writer itself (cgroups(7)).
        let wrote = unsafe { libc::write(frame.cgroup_procs.as_raw_fd(), c"0".as_ptr().cast(), 1) };
        check(c_int::try_from(wrote).unwrap_or(-1)).unwrap_or_else(|e| fail(status, Step::JoinCgroup, e));
    }
    // SAFETY: numbers only. The fds of the frame are all above 2, because the launcher keeps 0 to 2 open, so no
    // dup2 closes one that is still needed; status moves to 3 last, when 3 is not needed any more.
    let stdio = unsafe {
        libc::setsid();
        check(libc::dup2(frame.null.as_raw_fd(), 0))
            .and(check(libc::dup2(frame.stdout.as_raw_fd(), 1)))
            .and(check(libc::dup2(frame.stderr.as_raw_fd(), 2)))
            .and(if status == 3 { Ok(3) } else { check(libc::dup3(status, 3, libc::O_CLOEXEC)) })
    };
    stdio.unwrap_or_else(|e| fail(status, Step::Stdio, e));
    let status = 3;
    // SAFETY: numbers, a struct on this stack and static strings. PR_SET_PDEATHSIG comes last, since a change of
    // credentials would clear it, and the parent is looked at again in case it died before.
    let limits = unsafe {
        libc::umask(0o022);
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let limits = check(libc::setrlimit(libc::RLIMIT_CORE, &raw const none))
            .and(check(libc::chdir(c"/".as_ptr())))
            .and(close_range(4, c_ulong::from(u32::MAX)))
            .and(check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong)));
        if libc::getppid() != stub {
            libc::_exit(127);
        }
        limits
    };
    limits.unwrap_or_else(|e| fail(status, Step::Limits, e));
    for signal in 1..=64 {
        default_signal(signal);
    }
    // SAFETY: the set is a local; the pointers of argv and envp end in NULL and point into memory that this process
    // has a copy of. execve returns only if it failed.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::execve(frame.program.as_ptr(), frame.argv.as_ptr(), frame.envp.as_ptr());
    }
    fail(status, Step::Exec, errno())
}

/// Sends the failure home and ends. The stub's own end, if this is the command, follows by itself.
fn fail(status: RawFd, step: Step, errno: i32) -> ! {
    record(status, step as i32, errno);
    // SAFETY: ends this process without running anything of the launcher's.
    unsafe { libc::_exit(127) }
}

fn record(status: RawFd, first: i32, second: i32) {
    let record = [first, second];
    // SAFETY: eight bytes of a local. Less than PIPE_BUF is written whole or not at all (pipe(7)).
    unsafe { libc::write(status, record.as_ptr().cast(), RECORD) };
}

fn mount(kind: &std::ffi::CStr, on: &std::ffi::CStr, flags: c_ulong) -> Result<c_int, i32> {
    // SAFETY: three NUL-terminated strings with static life, and no data.
    check(unsafe { libc::mount(kind.as_ptr(), on.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) })
}

/// A detached mount of an empty folder: the mount point of /proc in the template, before anything is mounted there.
fn open_empty() -> Result<c_int, i32> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: a static path and numbers (open_tree(2), Linux 5.2).
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c"/proc".as_ptr(), flags) };
    check(c_int::try_from(tree).unwrap_or(-1))
}

/// Covers this process's folder in the run's own /proc, so that the command counts the container's processes and its
/// own, as if the stub were not there. Others see it as they see any process.
fn hide(pid: pid_t, empty: RawFd) -> Result<c_int, i32> {
    let mut path = *b"/proc/\0\0\0\0\0\0\0\0\0\0\0";
    let mut digits = pid;
    let mut length = 0;
    while digits > 0 {
        digits /= 10;
        length += 1;
    }
    digits = pid;
    for place in path.iter_mut().skip(6).take(length).rev() {
        *place = b'0' + u8::try_from(digits % 10).unwrap_or(0);
        digits /= 10;
    }
    let from = c"".as_ptr();
    // SAFETY: the path is a local that ends in NUL: a pid has at most ten digits. move_mount(2), Linux 5.2.
    let moved = unsafe {
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
        libc::syscall(libc::SYS_move_mount, empty, from, libc::AT_FDCWD, path.as_ptr(), flags)
    };
    check(c_int::try_from(moved).unwrap_or(-1))
}

/// A signal to the whole of the pid namespace (`kill -TERM -1` by the container's init) must not end the stub.
fn block_all_signals() {
    // SAFETY: a signal set on this stack.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

fn default_signal(signal: c_int) {
    // SAFETY: SIG_DFL is no function that could run; numbers that are no signal are refused by the kernel.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}
