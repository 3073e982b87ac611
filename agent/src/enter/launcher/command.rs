//! The command itself, from its clone to its exec. Unsafe as `stub` is, and under the same rules: system calls only.

#![allow(unsafe_code, reason = "execve and the calls around it have no safe form; DESIGN, law 4")]

use std::os::fd::AsRawFd;

use libc::{c_int, c_ulong, pid_t};

use super::calls::{capset, check, close_range, errno, raise_ambient};
use super::plan::{Credentials, Frame};
use super::stub::{Step, default_signal, fail};

/// Highest capability number that linux/capability.h may come to have in two 32-bit words.
const MAX_CAPABILITY: u32 = 63;

/// Becomes the command.
pub(super) fn command(frame: &Frame<'_>, stub: pid_t) -> ! {
    let status = frame.status.as_raw_fd();
    if !frame.unified {
        // SAFETY: one byte from a static; "0" means the writer itself (cgroups(7)).
        let wrote = unsafe { libc::write(frame.cgroup_procs.as_raw_fd(), c"0".as_ptr().cast(), 1) };
        check(c_int::try_from(wrote).unwrap_or(-1)).unwrap_or_else(|e| fail(status, Step::JoinCgroup, e));
    }
    // SAFETY: a NUL-terminated string that outlives the call.
    let there = check(unsafe { libc::chdir(frame.workdir.as_ptr()) });
    there.unwrap_or_else(|e| fail(status, Step::Workdir, e));
    let target = if frame.way.join_user {
        // SAFETY: a number. One thread, as in the stub; the container's user namespace gives all rights in it and
        // takes all outside of it.
        check(unsafe { libc::setns(frame.target.as_raw_fd(), libc::CLONE_NEWUSER) })
    } else {
        Ok(0)
    };
    target.unwrap_or_else(|e| fail(status, Step::JoinUserNs, e));
    let status = connect(frame);
    drop_from_bounding_set(frame.way.bounding).unwrap_or_else(|e| fail(status, Step::Capabilities, e));
    if let Some(user) = frame.way.user {
        become_user(&user, frame.way.join_user).unwrap_or_else(|e| fail(status, Step::User, e));
    }
    // SAFETY: numbers and a struct on this stack. PR_SET_PDEATHSIG comes last, since a change of credentials would
    // clear it, and the parent is looked at again in case it died before.
    let limits = unsafe {
        libc::umask(0o022);
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let limits = check(libc::setrlimit(libc::RLIMIT_CORE, &raw const none))
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
    // SAFETY: the set is a local; the pointers of programs, argv and envp end in NULL and point into memory that this
    // process has a copy of. execve returns only if it failed.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
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
        fail(status, Step::Exec, failure)
    }
}

/// A session of its own with the standard streams; gives back the number under which the status pipe then is.
fn connect(frame: &Frame<'_>) -> c_int {
    let status = frame.status.as_raw_fd();
    let [stdin, stdout, stderr] = frame.stdio.map(|fd| fd.as_raw_fd());
    // SAFETY: numbers only. The fds of the frame are all above 2, because the launcher keeps 0 to 2 open, so no
    // dup2 closes one that is still needed; status moves to 3 last, when 3 is not needed any more.
    let connected = unsafe {
        libc::setsid();
        check(libc::dup2(stdin, 0))
            .and(check(libc::dup2(stdout, 1)))
            .and(check(libc::dup2(stderr, 2)))
            .and(if frame.way.devpts.is_some() { check(libc::ioctl(0, libc::TIOCSCTTY, 0)) } else { Ok(0) })
            .and(if status == 3 { Ok(3) } else { check(libc::dup3(status, 3, libc::O_CLOEXEC)) })
    };
    connected.unwrap_or_else(|e| fail(status, Step::Stdio, e));
    3
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
    // SAFETY: numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
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
        if user.shield.is_some() {
            check(libc::prctl(libc::PR_SET_KEEPCAPS, 1 as c_ulong))?;
        }
        check(
            c_int::try_from(libc::syscall(libc::SYS_setresuid, user.uid, user.uid, user.uid)).unwrap_or(-1),
        )?;
    }
    match user.shield {
        Some(shield) => capset(1 << shield).and_then(|_| raise_ambient(shield)),
        None => Ok(0),
    }
}
