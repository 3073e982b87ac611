//! Answers getpid(2) for an observer's processes, always with 1. Tools such as ps look themselves up under the number
//! that getpid gives, in a /proc that is the container's: number 1 always exists there, the number of a shell's child need
//! not. So `ps | wc -l` works. System calls only, as in `stub`, whose loop this is a part of.

#![allow(unsafe_code, reason = "runs in the stub; DESIGN, law 4")]

use std::os::fd::RawFd;

use libc::c_int;

use super::observer::Beside;

/// The stub's end of what it hears from the command's processes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hearing {
    /// The command is to send its listener over this socket.
    Waiting(RawFd),
    /// seccomp's listener.
    Listening(RawFd),
    Nothing,
}

impl Hearing {
    /// What to poll; -1 is left out by poll(2).
    pub(super) fn fd(self) -> RawFd {
        match self {
            Self::Waiting(fd) | Self::Listening(fd) => fd,
            Self::Nothing => -1,
        }
    }

    /// Does what there is to do after poll(2) has said these events.
    pub(super) fn turn(self, events: libc::c_short) -> Self {
        match self {
            Self::Waiting(socket) => {
                let listener = receive_fd(socket);
                close_unless(listener.is_some(), socket);
                // The socket stays open: it is how the command sees that this process lives.
                listener.map_or(Self::Nothing, Self::Listening)
            }
            Self::Listening(listener) if events & libc::POLLIN != 0 => {
                answer(listener);
                self
            }
            // POLLHUP: nobody is left to whom the filter applies (Linux 5.8).
            Self::Listening(listener) => {
                close_unless(false, listener);
                Self::Nothing
            }
            Self::Nothing => Self::Nothing,
        }
    }
}

fn close_unless(keep: bool, fd: RawFd) {
    if !keep {
        // SAFETY: this process's own descriptor, which is not used again.
        unsafe { libc::close(fd) };
    }
}

/// One call of getpid(2), whoever made it.
fn answer(listener: RawFd) {
    // SAFETY: zeroes are valid for both structs, which the kernel reads and writes as long as the request codes say; it
    // refuses a notification that does not fit (SECCOMP_IOCTL_NOTIF_RECV, seccomp_unotify(2)).
    unsafe {
        let mut asked: libc::seccomp_notif = std::mem::zeroed();
        if libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) < 0 {
            // The caller was killed before it was heard.
            return;
        }
        let mut told: libc::seccomp_notif_resp = std::mem::zeroed();
        told.id = asked.id;
        told.val = 1;
        libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut told);
    }
}

fn receive_fd(socket: RawFd) -> Option<RawFd> {
    let mut byte = [0u8];
    let mut beside = Beside([0; 24]);
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: zeroes are a valid `msghdr`; what it points to is on this stack and outlives the call; the head is looked at
    // only where the kernel says that there is one, and four bytes follow it for one descriptor.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = beside.0.as_mut_ptr().cast();
        message.msg_controllen = 24;
        if libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) != 1 {
            return None;
        }
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        if head.is_null() || (*head).cmsg_type != libc::SCM_RIGHTS {
            return None;
        }
        let mut fd: c_int = -1;
        std::ptr::copy_nonoverlapping(libc::CMSG_DATA(head), (&raw mut fd).cast::<u8>(), 4);
        Some(fd)
    }
}
