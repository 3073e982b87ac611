//! What of the kernel this room needs, or could use, is lacking: each is tried once when a launcher starts, on this kernel and
//! not on its number of a version. It leaves nothing behind. What is done where one is lacking is done elsewhere; most of it by
//! the same try.

use std::os::fd::AsFd;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, ResolveFlags, memfd_create, openat2};
use rustix::mount::{FsOpenFlags, OpenTreeFlags, fsopen, open_tree};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::launcher::{Procfs, Slots};
use crate::model::{Capability, Without};

/// What is tried in here, in no order; `detect` tries the others.
const OURS: [Capability; 18] = [
    Capability::Clone3,
    Capability::CloseRange,
    Capability::Fsopen,
    Capability::MoveMount,
    Capability::OpenTree,
    Capability::Openat2,
    Capability::PidfdOpen,
    Capability::PidfdSetns,
    Capability::PidfdWait,
    Capability::CloneIntoCgroup,
    Capability::CgroupKill,
    Capability::CgroupDeviceProgram,
    Capability::CgroupMemory,
    Capability::CgroupPids,
    Capability::CgroupCpu,
    Capability::SeccompListener,
    Capability::MemfdExec,
    Capability::ProcfsPidns,
];

/// What this kernel lacks. To be called with all rights, and while this process has one thread or none of them forks.
pub fn lacking() -> Result<Vec<Capability>, String> {
    // Those without which there can be no slots come first, to be told by their names.
    let slots = Slots::create(0, true);
    let lacks = lacking_with(slots.as_ref().ok());
    match slots {
        Err(error) if stopping(&lacks).is_none() => Err(error.to_string()),
        _ => Ok(lacks),
    }
}

/// The same for a launcher, with the slots that it has made or could not make.
pub(super) fn lacking_with(slots: Option<&Slots>) -> Vec<Capability> {
    OURS.into_iter().filter(|capability| !has(*capability, slots)).collect()
}

/// What to say if these are lacking and no command can be run without them.
pub fn stopping(lacks: &[Capability]) -> Option<String> {
    let stops = lacks.iter().filter(|capability| capability.about().without == Without::Stops);
    let said: Vec<_> = stops
        .map(|capability| {
            let about = capability.about();
            format!("{} ({}), usually there from Linux {}", about.name, about.used, about.since)
        })
        .collect();
    (!said.is_empty()).then(|| format!("this kernel lacks, or something forbids here: {}", said.join("; ")))
}

fn has(capability: Capability, slots: Option<&Slots>) -> bool {
    let own = || pidfd_open(getpid(), PidfdFlags::empty());
    match capability {
        Capability::Clone3 => agent_stub::has_clone3(),
        Capability::CloseRange => agent_stub::has_close_range(),
        Capability::Fsopen => fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).is_ok(),
        Capability::MoveMount => agent_stub::has_move_mount(),
        Capability::OpenTree => {
            let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(CWD, "/", clone).is_ok()
        }
        Capability::Openat2 => {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::IN_ROOT).is_ok()
        }
        Capability::PidfdOpen => own().is_ok(),
        Capability::PidfdSetns => own().is_ok_and(|own| agent_stub::has_pidfd_setns(own.as_fd())),
        // This process is no child of its own, which is said after the kind of id is known.
        Capability::PidfdWait => own().is_ok_and(|own| {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
            waitid(Id::PIDFd(own.as_fd()), flags) == Err(nix::errno::Errno::ECHILD)
        }),
        Capability::CloneIntoCgroup => agent_stub::has_clone_into_cgroup(),
        Capability::CgroupKill => slots.is_some_and(Slots::has_kill),
        Capability::CgroupDeviceProgram => slots.is_some_and(Slots::has_device_program),
        Capability::CgroupMemory => slots.is_some_and(|slots| slots.limits("memory")),
        Capability::CgroupPids => slots.is_some_and(|slots| slots.limits("pids")),
        Capability::CgroupCpu => slots.is_some_and(|slots| slots.limits("cpu")),
        Capability::SeccompListener => agent_stub::has_seccomp_listener(),
        Capability::MemfdExec => has_memfd_exec(),
        Capability::ProcfsPidns => Procfs::find() == Procfs::Pidns,
        Capability::BpfRawTracepoint
        | Capability::BpfCgroupId
        | Capability::BpfRingBuffer
        | Capability::KernelBtf
        | Capability::CgroupById => true,
    }
}

