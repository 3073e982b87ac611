//! Numbers that come round: a container's init with a pid of one's choice, which the kernel lets the host's root have.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::sys;

/// New mount, pid and network namespaces, as a runtime makes them.
const NAMESPACES: u64 = 0x0002_0000 | 0x2000_0000 | 0x4000_0000;

/// Starts an init with number `pid` in a cgroup and in namespaces of its own, and waits for its end.
pub(crate) fn take(pid: i64, cgroup: &str, id: &str) -> io::Result<()> {
    let failed = io::Error::from_raw_os_error;
    let child = sys::fork_as(pid, NAMESPACES).map_err(failed)?;
    if child == 0 {
        // 0 is whoever writes it.
        fs::write(format!("{cgroup}/cgroup.procs"), "0")?;
        return Err(Command::new("/proc/self/exe").args(["stay", id]).exec());
    }
    sys::wait(child).map(drop).map_err(failed)
}

/// An init that can be told from every other: by its words in its pid namespace, by a socket in its network namespace.
pub(crate) fn stay(id: &str) -> io::Result<()> {
    let _socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(id)?)?;
    crate::sleep()
}
