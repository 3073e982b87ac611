//! The command itself, from its clone to its exec. Unsafe as `stub` is, and under the same rules: system calls only.

#![allow(unsafe_code, reason = "execve and the calls around it have no safe form; DESIGN, law 4")]

use rustix_core::fd::{AsRawFd, RawFd};

use libc::{c_int, c_ulong, pid_t};

use crate::calls::{capset, check, close_range, errno, forbid_core, no_new_privileges, raise_ambient};
use crate::frame::Frame;
use crate::observer::{arrange, confine, execute, parent_lives};
use crate::steps::Step;
use crate::stub::{fail, join};
use crate::way::Credentials;

/// Highest capability number that linux/capability.h may come to have in two 32-bit words.
const MAX_CAPABILITY: u32 = 63;

/// What the command begins with.
pub(crate) struct Command<'a> {
    pub(crate) frame: &'a Frame<'a>,
    /// A stub or, for an observer without one, the spawner.
    pub(crate) parent: pid_t,
    /// For an observer the container's procfs and this process's end of the channel to the parent.
    pub(crate) seen: Option<(RawFd, RawFd)>,
    /// The parent's end of it. Its end is what tells the command that the parent has died: no copy of it may stay open here.
    pub(crate) own_end: RawFd,
}

impl Command<'_> {
    /// Becomes the command.
    pub(crate) fn run(&self) -> ! {
        if self.own_end >= 0 {
            // SAFETY: this process's own copy.
            unsafe { libc::close(self.own_end) };
        }
        command(self.frame, self.parent, self.seen)
    }
}

fn command(frame: &Frame<'_>, parent: pid_t, seen: Option<(RawFd, RawFd)>) -> ! {
    // The container can kill a stub at any moment, and then the spawner goes on in the memory that this process still uses:
    // it is to be killed with it, as with a spawner. Once more at the end, as a change of credentials clears it.
    end_with(parent, seen).unwrap_or_else(|e| fail(Step::Limits, e));
    let own = (!frame.unified).then_some(frame.fds.cgroup_procs);
    for procs in frame.fds.limiting.into_iter().chain([own]).flatten() {
        // SAFETY: one byte from a static; "0" means the writer itself (cgroups(7)).
        let wrote = unsafe { libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) };
        check(c_int::try_from(wrote).unwrap_or(-1)).unwrap_or_else(|e| fail(Step::JoinCgroup, e));
    }
    if !frame.has_stub() {
        join(frame).unwrap_or_else(|(step, e)| fail(step, e));
    }
    let observer = frame.way.observer.as_ref().zip(seen);
    if let Some((observer, (proc, _))) = observer {
        arrange(observer, proc);
    }
    // SAFETY: a NUL-terminated string that outlives the call.
    let there = check(unsafe { libc::chdir(frame.workdir.as_ptr()) });
    there.unwrap_or_else(|e| fail(Step::Workdir, e));
    let target = if frame.way.join_user {
        // SAFETY: a number. One thread, as in the stub; the container's user namespace gives all rights in it and
        // takes all outside of it.
        check(unsafe { libc::setns(frame.fds.target.as_raw_fd(), libc::CLONE_NEWUSER) })
    } else {
        Ok(0)
    };
    target.unwrap_or_else(|e| fail(Step::JoinUserNs, e));
    connect(frame);
    if frame.stay {
        frame.own.cpus.allow();
    }
    drop_from_bounding_set(frame.way.bounding).unwrap_or_else(|e| fail(Step::Capabilities, e));
    if let Some(user) = frame.way.user {
        become_user(&user, frame.way.join_user).unwrap_or_else(|e| fail(Step::User, e));
    }
    // SAFETY: a number.
    unsafe { libc::umask(0o022) };
    forbid_core().and_then(|_| end_with(parent, seen)).unwrap_or_else(|e| fail(Step::Limits, e));
    if let Some((observer, (_, channel))) = observer {
        confine(observer, channel).unwrap_or_else(|e| fail(Step::Seccomp, e));
    }
    let program =
        observer.and_then(|(observer, _)| observer.program).map_or(-1, |program| program.as_raw_fd());
    close_others(program).unwrap_or_else(|e| fail(Step::CloseFds, e));
    // SAFETY: the set is a local; the pointers of programs, argv and envp end in NULL and point into memory that this
    // process has a copy of. execve returns only if it failed.
    unsafe {
        let mut none = core::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, core::ptr::null_mut());
        if program >= 0 {
            fail(Step::Exec, execute(frame, program));
        }
        let mut failure = libc::ENOENT;
        for program in frame.programs.iter().take_while(|program| !program.is_null()) {
            libc::execve(*program, frame.argv.as_ptr(), frame.envp.as_ptr());
            // As execvp(3): a name that is elsewhere on the path is looked for there, but what was found and could not
            // be executed is what is told.
            if errno() != libc::ENOENT && errno() != libc::ENOTDIR {
                failure = errno();
                if failure != libc::EACCES {
                    break;
                }
            }
        }
        fail(Step::Exec, failure)
    }
}

