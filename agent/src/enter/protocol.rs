//! What agent and launcher say to each other: one JSON message per `SOCK_SEQPACKET` datagram, fds beside it. Pure
//! but for the two functions that send and receive.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Inspection;
use crate::model::{Capability, End, Limit, Way};

/// Largest datagram in bytes. The largest message is an `Inspected` with a path of at most 4 KiB (`PATH_MAX`), which a
/// container may choose so that JSON writes six bytes for each of it.
const MAX_MESSAGE: usize = 32 * 1024;
/// Longest text of an error that is sent, in bytes: a configuration's mistakes can be many.
const MAX_REASON: usize = 4 * 1024;
/// Most fds in one message: pidfd, stdout, stderr.
const MAX_FDS: usize = 3;

/// From the agent. `id` is chosen by the agent and comes back in the answer.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Ask {
    /// With one fd: the pidfd.
    Inspect { id: u64 },
    /// With three fds: the container's pidfd, and the write ends for stdout and stderr. There is no argv here: the
    /// launcher finds the command in the configuration that it has read itself.
    Run { id: u64, probe: String, trigger: String },
    /// End this run now.
    Cancel { id: u64 },
    /// Say that you live.
    Ping { id: u64 },
    /// Read the configuration file again and swap to it if its SHA-256 is this one.
    Reload { id: u64, digest: [u8; 32] },
}

/// From the launcher.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Answer {
    /// The first message: the configuration is read, template and slots stand.
    Ready {
        digest: [u8; 32],
        /// What the kernel lacks.
        lacks: Vec<Capability>,
    },
    /// The first message when they do not.
    Failed {
        reason: String,
    },
    Inspected {
        id: u64,
        inspection: Option<Inspection>,
    },
    Done {
        id: u64,
        end: End,
        /// Something of it has still not gone, and [`Answer::Unstuck`] follows when it has.
        stuck: bool,
        /// How it was led to the container, if it came so far.
        way: Option<Way>,
        limit: Option<Limit>,
    },
    Reloaded {
        id: u64,
        error: Option<String>,
    },
    Pong {
        id: u64,
    },
    /// A run that was answered as stuck has gone after all.
    Unstuck {
        id: u64,
    },
}

impl Answer {
    /// Of a run of which nothing was started.
    pub(super) fn not_begun(id: u64, end: End) -> Self {
        Self::Done { id, end, stuck: false, way: None, limit: None }
    }
}

/// An error's text as it may be sent: a message that is too long would look to its receiver like no message at all.
pub(super) fn reason(error: &impl std::fmt::Display) -> String {
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(MAX_REASON));
    text
}

/// Sends one message; the fds are duplicated into the receiver.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many fds for one message"));
    }
    sendmsg(socket, &[io::IoSlice::new(&body)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message. `None` means that the other end has closed.
///
/// # Errors
/// `WouldBlock` on a non-blocking socket with nothing to read; `InvalidData` for a message that is cut or unknown.
pub(super) fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    thread_local! {
        /// Made once: a message is taken out of it before the next one comes.
        static BODY: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_MESSAGE]);
    }
    BODY.with_borrow_mut(|body| receive_into(socket, body))
}

fn receive_into<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    body: &mut [u8],
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [io::IoSliceMut::new(body)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message was cut"));
    }
    let message = serde_json::from_slice(body.get(..got.bytes).unwrap_or_default())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((message, fds)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn a_message_arrives_with_its_fds_and_they_are_close_on_exec() {
        let (a, b) = pair();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let ask = Ask::Run { id: 7, probe: "sockets".into(), trigger: "cli".into() };
        send(a.as_fd(), &ask, &[write.as_fd()]).unwrap();
        let (got, fds): (Ask, _) = receive(b.as_fd()).unwrap().unwrap();
        assert_eq!(got, ask);
        assert_eq!(fds.len(), 1);
        assert!(rustix::io::fcntl_getfd(&fds[0]).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        rustix::io::write(&fds[0], b"x").unwrap();
        assert_eq!(rustix::io::read(&read, &mut [0; 4]).unwrap(), 1);
    }

    #[test]
    fn a_closed_end_an_unknown_message_and_a_cut_one_are_told_apart() {
        let (a, b) = pair();
        rustix::net::send(&a, br#"{"run":{"id":1,"argv":["sh"]}}"#, SendFlags::empty()).unwrap();
        assert_eq!(receive::<Ask>(b.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        // A message that ends too soon is no end of the stream.
        rustix::net::send(&a, br#"{"cancel":{"#, SendFlags::empty()).unwrap();
        assert_eq!(receive::<Ask>(b.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        rustix::net::send(&a, &vec![b' '; MAX_MESSAGE + 1], SendFlags::empty()).unwrap();
        assert_eq!(receive::<Ask>(b.as_fd()).unwrap_err().to_string(), "a message was cut");
        drop(a);
        assert!(receive::<Ask>(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn the_longest_texts_fit_whatever_is_in_them() {
        let (a, b) = pair();
        // A container's process stands in a folder of this name, and has a child.
        let inspection = Inspection {
            pid: u32::MAX,
            start_ticks: u64::MAX,
            pid_ns: u64::MAX,
            net_ns: u64::MAX,
            mnt_ns: u64::MAX,
            user_ns: u64::MAX,
            in_host_mnt_ns: false,
            in_host_net_ns: false,
            in_host_pid_ns: false,
            in_host_user_ns: false,
            inner_pid: u32::MAX,
            comm: "\u{1}".repeat(64),
            is_executor: false,
            parent: u32::MAX,
            parent_cwd: Some("\u{1}".repeat(4096).into()),
            cap_bounding: u64::MAX,
        };
        let reason = reason(&"\u{1}".repeat(100_000));
        for answer in [
            Answer::Inspected { id: u64::MAX, inspection: Some(inspection) },
            Answer::Reloaded { id: u64::MAX, error: Some(reason.clone()) },
            Answer::Failed { reason },
        ] {
            send(a.as_fd(), &answer, &[]).unwrap();
            assert_eq!(receive::<Answer>(b.as_fd()).unwrap().unwrap().0, answer);
        }
    }

    #[test]
    fn a_run_has_no_way_to_carry_a_command() {
        let text = r#"{"run":{"id":1,"probe":"p","trigger":"t","command":["sh"]}}"#;
        assert!(serde_json::from_str::<Ask>(text).is_err());
    }
}
