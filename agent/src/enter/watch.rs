//! Makes an owned fd awaitable. It stands in this room because tokio rightly calls that unsafe for fds in general.

#![allow(
    unsafe_code,
    reason = "AsyncFd::register is unsafe for types whose fd may change or close; an OwnedFd's cannot"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `fd` with the running tokio runtime for what can be read from it, and for its end.
pub fn watch(fd: impl Into<OwnedFd>) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd.into(), Interest::READABLE)
}

/// Watches it for room to write. Each message that the other end of a socket takes makes some, and wakes whoever watches for it: so
/// only a socket whose queue is full is watched for that.
pub(super) fn watch_for_room(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::WRITABLE)
}

fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, is closed by its drop alone, always answers the same number, and is owned by the
    // AsyncFd from here on.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}
