//! Which system calls a process may not make: a program for the kernel's filter (seccomp(2)), made before the fork.
//! Pure; `calls` installs it.

use std::io;

use libc::{c_long, sock_filter};

/// `AUDIT_ARCH_*` of this machine's own 64-bit calls (linux/audit.h): a 32-bit program's calls have other numbers, so
/// that a list of numbers would not mean them.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// `__X32_SYSCALL_BIT` (asm/unistd.h): x32 calls come as x86-64's with this bit set. No other architecture has so many.
const X32: u32 = 0x4000_0000;

/// Every `CLONE_NEW*` that clone(2) takes (linux/sched.h).
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// Places in `struct seccomp_data` (linux/seccomp.h): the call's number, the architecture, and the low half of the first
/// argument, which comes first on these architectures.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// Numbers that libc has no name for; the same on every architecture (linux/unistd.h).
const OPEN_TREE_ATTR: c_long = 467;

/// What neither an observer nor the agent has any business with.
const NEVER: [c_long; 37] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_perf_event_open,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_acct,
];

/// What an observer has no business with, but the agent has: its map of known cgroups, and a cgroup's path by its number.
const NOT_AN_OBSERVERS: [c_long; 3] =
    [libc::SYS_bpf, libc::SYS_open_by_handle_at, libc::SYS_pidfd_send_signal];

/// What the agent has no business with: it starts no program.
const NOT_THE_AGENTS: [c_long; 2] = [libc::SYS_execve, libc::SYS_execveat];

/// For an observer's command. `getpid` is answered by whoever listens (see `own_pid`).
pub(super) fn observer() -> Vec<sock_filter> {
    filter(&[&NEVER, &NOT_AN_OBSERVERS], true)
}

/// For the agent once it has started.
pub(super) fn agent() -> Vec<sock_filter> {
    filter(&[&NEVER, &NOT_THE_AGENTS], false)
}

fn filter(denied: &[&[c_long]], listen: bool) -> Vec<sock_filter> {
    let mut program = vec![
        load(ARCH),
        unless_equal(ARCHITECTURE, 0, 1),
        // Killed rather than refused: no program of this architecture does that by mistake.
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
        statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, X32, 0, 1),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
    ];
    for call in denied.iter().copied().flatten() {
        program.extend([equal(*call), refuse(libc::EPERM)]);
    }
    // clone3's flags are in memory, where a filter cannot look: libc takes clone(2) when there is no clone3.
    program.extend([equal(libc::SYS_clone3), refuse(libc::ENOSYS)]);
    if listen {
        program.extend([equal(libc::SYS_getpid), answer(libc::SECCOMP_RET_USER_NOTIF)]);
    }
    program.extend([
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number(libc::SYS_clone), 0, 3),
        load(FIRST_ARGUMENT),
        statement(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, NEW_NAMESPACES, 0, 1),
        refuse(libc::EPERM),
        answer(libc::SECCOMP_RET_ALLOW),
    ]);
    program
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

/// Skips the next statement unless this call is made.
fn equal(call: c_long) -> sock_filter {
    statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number(call), 0, 1)
}

/// Skips `yes` statements if what was loaded is `value`, and `no` otherwise, the other way round.
fn unless_equal(value: u32, no: u8, yes: u8) -> sock_filter {
    statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, yes, no)
}

fn refuse(errno: i32) -> sock_filter {
    answer(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs())
}

fn answer(action: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

fn number(call: c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn statement(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // Every code is a sum of the kernel's 16-bit ones.
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k }
}

/// Takes from this process, for good, the system calls that the agent has no business with. To be called before there
/// are other threads, which inherit it.
pub fn confine_agent() -> io::Result<()> {
    let installed = agent_stub::no_new_privileges().and_then(|_| agent_stub::install_filter(&agent(), 0));
    installed.map(|_| ()).map_err(io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do, for the few kinds of statement that are used.
    fn run(program: &[sock_filter], arch: u32, call: u32, first: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            let jump = |yes: bool| usize::from(if yes { jt } else { jf });
            at += 1;
            match u32::from(code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    loaded = [(NUMBER, call), (ARCH, arch), (FIRST_ARGUMENT, first)]
                        .iter()
                        .find_map(|(place, value)| (*place == k).then_some(*value))
                        .unwrap();
                }
                code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => at += jump(loaded == k),
                code if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => at += jump(loaded >= k),
                code if code == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => at += jump(loaded & k != 0),
                code if code == libc::BPF_RET | libc::BPF_K => return k,
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn each_call_gets_its_answer() {
        let refused = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
        let (observer, agent) = (observer(), agent());
        let new_user = libc::CLONE_NEWUSER.unsigned_abs();
        for (call, first, for_observer, for_agent) in [
            (libc::SYS_read, 0, libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ALLOW),
            (libc::SYS_ptrace, 0, refused(libc::EPERM), refused(libc::EPERM)),
            (libc::SYS_acct, 0, refused(libc::EPERM), refused(libc::EPERM)),
            (libc::SYS_bpf, 0, refused(libc::EPERM), libc::SECCOMP_RET_ALLOW),
            (libc::SYS_execve, 0, libc::SECCOMP_RET_ALLOW, refused(libc::EPERM)),
            (libc::SYS_clone, 0x0120_0011, libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ALLOW),
            (libc::SYS_clone, new_user | 0x11, refused(libc::EPERM), refused(libc::EPERM)),
            (libc::SYS_clone3, 0, refused(libc::ENOSYS), refused(libc::ENOSYS)),
            (libc::SYS_getpid, 0, libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_RET_ALLOW),
        ] {
            assert_eq!(run(&observer, ARCHITECTURE, number(call), first), for_observer, "{call}");
            assert_eq!(run(&agent, ARCHITECTURE, number(call), first), for_agent, "{call}");
        }
    }

    #[test]
    fn other_ways_into_the_kernel_are_closed() {
        // AUDIT_ARCH_I386 and x32's read(2).
        assert_eq!(run(&observer(), 0x4000_0003, 3, 0), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(run(&observer(), ARCHITECTURE, X32, 0), libc::SECCOMP_RET_KILL_PROCESS);
    }
}
