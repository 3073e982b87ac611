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

/// The option of prctl(2) by which a process would leave its leash: an observer's command ends with its parent.
const PR_SET_PDEATHSIG: u32 = libc::PR_SET_PDEATHSIG.unsigned_abs();

/// For an observer's command. `getpid` is answered by whoever listens (see `own_pid`).
pub(super) fn observer() -> Vec<sock_filter> {
    filter(&[&NEVER, &NOT_AN_OBSERVERS], true)
}

/// For the agent once it has started.
pub(super) fn agent() -> Vec<sock_filter> {
    filter(&[&NEVER, &NOT_THE_AGENTS], false)
}

/// What the filter comes to. Each is a place behind its last jump.
#[derive(Clone, Copy)]
enum Verdict {
    Allowed,
    Refused,
    /// As by a kernel that does not know the call.
    Unknown,
    Killed,
    Asked,
    /// By the first argument: four statements each.
    ByFlags = 5,
    ByOption = 9,
}

/// Where a jump leads.
#[derive(Clone, Copy)]
enum Place {
    /// So many steps further than the next.
    Skip(usize),
    End(Verdict),
}

#[derive(Clone, Copy)]
enum Step {
    Load(u32),
    /// A comparison with a number.
    Jump(u32, u32, Place, Place),
}

/// The calls are looked up in a tree and not in a list: for each new filter the kernel goes through it once for every call
/// that there is, to know which are always allowed (`seccomp_cache_prepare` in kernel/seccomp.c, Linux 5.11).
fn filter(denied: &[&[c_long]], is_observer: bool) -> Vec<sock_filter> {
    let denied = denied.iter().copied().flatten().map(|call| (number(*call), Verdict::Refused));
    // clone3's flags are in memory, where a filter cannot look: libc takes clone(2) when there is no clone3.
    let by_flags = [(libc::SYS_clone3, Verdict::Unknown), (libc::SYS_clone, Verdict::ByFlags)];
    let observers = [(libc::SYS_getpid, Verdict::Asked), (libc::SYS_prctl, Verdict::ByOption)];
    let others = by_flags
        .into_iter()
        .chain(observers.into_iter().filter(|_| is_observer))
        .map(|(call, verdict)| (number(call), verdict));
    let mut calls: Vec<_> = denied.chain(others).collect();
    calls.sort_unstable_by_key(|(call, _)| *call);

    // Killed rather than refused: no program of this architecture does that by mistake.
    let killed = Place::End(Verdict::Killed);
    let mut steps = vec![
        Step::Load(ARCH),
        Step::Jump(libc::BPF_JEQ, ARCHITECTURE, Place::Skip(0), killed),
        Step::Load(NUMBER),
        Step::Jump(libc::BPF_JGE, X32, killed, Place::Skip(0)),
    ];
    steps.extend(tree(&calls));
    let behind = (0..steps.len()).rev();
    let mut program: Vec<_> = steps.iter().zip(behind).map(|(step, behind)| step.statement(behind)).collect();
    program.extend([
        answer(libc::SECCOMP_RET_ALLOW),
        refuse(libc::EPERM),
        refuse(libc::ENOSYS),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        answer(libc::SECCOMP_RET_USER_NOTIF),
        load(FIRST_ARGUMENT),
        statement(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, NEW_NAMESPACES, 0, 1),
        refuse(libc::EPERM),
        answer(libc::SECCOMP_RET_ALLOW),
        load(FIRST_ARGUMENT),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, PR_SET_PDEATHSIG, 0, 1),
        // As if it had been done.
        refuse(0),
        answer(libc::SECCOMP_RET_ALLOW),
    ]);
    program
}

/// A binary search for one of these calls, which are in order.
fn tree(calls: &[(u32, Verdict)]) -> Vec<Step> {
    let (low, high) = calls.split_at(calls.len() / 2);
    match (low, high) {
        ([], [(call, verdict)]) => {
            vec![Step::Jump(libc::BPF_JEQ, *call, Place::End(*verdict), Place::End(Verdict::Allowed))]
        }
        (_, [(first, _), ..]) => {
            let below = tree(low);
            let root = Step::Jump(libc::BPF_JGE, *first, Place::Skip(below.len()), Place::Skip(0));
            std::iter::once(root).chain(below).chain(tree(high)).collect()
        }
        (_, []) => Vec::new(),
    }
}

impl Step {
    /// With so many steps between it and the verdicts.
    fn statement(self, behind: usize) -> sock_filter {
        let distance = |place| {
            let distance = match place {
                Place::Skip(steps) => steps,
                Place::End(verdict) => behind + verdict as usize,
            };
            // The kernel refuses a program with a jump out of it.
            u8::try_from(distance).unwrap_or(u8::MAX)
        };
        match self {
            Self::Load(offset) => load(offset),
            Self::Jump(how, k, yes, no) => {
                statement(libc::BPF_JMP | how | libc::BPF_K, k, distance(yes), distance(no))
            }
        }
    }
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
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
            (libc::SYS_prctl, PR_SET_PDEATHSIG, refused(0), libc::SECCOMP_RET_ALLOW),
            (libc::SYS_prctl, 15, libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ALLOW),
        ] {
            assert_eq!(run(&observer, ARCHITECTURE, number(call), first), for_observer, "{call}");
            assert_eq!(run(&agent, ARCHITECTURE, number(call), first), for_agent, "{call}");
        }
    }

    /// Whatever the tree looks like: what is denied is refused, and every other number is let through.
    #[test]
    fn every_number_gets_its_answer() {
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
        for (program, denied) in [(observer(), &NOT_AN_OBSERVERS[..]), (agent(), &NOT_THE_AGENTS)] {
            assert!(program.len() < usize::from(u8::MAX), "a jump would not reach the end");
            let special = [libc::SYS_clone, libc::SYS_clone3, libc::SYS_getpid].map(number);
            for call in (0..1024).filter(|call| !special.contains(call)) {
                let is_denied = NEVER.iter().chain(denied).any(|denied| number(*denied) == call);
                let expected = if is_denied { refused } else { libc::SECCOMP_RET_ALLOW };
                assert_eq!(run(&program, ARCHITECTURE, call, 0), expected, "{call}");
            }
        }
    }

    #[test]
    fn other_ways_into_the_kernel_are_closed() {
        // AUDIT_ARCH_I386 and x32's read(2).
        assert_eq!(run(&observer(), 0x4000_0003, 3, 0), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(run(&observer(), ARCHITECTURE, X32, 0), libc::SECCOMP_RET_KILL_PROCESS);
    }
}
