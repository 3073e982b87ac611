//! Reading a stream back: all of it or a part, never more in memory than a window. Whoever reads to the end learns whether
//! it is what was written.

use std::fs::File;
use std::io::{self, BufReader, Read};

use sha2::{Digest as _, Sha256};
use zstd::stream::read::Decoder;

use super::disk::{Fault, Folder};
use super::draft::WINDOW;
use super::record::{Record, hex};
use crate::model::{RunId, Stream};

/// So much is skipped at once.
const PIECE: usize = 16 * 1024;

/// What is done with the news that a stream is not what its record says.
pub(super) type Tell = Box<dyn FnOnce(String) + Send + Sync>;

/// One stream of a capture, from a byte on and up to one.
pub struct StreamReader {
    decoder: Option<Decoder<'static, BufReader<File>>>,
    digest: Sha256,
    expected: String,
    /// Raw bytes of the whole stream, and how many of them have come.
    length: u64,
    seen: u64,
    /// Which of them are handed out.
    from: u64,
    to: u64,
    tell: Option<Tell>,
}

impl std::fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReader")
            .field("length", &self.length)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// Opens a stream at the byte `from` for `most` bytes, or to its end.
pub(super) fn open(
    folder: &Folder,
    id: &RunId,
    stream: Stream,
    (from, most): (u64, Option<u64>),
    tell: Option<Tell>,
) -> Result<(Record, StreamReader), Fault> {
    let (record, file) = folder.stream(id, stream)?;
    let part = record.part(stream);
    let decoder = match file {
        None => None,
        Some(file) => {
            let mut decoder = Decoder::new(file)?;
            // What needs more was not written here.
            decoder.window_log_max(WINDOW)?;
            Some(decoder)
        }
    };
    let to = most.map_or(part.bytes, |most| from.saturating_add(most).min(part.bytes));
    let reader = StreamReader {
        decoder,
        digest: Sha256::default(),
        expected: part.sha256.clone(),
        length: part.bytes,
        seen: 0,
        from: from.min(to),
        to,
        tell,
    };
    Ok((record, reader))
}

impl Folder {
    /// One stream of a capture, all of it, and its record; for who has the folder and no agent. Of damage nobody is told but
    /// the reader.
    pub fn read(&self, id: &RunId, stream: Stream) -> Result<(Record, StreamReader), Fault> {
        open(self, id, stream, (0, None), None)
    }
}

impl StreamReader {
    /// Raw bytes of the whole stream.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The next raw bytes; at the stream's end they are only handed out if all of it is what was written.
    fn pull(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(decoder) = &mut self.decoder else { return Ok(0) };
        let got = match decoder.read(into) {
            Ok(got) => got,
            // An error of the system's is of the disk, and none of the file's.
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            Err(error) => return Err(self.damaged(format!("it cannot be unpacked: {error}"))),
        };
        self.seen += got as u64;
        self.digest.update(into.get(..got).unwrap_or_default());
        if got == 0 && self.seen < self.length {
            return Err(self.damaged(format!("it ends after {} of {} bytes", self.seen, self.length)));
        }
        if self.seen >= self.length {
            let more = decoder.read(&mut [0]);
            let whole = self.seen == self.length && matches!(more, Ok(0));
            if !whole || hex(&std::mem::take(&mut self.digest).finalize()) != self.expected {
                return Err(self.damaged("it is not what its digest was made of".into()));
            }
            self.decoder = None;
        }
        Ok(got)
    }

    fn damaged(&mut self, what: String) -> io::Error {
        self.decoder = None;
        if let Some(tell) = self.tell.take() {
            tell(what.clone());
        }
        io::Error::new(io::ErrorKind::InvalidData, what)
    }
}

impl Read for StreamReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.seen < self.from {
            let mut skipped = [0; PIECE];
            let most = usize::try_from(self.from - self.seen).unwrap_or(PIECE).min(PIECE);
            if self.pull(skipped.get_mut(..most).unwrap_or_default())? == 0 {
                return Ok(0);
            }
        }
        let most = usize::try_from(self.to.saturating_sub(self.seen)).unwrap_or(usize::MAX).min(into.len());
        if most == 0 {
            return Ok(0);
        }
        self.pull(into.get_mut(..most).unwrap_or_default())
    }
}
