//! A capture that is being written. It stands in a folder of its own among the temporary ones, and is moved to its place as a
//! whole when all of it is on the disk: a crash leaves all of it or, once the leftovers are removed, nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zstd::stream::write::Encoder;

use super::disk::{Folder, RECORD, file_name, remove_tree};
use super::record::{LARGEST, Observed, Part, Record};
use crate::model::{RunId, Stream};

/// zstd's own default, which is as fast as a disk.
const LEVEL: i32 = 3;
/// log2 of how far back a repetition is found, in bytes: with 256 KiB one stream takes some 1 MiB of memory.
pub(super) const WINDOW: u32 = 18;
/// What is no longer than this is compressed at the end, when its length is known: the tables for a stream of any length are
/// a megabyte, which takes ten times as long to make ready as a small output to compress.
const SMALL: usize = 64 * 1024;
/// What the file system takes besides the compressed bytes: the folder, the record, two beginnings of blocks.
pub(super) const BESIDES: u64 = 4 * 4096;

/// What a draft has become.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) record: Record,
    /// Bytes on the disk.
    pub(super) size: u64,
    /// There was one of this id already, and it stays.
    pub(super) existed: bool,
}

#[derive(Debug)]
pub(super) struct Draft {
    folder: Folder,
    id: RunId,
    place: PathBuf,
    sinks: [Sink; 2],
}

struct Sink {
    observed: Observed,
    /// What has come so far, while it is [`SMALL`].
    small: Vec<u8>,
    /// Made when it is not small any more.
    encoder: Option<Encoder<'static, Tally>>,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("bytes", &self.observed.bytes).finish_non_exhaustive()
    }
}

/// A file that knows how much was written to it.
struct Tally {
    file: File,
    bytes: u64,
}

impl Write for Tally {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Draft {
    pub(super) fn begin(folder: &Folder, id: &RunId) -> io::Result<Self> {
        let place = folder.tmp().join(id.as_str());
        // Of an earlier try.
        remove_tree(&place)?;
        DirBuilder::new().mode(0o700).create(&place)?;
        let sink = || Sink { observed: Observed::default(), small: Vec::new(), encoder: None };
        Ok(Self { folder: folder.clone(), id: id.clone(), place, sinks: [sink(), sink()] })
    }

    pub(super) fn write(&mut self, stream: Stream, piece: &[u8]) -> io::Result<()> {
        let [stdout, stderr] = &mut self.sinks;
        let sink = if stream == Stream::Stdout { stdout } else { stderr };
        if piece.is_empty() {
            return Ok(());
        }
        match &mut sink.encoder {
            Some(encoder) => encoder.write_all(piece)?,
            None if sink.small.len() + piece.len() <= SMALL => sink.small.extend_from_slice(piece),
            none => {
                let encoder = none.insert(encoder(&self.place.join(file_name(stream)), None)?);
                encoder.write_all(&std::mem::take(&mut sink.small))?;
                encoder.write_all(piece)?;
            }
        }
        sink.observed.see(piece);
        Ok(())
    }

    /// Bytes that it takes on the disk by now, or soon.
    pub(super) fn size(&self) -> u64 {
        let written = |sink: &Sink| {
            sink.encoder.as_ref().map_or(sink.small.len() as u64, |encoder| encoder.get_ref().bytes)
        };
        self.sinks.iter().map(written).sum::<u64>() + BESIDES
    }

    /// Brings all of it to the disk and moves it to its place.
    pub(super) fn commit(mut self, mut record: Record) -> io::Result<Committed> {
        let mut size = 0;
        let mut parts = [Part::default(), Part::default()];
        for ((sink, part), stream) in
            self.sinks.iter_mut().zip(&mut parts).zip([Stream::Stdout, Stream::Stderr])
        {
            let mut compressed = 0;
            if !sink.small.is_empty() {
                let length = Some(sink.small.len() as u64);
                let encoder = sink.encoder.insert(encoder(&self.place.join(file_name(stream)), length)?);
                encoder.write_all(&std::mem::take(&mut sink.small))?;
            }
            if let Some(encoder) = sink.encoder.take() {
                let tally = encoder.finish()?;
                tally.file.sync_all()?;
                compressed = tally.bytes;
                size += tally.file.metadata()?.blocks() * 512;
            }
            *part = std::mem::take(&mut sink.observed).part(compressed);
        }
        record.complete(parts);
        let mut text = serde_json::to_vec(&record)?;
        text.push(b'\n');
        if text.len() as u64 > LARGEST {
            return Err(io::Error::other(format!("the record has more than {LARGEST} bytes")));
        }
        let mut file = create(&self.place.join(RECORD))?;
        file.write_all(&text)?;
        file.sync_all()?;
        size += file.metadata()?.blocks() * 512;
        let place = File::open(&self.place)?;
        place.sync_all()?;
        size += place.metadata()?.blocks() * 512;
        let existed = match fs::rename(&self.place, self.folder.place(&self.id)) {
            Ok(()) => false,
            // A folder that is not empty is not replaced (rename(2)).
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                true
            }
            Err(error) => return Err(error),
        };
        if let Err(error) = File::open(self.folder.path()).and_then(|folder| folder.sync_all()) {
            // What may be gone after a power cut must not be taken for kept.
            if !existed {
                let _ = self.folder.remove(&self.id);
            }
            return Err(error);
        }
        Ok(Committed { record, size, existed })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a commit it is not there any more. What cannot be removed now is removed at the next start.
        let _ = remove_tree(&self.place);
    }
}

/// Of a stream of this length, or of one of which nobody knows the length.
fn encoder(path: &Path, length: Option<u64>) -> io::Result<Encoder<'static, Tally>> {
    let mut encoder = Encoder::new(Tally { file: create(path)?, bytes: 0 }, LEVEL)?;
    encoder.window_log(WINDOW)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(length)?;
    Ok(encoder)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
