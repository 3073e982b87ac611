//! Bytes and descriptors over a socket (unix(7), SCM_RIGHTS), where nothing may be allocated.

#![allow(unsafe_code, reason = "system calls between a fork and an exec; DESIGN, law 4")]

use rustix_core::fd::{FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_uint};

use crate::calls::errno;
use crate::steps::RECORD;

/// Most descriptors in one message.
pub const MOST_FDS: usize = 24;

/// Bytes of a control message that carries so many (cmsg(3)).
#[allow(clippy::cast_possible_truncation, reason = "less than 100 bytes")]
// SAFETY: arithmetic on a number.
const ROOM: usize = unsafe { libc::CMSG_SPACE((MOST_FDS * size_of::<c_int>()) as c_uint) } as usize;

/// Room for descriptors beside a message, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Beside([u8; ROOM]);

/// Sends one message; at most [`MOST_FDS`] descriptors go with it.
pub(crate) fn send(socket: RawFd, bytes: &[u8], fds: &[RawFd]) -> Result<c_int, i32> {
    let mut beside = Beside([0; ROOM]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let length = c_uint::try_from(size_of_val(fds)).unwrap_or(c_uint::MAX);
    if fds.len() > MOST_FDS {
        return Err(libc::EINVAL);
    }
    // SAFETY: zeroes are a valid `msghdr`; everything that it is made to point to is on this stack or the caller's and
    // outlives the call, which does not write to it; `beside` holds the head and as many descriptors as were checked.
    unsafe {
        let mut message: libc::msghdr = core::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if !fds.is_empty() {
            message.msg_control = beside.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(length) as _;
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            if head.is_null() {
                return Err(libc::EINVAL);
            }
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(length) as _;
            core::ptr::copy_nonoverlapping(
                fds.as_ptr().cast::<u8>(),
                libc::CMSG_DATA(head),
                size_of_val(fds),
            );
        }
        if libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) < 0 {
            return Err(errno());
        }
    }
    Ok(0)
}

/// Sends the launcher a record.
pub(crate) fn say(socket: RawFd, record: [i32; 2], fds: &[RawFd]) -> Result<c_int, i32> {
    let mut bytes = [0; RECORD];
    for (place, byte) in bytes.iter_mut().zip(record.into_iter().flat_map(i32::to_ne_bytes)) {
        *place = byte;
    }
    send(socket, &bytes, fds)
}

/// Receives one message into `bytes`, with the descriptors beside it; gives back its length, 0 at the other end's close.
/// `flags` are recvmsg(2)'s.
pub(crate) fn receive(
    socket: RawFd,
    bytes: &mut [u8],
    flags: c_int,
) -> Result<(usize, [Option<OwnedFd>; MOST_FDS]), i32> {
    let mut fds = [const { None }; MOST_FDS];
    let mut beside = Beside([0; ROOM]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: zeroes are a valid `msghdr`; what it points to outlives the call. A head is looked at only where the kernel says
    // that there is one; behind it stand as many descriptors as its length says, which are this process's from now on
    // and which nobody else knows of.
    unsafe {
        let mut message: libc::msghdr = core::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = beside.0.as_mut_ptr().cast();
        message.msg_controllen = ROOM as _;
        let got = libc::recvmsg(socket, &raw mut message, flags | libc::MSG_CMSG_CLOEXEC);
        let Ok(got) = usize::try_from(got) else { return Err(errno()) };
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        if !head.is_null() && (*head).cmsg_level == libc::SOL_SOCKET && (*head).cmsg_type == libc::SCM_RIGHTS
        {
            #[allow(clippy::unnecessary_cast, reason = "the type differs between C libraries")]
            let length = ((*head).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            for (n, place) in fds.iter_mut().enumerate().take(length / size_of::<c_int>()) {
                let mut fd: c_int = -1;
                let from = libc::CMSG_DATA(head).add(n * size_of::<c_int>());
                core::ptr::copy_nonoverlapping(from, (&raw mut fd).cast::<u8>(), size_of::<c_int>());
                *place = Some(OwnedFd::from_raw_fd(fd));
            }
        }
        Ok((got, fds))
    }
}