/// That such files are forbidden altogether (`vm.memfd_noexec`) is another thing, which is told where one is made.
fn has_memfd_exec() -> bool {
    let tried = memfd_create("parachute-try", MemfdFlags::CLOEXEC | MemfdFlags::EXEC);
    !matches!(tried, Err(rustix::io::Errno::INVAL))
}

/// A kernel without something, made of this one.
#[cfg(test)]
pub(in crate::enter) mod without {
    use libc::{c_long, sock_filter};

    /// Does `task` in a thread in which this call fails with `errno`, if its second argument is `argument` or none is given.
    pub(in crate::enter) fn call<T: Send>(
        call: c_long,
        argument: Option<u32>,
        errno: i32,
        task: impl FnOnce() -> T + Send,
    ) -> T {
        let statement =
            |code: u32, k: u32, jt, jf| sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
        let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
        let equal = |value, no| statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, 0, no);
        let answer = |action| statement(libc::BPF_RET | libc::BPF_K, action, 0, 0);
        let refuse = answer(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs());
        let number = u32::try_from(call).unwrap();
        // `struct seccomp_data`: the number comes first, the low half of the second argument at byte 24.
        let mut filter = match argument {
            None => vec![load(0), equal(number, 1), refuse],
            Some(value) => vec![load(0), equal(number, 3), load(24), equal(value, 1), refuse],
        };
        filter.push(answer(libc::SECCOMP_RET_ALLOW));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                agent_stub::no_new_privileges().unwrap();
                agent_stub::install_filter(&filter, 0).unwrap();
                task()
            });
            thread.join().unwrap()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried() -> Vec<Capability> {
        lacking_with(None)
    }

    #[test]
    fn what_a_kernel_does_not_know_is_lacking_and_nothing_else_is() {
        let here = tried();
        for (call, lacks) in [
            (libc::SYS_clone3, &[Capability::Clone3, Capability::CloneIntoCgroup][..]),
            (libc::SYS_close_range, &[Capability::CloseRange]),
            (libc::SYS_fsopen, &[Capability::Fsopen, Capability::ProcfsPidns]),
            (libc::SYS_move_mount, &[Capability::MoveMount]),
            (libc::SYS_open_tree, &[Capability::OpenTree]),
            (libc::SYS_openat2, &[Capability::Openat2]),
            (libc::SYS_pidfd_open, &[Capability::PidfdOpen, Capability::PidfdSetns, Capability::PidfdWait]),
            (libc::SYS_setns, &[Capability::PidfdSetns]),
            (libc::SYS_waitid, &[Capability::PidfdWait]),
            (libc::SYS_seccomp, &[Capability::SeccompListener]),
        ] {
            for errno in [libc::ENOSYS, libc::EPERM] {
                let there = without::call(call, None, errno, tried);
                for capability in OURS {
                    let expected = here.contains(&capability) || lacks.contains(&capability);
                    assert_eq!(there.contains(&capability), expected, "{capability:?} without {call}");
                }
            }
        }
    }

    #[test]
    fn options_that_a_kernel_does_not_know_are_lacking() {
        // FSCONFIG_SET_FD of linux/mount.h.
        let there = without::call(libc::SYS_fsconfig, Some(5), libc::EINVAL, tried);
        assert!(
            there.contains(&Capability::ProcfsPidns) && !there.contains(&Capability::Fsopen),
            "{there:?}"
        );
        let flags = libc::MFD_CLOEXEC | libc::MFD_EXEC;
        let there = without::call(libc::SYS_memfd_create, Some(flags), libc::EINVAL, tried);
        assert!(there.contains(&Capability::MemfdExec), "{there:?}");
    }

    #[test]
    fn trying_leaves_nothing_open() {
        let open = || std::fs::read_dir("/proc/thread-self/fd").unwrap().count();
        // In a thread with a table of its own, as others open and close files meanwhile.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
                let before = open();
                tried();
                assert_eq!(open(), before);
            });
        });
    }

    #[test]
    fn what_stops_an_agent_is_told_by_its_name() {
        assert_eq!(stopping(&[Capability::CgroupKill, Capability::ProcfsPidns]), None);
        let said = stopping(&[Capability::CgroupKill, Capability::Openat2]).unwrap();
        assert!(said.contains("openat2") && said.contains("5.6") && !said.contains("cgroup_kill"), "{said}");
    }
}
