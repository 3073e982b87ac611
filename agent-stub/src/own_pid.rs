//! Answers getpid(2) for an observer's processes, always with 1. Tools such as ps look themselves up under the number
//! that getpid gives, in a /proc that is the container's: number 1 always exists there, the number of a shell's child need
//! not. So `ps | wc -l` works. System calls only, as in `stub`, whose loop this is a part of.

#![allow(unsafe_code, reason = "runs in the stub; DESIGN, law 4")]

use rustix_core::fd::{IntoRawFd as _, OwnedFd, RawFd};

use crate::passing::receive;

/// The parent's end of what it hears from the command's processes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hearing {
    /// The command is to send its listener over this socket.
    Waiting(RawFd),
    /// seccomp's listener.
    Listening(RawFd),
    Nothing,
}

impl Hearing {
    /// What to poll; -1 is left out by poll(2).
    pub(crate) fn fd(self) -> RawFd {
        match self {
            Self::Waiting(fd) | Self::Listening(fd) => fd,
            Self::Nothing => -1,
        }
    }

    /// Does what there is to do after poll(2) has said these events.
    pub(crate) fn turn(self, events: libc::c_short) -> Self {
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
        let mut asked: libc::seccomp_notif = core::mem::zeroed();
        if libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) < 0 {
            // The caller was killed before it was heard.
            return;
        }
        let mut told: libc::seccomp_notif_resp = core::mem::zeroed();
        told.id = asked.id;
        told.val = 1;
        libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut told);
    }
}

/// The descriptor that came with a byte, if it has come.
fn receive_fd(socket: RawFd) -> Option<RawFd> {
    let (_, fds) = receive(socket, &mut [0], libc::MSG_DONTWAIT).ok()?;
    fds.into_iter().next().flatten().map(OwnedFd::into_raw_fd)
}
