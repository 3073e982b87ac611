//! A tool that has turned against its host: what an observer's command could try if somebody had taken it over.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use crate::sys::{self, call};

/// Calls that have the same numbers on no two architectures: x86-64's.
#[cfg(target_arch = "x86_64")]
const CALLS: [(&str, i64); 22] = [
    ("ptrace", 101),
    ("mount", 165),
    ("umount2", 166),
    ("pivot_root", 155),
    ("chroot", 161),
    ("setns", 308),
    ("unshare", 272),
    ("bpf", 321),
    ("perf_event_open", 298),
    ("kexec_load", 246),
    ("init_module", 175),
    ("finit_module", 313),
    ("delete_module", 176),
    ("keyctl", 250),
    ("add_key", 248),
    ("io_uring_setup", 425),
    ("userfaultfd", 323),
    ("open_by_handle_at", 304),
    ("process_vm_readv", 310),
    ("pidfd_getfd", 438),
    ("fsopen", 430),
    ("reboot", 169),
];
#[cfg(target_arch = "aarch64")]
const CALLS: [(&str, i64); 6] =
    [("ptrace", 117), ("mount", 40), ("setns", 268), ("unshare", 97), ("bpf", 280), ("fsopen", 430)];

/// clone(2) with CLONE_NEWUSER, and its number.
const NEW_USER: i64 = 0x1000_0000;
#[cfg(target_arch = "x86_64")]
const CLONE: i64 = 56;
#[cfg(target_arch = "aarch64")]
const CLONE: i64 = 220;
/// `__X32_SYSCALL_BIT` and getpid.
const X32: i64 = 0x4000_0000 + 39;

/// Prints each call with its error number, or `done`.
pub(crate) fn calls() -> io::Result<()> {
    match std::env::args().nth(2).as_deref() {
        Some("int80") => println!("{}", sys::old_entry()),
        Some("x32") => println!("{:?}", call(X32, [0; 5])),
        _ => {
            for (name, number) in CALLS {
                println!("{name} {:?}", call(number, [0; 5]));
            }
            println!("clone {:?}", call(CLONE, [NEW_USER, 0, 0, 0, 0]));
            for entry in ["int80", "x32"] {
                let done = Command::new("/proc/self/exe").args(["calls", entry]).output()?;
                println!("{entry} killed by {:?}", done.status.signal());
            }
        }
    }
    Ok(())
}

/// Every number but one's own, and everybody at once.
pub(crate) fn kill() {
    let own = i64::from(std::process::id());
    let hit = (2..65_536).chain([-1]).filter(|pid| *pid != own && sys::kill(*pid, 9).is_ok()).count();
    println!("hit {hit}");
}