/// Has the kernel kill this process when its parent ends, and looks whether it has ended before.
fn end_with(parent: pid_t, seen: Option<(RawFd, RawFd)>) -> Result<c_int, i32> {
    // SAFETY: numbers.
    unsafe {
        let set = check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong));
        // PID 1 of a pid namespace has no parent that it could see.
        if seen.map_or(libc::getppid() == parent, |(_, channel)| parent_lives(channel)) {
            set
        } else {
            libc::_exit(127)
        }
    }
}

/// All that the command is not to have; what is kept besides closes by itself at the exec.
fn close_others(program: RawFd) -> Result<c_int, i32> {
    match c_ulong::try_from(program) {
        Ok(program) if program > 2 => {
            if program > 3 {
                close_range(3, program.wrapping_sub(1))?;
            }
            close_range(program.wrapping_add(1), c_ulong::from(u32::MAX))
        }
        _ => close_range(3, c_ulong::from(u32::MAX)),
    }
}

/// A session of its own with the standard streams.
fn connect(frame: &Frame<'_>) {
    let [stdin, stdout, stderr] = frame.fds.stdio.map(|fd| fd.as_raw_fd());
    // SAFETY: numbers only. The fds of the frame are all above 2, because the spawner keeps 0 to 2 open, so no
    // dup2 closes one that is still needed.
    let connected = unsafe {
        libc::setsid();
        check(libc::dup2(stdin, 0))
            .and(check(libc::dup2(stdout, 1)))
            .and(check(libc::dup2(stderr, 2)))
            .and(if frame.way.devpts.is_some() { check(libc::ioctl(0, libc::TIOCSCTTY, 0)) } else { Ok(0) })
    };
    connected.unwrap_or_else(|e| fail(Step::Stdio, e));
}

/// What is not in `kept` can never come back, not even by a program file's own capabilities.
fn drop_from_bounding_set(kept: u64) -> Result<c_int, i32> {
    if kept == u64::MAX {
        return Ok(0);
    }
    for capability in 0..=MAX_CAPABILITY {
        if kept & (1 << capability) == 0 {
            // SAFETY: numbers. EINVAL: the kernel has no such capability.
            let dropped = check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, c_ulong::from(capability)) });
            match dropped {
                Ok(_) => {}
                Err(libc::EINVAL) => break,
                Err(errno) => return Err(errno),
            }
        }
    }
    no_new_privileges()
}

/// Groups first: who is no root any more may not change them.
fn become_user(user: &Credentials<'_>, in_user_ns: bool) -> Result<c_int, i32> {
    // SAFETY: raw calls on numbers and on a slice that outlives them. libc's own wrappers would tell other threads of
    // the change, and there are none.
    unsafe {
        let groups = libc::syscall(libc::SYS_setgroups, user.groups.len(), user.groups.as_ptr());
        // A user namespace may forbid it (user_namespaces(7), /proc/PID/setgroups); then the groups are nobody's.
        if groups < 0 && !in_user_ns {
            return Err(errno());
        }
        check(
            c_int::try_from(libc::syscall(libc::SYS_setresgid, user.gid, user.gid, user.gid)).unwrap_or(-1),
        )?;
        if user.kept != 0 {
            check(libc::prctl(libc::PR_SET_KEEPCAPS, 1 as c_ulong))?;
        }
        check(
            c_int::try_from(libc::syscall(libc::SYS_setresuid, user.uid, user.uid, user.uid)).unwrap_or(-1),
        )?;
    }
    if user.kept == 0 {
        return Ok(0);
    }
    capset(user.kept).and_then(|_| raise_ambient(user.kept))
}
