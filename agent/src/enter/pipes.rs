//! Reading a command's output: never more than a cap, never blocking a runtime thread.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::mpsc;

use super::watch::watch;
use crate::model::Stream;

/// Read in pieces of this many bytes: most commands print no more than the first of them, and the other is the default capacity
/// of a pipe (pipe(7)).
const FIRST: usize = 4 * 1024;
const PIECE: usize = 64 * 1024;

/// A pipe whose read end is non-blocking for tokio; the write end stays blocking for the command.
pub(super) fn capture_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((read, write))
}

/// Where the pieces of a run's output go besides the agent's own memory. Sending waits for a slow taker, which holds up the
/// command as any full pipe would; one that has gone is sent nothing more.
pub type Copies = mpsc::Sender<(Stream, Bytes)>;

/// Output of one stream, filled as it comes so that a reader that is given up keeps what it had.
#[derive(Debug)]
pub(super) struct Capped {
    pub bytes: Vec<u8>,
    /// The command wrote more than the cap.
    pub truncated: bool,
    stream: Stream,
    /// Bytes that came, up to the cap; as many as are in `bytes` only where they are held.
    seen: usize,
    hold: bool,
    copies: Option<Copies>,
}

impl Capped {
    pub(super) fn new(stream: Stream, hold: bool, copies: Option<Copies>) -> Self {
        Self { bytes: Vec::new(), truncated: false, stream, seen: 0, hold, copies }
    }

    async fn take(&mut self, piece: &[u8]) {
        self.seen += piece.len();
        if self.hold {
            self.bytes.extend_from_slice(piece);
        }
        if let Some(copies) = &self.copies
            && copies.send((self.stream, Bytes::copy_from_slice(piece))).await.is_err()
        {
            self.copies = None;
        }
    }
}

/// Reads until the end of the stream or until there is one byte more than `cap`. What is there already is read at once: a pipe is
/// watched only if it has more to say, by a descriptor of its own. This one stays open: a command that has printed too much is to be
/// ended, and not by SIGPIPE.
pub(super) async fn read_capped(pipe: &OwnedFd, cap: usize, into: &mut Capped) -> io::Result<()> {
    let mut buffer = Vec::new();
    if read_all_there(pipe, cap, &mut buffer, into).await? {
        return Ok(());
    }
    let pipe = watch(pipe.try_clone()?)?;
    loop {
        let mut ready = pipe.readable().await?;
        if read_all_there(pipe.get_ref(), cap, &mut buffer, into).await? {
            return Ok(());
        }
        ready.clear_ready();
    }
}

/// Reads what there is at the moment; true when there will be no more, or it is too much.
async fn read_all_there(
    pipe: &OwnedFd,
    cap: usize,
    buffer: &mut Vec<u8>,
    into: &mut Capped,
) -> io::Result<bool> {
    loop {
        let got = match read_piece(pipe, PIECE.min(cap.saturating_add(1)), buffer) {
            Ok(0) => return Ok(true),
            Ok(got) => got,
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let room = cap - into.seen;
        into.truncated = got > room;
        into.take(&buffer[..got.min(room)]).await;
        if into.truncated {
            return Ok(true);
        }
        if got == buffer.len() {
            buffer.resize(PIECE, 0);
        }
    }
}

/// Most pipes end without a byte: there is no buffer before there is one.
fn read_piece(pipe: &OwnedFd, most: usize, buffer: &mut Vec<u8>) -> rustix::io::Result<usize> {
    if buffer.is_empty() {
        let mut first = [0; FIRST];
        let got = rustix::io::read(pipe, &mut first[..FIRST.min(most)])?;
        if got > 0 {
            buffer.extend_from_slice(&first);
        }
        return Ok(got);
    }
    let most = most.min(buffer.len());
    rustix::io::read(pipe, &mut buffer[..most])
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn capped(written: usize, cap: usize, mut into: Capped) -> Capped {
        let (read, write) = capture_pipe().unwrap();
        let writer = tokio::task::spawn_blocking(move || {
            // A closed pipe is how the reader says that it has enough.
            let _ = io::Write::write_all(&mut std::fs::File::from(write), &vec![b'x'; written]);
        });
        read_capped(&read, cap, &mut into).await.unwrap();
        drop(read);
        writer.await.unwrap();
        into
    }

    #[tokio::test]
    async fn the_cap_is_exact() {
        for (written, cap, kept, truncated) in [
            (0, 10, 0, false),
            (10, 10, 10, false),
            (11, 10, 10, true),
            (1 << 20, 300_000, 300_000, true),
            (5, 0, 0, true),
        ] {
            let got = capped(written, cap, Capped::new(Stream::Stdout, true, None)).await;
            assert_eq!(
                (got.bytes.len(), got.truncated),
                (kept, truncated),
                "{written} bytes under a cap of {cap}"
            );
        }
    }

    #[tokio::test]
    async fn a_copy_is_exact_without_being_held_and_one_that_nobody_takes_ends_alone() {
        let (copies, mut taken) = mpsc::channel::<(Stream, Bytes)>(1);
        let taker = tokio::spawn(async move {
            let mut all = 0;
            while let Some((stream, piece)) = taken.recv().await {
                assert_eq!(stream, Stream::Stderr);
                all += piece.len();
            }
            all
        });
        let got = capped(1 << 20, 300_000, Capped::new(Stream::Stderr, false, Some(copies))).await;
        assert!(got.truncated && got.bytes.is_empty());
        drop(got);
        assert_eq!(taker.await.unwrap(), 300_000);

        let (copies, taken) = mpsc::channel(1);
        drop(taken);
        let got = capped(200_000, 300_000, Capped::new(Stream::Stdout, true, Some(copies))).await;
        assert_eq!((got.bytes.len(), got.truncated), (200_000, false));
    }
}
