//! One capture to the store: its streams, and then its record, so that a record's presence there means a whole capture. A
//! second time overwrites with the same.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Attribute, Attributes, MultipartUpload, PutMultipartOptions, PutOptions};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::pending::MARKER;
use super::store::{Destination, reason};
use crate::model::RunId;

/// What is longer goes in parts of this many bytes, one at a time, and only that is in memory. S3 takes no smaller ones
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
const PART: u64 = 5 << 20;
/// How long a store may take to throw the parts of an upload away that was not finished.
const ABORT: Duration = Duration::from_secs(1);

/// In this order; the streams may be missing, as nothing may have been printed.
const FILES: [(&str, &str); 3] = [
    ("stdout.zst", "application/zstd"),
    ("stderr.zst", "application/zstd"),
    ("record.json", "application/json"),
];

#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("it cannot be read: {0}")]
    Local(Errno),
    #[error(transparent)]
    Store(#[from] object_store::Error),
    #[error("the store takes too long for one capture")]
    Slow,
    /// The agent ends.
    #[error("stopped")]
    Stopped,
}

impl SendError {
    /// One of [`super::REASONS`].
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Store(error) => reason(error),
            Self::Slow | Self::Stopped => "unreachable",
        }
    }
}

/// What is sent.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) folder: PathBuf,
    pub(super) id: RunId,
}

/// Sends a capture, marks it as sent and says how many bytes that took.
pub(super) async fn capture(
    source: Source,
    to: &Destination,
    stop: &CancellationToken,
) -> Result<u64, SendError> {
    let id = source.id.clone();
    // All are open before the first is sent: one that is removed meanwhile is whole there all the same.
    let (folder, files) = blocking(move || open(&source)).await?;
    let mut sent = 0;
    for (name, kind, file) in files {
        let object = to.object(&id, name);
        let attributes = Attributes::from_iter([(Attribute::ContentType, kind)]);
        sent += send(file, to, &object, attributes, stop).await?;
    }
    let marked = blocking(move || {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&folder, MARKER, flags, Mode::RUSR | Mode::WUSR).map_err(SendError::Local)
    });
    if let Err(error) = marked.await {
        // A full disk, or one that has gone: the next start sends it again, which does no harm.
        tracing::debug!(capture = %id, %error, "a capture is uploaded and cannot be marked so");
    }
    Ok(sent)
}

type Opened = (OwnedFd, Vec<(&'static str, &'static str, File)>);

fn open(source: &Source) -> Result<Opened, SendError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(&source.folder, flags | OFlags::DIRECTORY, Mode::empty());
    let folder = folder.map_err(SendError::Local)?;
    let mut files = Vec::new();
    for (name, kind) in FILES {
        // Without NONBLOCK a FIFO would be waited for.
        let file = match openat(&folder, name, flags | OFlags::NONBLOCK, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) if name != "record.json" => continue,
            Err(errno) => return Err(SendError::Local(errno)),
        };
        if !file.metadata().is_ok_and(|about| about.is_file()) {
            return Err(SendError::Local(Errno::INVAL));
        }
        files.push((name, kind, file));
    }
    Ok((folder, files))
}

async fn send(
    file: File,
    to: &Destination,
    object: &Path,
    attributes: Attributes,
    stop: &CancellationToken,
) -> Result<u64, SendError> {
    let file = Arc::new(file);
    let length = file.metadata().map_err(local)?.len();
    if length <= PART {
        let whole = read(&file, 0, length).await?;
        let options = PutOptions { attributes, ..PutOptions::default() };
        until(stop, to.store().put_opts(object, whole.into(), options)).await?;
        return Ok(length);
    }
    let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
    let mut upload = until(stop, to.store().put_multipart_opts(object, options)).await?;
    let done = parts(&file, length, upload.as_mut(), stop).await;
    if done.is_err() {
        // What this cannot reach is for the bucket's own rule on unfinished uploads.
        let _ = tokio::time::timeout(ABORT, upload.abort()).await;
    }
    done.map(|()| length)
}

async fn parts(
    file: &Arc<File>,
    length: u64,
    upload: &mut dyn MultipartUpload,
    stop: &CancellationToken,
) -> Result<(), SendError> {
    let mut at = 0;
    while at < length {
        let size = PART.min(length - at);
        let part = read(file, at, size).await?;
        until(stop, upload.put_part(part.into())).await?;
        at += size;
    }
    until(stop, upload.complete()).await?;
    Ok(())
}

async fn read(file: &Arc<File>, at: u64, size: u64) -> Result<Bytes, SendError> {
    let file = Arc::clone(file);
    blocking(move || {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        file.read_exact_at(&mut bytes, at).map_err(local)?;
        Ok(bytes.into())
    })
    .await
}

/// Away from the thread that serves the agent's clients: a disk may be slow.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SendError> + Send + 'static,
) -> Result<T, SendError> {
    spawn_blocking(work).await.unwrap_or(Err(SendError::Stopped))
}

fn local(error: std::io::Error) -> SendError {
    SendError::Local(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

async fn until<T>(
    stop: &CancellationToken,
    asked: impl Future<Output = object_store::Result<T>>,
) -> Result<T, SendError> {
    tokio::select! {
        () = stop.cancelled() => Err(SendError::Stopped),
        done = asked => Ok(done?),
    }
}
