//! Makes an owned fd awaitable. It stands in this room because tokio rightly calls that unsafe for fds in general.

#![allow(
    unsafe_code,
    reason = "AsyncFd::register is unsafe for types whose fd may change or close; an OwnedFd's cannot"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Watches `fd` for readiness with the running tokio runtime.
pub fn watch(fd: impl Into<OwnedFd>) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, is closed by its drop alone, always answers the same number, and is owned by the
    // AsyncFd from here on.
    unsafe { AsyncFd::register(fd.into()) }.map_err(io::Error::from)
}
