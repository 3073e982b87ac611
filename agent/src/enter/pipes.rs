//! Reading a command's output: never more than a cap, never blocking a runtime thread.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::unix::AsyncFd;

/// Read in pieces of this many bytes: the default capacity of a pipe (pipe(7)).
const PIECE: usize = 64 * 1024;

/// A pipe whose read end is non-blocking for tokio; the write end stays blocking for the command.
pub(super) fn capture_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((read, write))
}

/// Output of one stream, filled as it comes so that a reader that is given up keeps what it had.
#[derive(Debug, Default)]
pub(super) struct Capped {
    pub bytes: Vec<u8>,
    /// The command wrote more than the cap.
    pub truncated: bool,
}

/// Reads until the end of the stream or until there is one byte more than `cap`.
pub(super) async fn read_capped(pipe: &AsyncFd<OwnedFd>, cap: usize, into: &mut Capped) -> io::Result<()> {
    let mut piece = vec![0; PIECE.min(cap.saturating_add(1))];
    loop {
        let mut ready = pipe.readable().await?;
        let got = match ready.try_io(|fd| rustix::io::read(fd.get_ref(), &mut piece).map_err(io::Error::from))
        {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(got)) => got,
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => continue,
        };
        let room = cap - into.bytes.len();
        into.bytes.extend_from_slice(&piece[..got.min(room)]);
        if got > room {
            into.truncated = true;
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::watch::watch;
    use super::*;

    async fn capped(written: usize, cap: usize) -> Capped {
        let (read, write) = capture_pipe().unwrap();
        let writer = tokio::task::spawn_blocking(move || {
            // A closed pipe is how the reader says that it has enough.
            let _ = io::Write::write_all(&mut std::fs::File::from(write), &vec![b'x'; written]);
        });
        let mut into = Capped::default();
        {
            let pipe = watch(read).unwrap();
            read_capped(&pipe, cap, &mut into).await.unwrap();
        }
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
            let got = capped(written, cap).await;
            assert_eq!(
                (got.bytes.len(), got.truncated),
                (kept, truncated),
                "{written} bytes under a cap of {cap}"
            );
        }
    }
}
