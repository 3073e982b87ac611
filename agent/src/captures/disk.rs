//! The folder: where a capture is, what makes it a whole one, and how it goes. For the agent, and for the command line
//! without one. No link is followed, and nothing is read before it is known to be a file of a bounded size.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::record::{LARGEST, Record};
use crate::model::{RunId, Stream};

pub(super) const RECORD: &str = "record.json";
const TMP: &str = "tmp";
const ASIDE: &str = "set-aside";
/// What makes a file system's own folder at the root of one; nobody's mistake.
const LOST: &str = "lost+found";
/// Of what is set aside, so many entries are looked at to see how large it is.
const MOST_LOOKED_AT: usize = 10_000;

/// What may be wrong with a capture.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("there is no such capture")]
    Missing,
    #[error("it is damaged: {0}")]
    Corrupt(String),
    #[error("it is no capture: {0}")]
    Foreign(String),
    #[error("it has version {0} of the record, which a later parachute has written")]
    FutureVersion(u64),
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl Fault {
    /// Label values of `parachute_capture_set_aside_total`.
    pub const ASIDE: [&'static str; 3] = ["corrupt", "foreign", "future_version"];

    /// Why it is set aside, if it is.
    pub fn aside(&self) -> Option<&'static str> {
        match self {
            Self::Corrupt(_) => Some("corrupt"),
            Self::Foreign(_) => Some("foreign"),
            Self::FutureVersion(_) => Some("future_version"),
            Self::Missing | Self::Io(_) => None,
        }
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Why there can be no captures in a folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("the captures' folder {path} cannot be made: {source}")]
    Make { path: PathBuf, source: io::Error },
    #[error("the captures' folder {path} cannot be looked at: {source}")]
    Look { path: PathBuf, source: io::Error },
    #[error("the captures' folder {0} is no folder; name another by --storage.path")]
    NoFolder(PathBuf),
    #[error(
        "the captures' folder {path} must belong to root and be writable by root alone: \
         sudo chown root {path} && sudo chmod 700 {path}"
    )]
    Shared { path: PathBuf },
    #[error("another agent keeps its captures in {0}; give this one a folder of its own by --storage.path")]
    InUse(PathBuf),
}

impl FolderError {
    /// What the system said, where it did.
    pub(super) fn source_error(&self) -> Option<&io::Error> {
        match self {
            Self::Make { source, .. } | Self::Look { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A whole capture as it was found.
#[derive(Debug)]
pub struct Found {
    pub record: Record,
    /// Bytes that it takes on the disk.
    pub size: u64,
}

/// A folder of captures.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.0.join(TMP)
    }

    pub(super) fn place(&self, id: &RunId) -> PathBuf {
        self.0.join(id.as_str())
    }

    /// Makes it if it is not there, and refuses one that others could change.
    pub(super) fn prepare(&self) -> Result<(), FolderError> {
        for path in [self.0.clone(), self.tmp()] {
            let made = DirBuilder::new().mode(0o700).recursive(path == self.0).create(&path);
            match made {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(FolderError::Make { path, source: error });
                }
                _ => trusted(&path)?,
            }
        }
        Ok(())
    }

    /// Refuses one that others could change.
    pub fn check(&self) -> Result<(), FolderError> {
        trusted(&self.0)
    }

    /// Every name in it that may be a capture, right or not; those of the folder's own use are left out.
    pub(super) fn names(&self) -> io::Result<impl Iterator<Item = io::Result<OsString>>> {
        let own = |name: &OsStr| [TMP, ASIDE, LOST].iter().any(|own| name == *own);
        let entries = fs::read_dir(&self.0)?.map(|entry| entry.map(|entry| entry.file_name()));
        Ok(entries.filter(move |name| name.as_ref().map_or(true, |name| !own(name))))
    }

    /// The ids of all that may be captures, newest first.
    pub fn ids(&self) -> io::Result<Vec<RunId>> {
        let mut ids = Vec::new();
        for name in self.names()? {
            ids.extend(name?.to_str().and_then(RunId::parse));
        }
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    /// Whether there is something of this id. No look at whether it is whole: what is in this place was moved there whole.
    pub(super) fn has(&self, id: &RunId) -> bool {
        fs::symlink_metadata(self.place(id).join(RECORD)).is_ok()
    }

    /// Reads a capture's record and checks that its files are those that it speaks of.
    pub fn look(&self, id: &RunId) -> Result<Found, Fault> {
        let folder = self.open(id)?;
        let record = read_record(&folder, id)?;
        let blocks = |stat: rustix::fs::Stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        let mut size = blocks(rustix::fs::fstat(&folder)?);
        size += blocks(statat(&folder, RECORD, AtFlags::SYMLINK_NOFOLLOW)?);
        for stream in Stream::BOTH {
            let (name, part) = (file_name(stream), record.part(stream));
            match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => {
                    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                    let length = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                    if !is_file || part.bytes == 0 || length != part.compressed_bytes {
                        return Err(Fault::Corrupt(format!("{name} is not what the record says")));
                    }
                    size += blocks(stat);
                }
                Err(Errno::NOENT) if part.bytes == 0 => {}
                Err(Errno::NOENT) => return Err(Fault::Corrupt(format!("{name} is missing"))),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Found { record, size })
    }

    /// A capture's record, and one of its streams as it is on disk; none where nothing was printed to it.
    pub(super) fn stream(&self, id: &RunId, stream: Stream) -> Result<(Record, Option<File>), Fault> {
        let folder = self.open(id)?;
        let record = read_record(&folder, id)?;
        if record.part(stream).bytes == 0 {
            return Ok((record, None));
        }
        let file = open_file(&folder, file_name(stream))?;
        Ok((record, Some(file)))
    }

    fn open(&self, id: &RunId) -> Result<OwnedFd, Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(self.place(id), flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => Fault::Missing,
            Errno::NOTDIR | Errno::LOOP => Fault::Foreign("it is no folder".into()),
            errno => errno.into(),
        })
    }

    /// Removes a capture, so that at no instant there is half of one; false if it was not there.
    pub fn remove(&self, id: &RunId) -> io::Result<bool> {
        // It is only there without an agent if none has ever run.
        match DirBuilder::new().mode(0o700).create(self.tmp()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let going = self.tmp().join(format!("{id}.gone"));
        // Of an earlier try that did not come to its end.
        remove_tree(&going)?;
        match fs::rename(self.place(id), &going) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        remove_tree(&going)?;
        Ok(true)
    }

    /// Moves what is no good capture out of the way and says what it is called there and how large it is.
    pub(super) fn set_aside(&self, name: &OsStr, why: &str) -> io::Result<Aside> {
        let folder = self.0.join(ASIDE);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // The time in front tells when; the whole is a file's name, of 255 bytes at most.
        let mut to = format!("{}.{why}.", RunId::fresh()).into_bytes();
        to.extend(name.as_bytes().iter().take(200));
        let to = OsString::from_vec(to);
        fs::rename(self.0.join(name), folder.join(&to))?;
        let size = tree_size(&folder.join(&to));
        Ok(Aside { since: super::index::time(&RunId::fresh()), name: to, size })
    }

    /// What was set aside before, and by whom we do not ask.
    pub(super) fn aside(&self) -> io::Result<Vec<Aside>> {
        let entries = match fs::read_dir(self.0.join(ASIDE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let stamp = name.as_bytes().get(..29).and_then(|text| std::str::from_utf8(text).ok());
            let since = match stamp.and_then(RunId::parse) {
                Some(id) => super::index::time(&id),
                None => u64::try_from(entry.metadata()?.ctime()).unwrap_or(0) * 1000,
            };
            all.push(Aside { since, size: tree_size(&entry.path()), name });
        }
        Ok(all)
    }

    pub(super) fn remove_aside(&self, name: &OsStr) -> io::Result<()> {
        remove_tree(&self.0.join(ASIDE).join(name))
    }
}

/// Something that was set aside.
#[derive(Debug)]
pub(super) struct Aside {
    /// Milliseconds since 1970.
    pub(super) since: u64,
    pub(super) name: OsString,
    /// Bytes on the disk.
    pub(super) size: u64,
}

pub(super) fn file_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout.zst",
        Stream::Stderr => "stderr.zst",
    }
}

fn trusted(path: &Path) -> Result<(), FolderError> {
    let about =
        fs::symlink_metadata(path).map_err(|source| FolderError::Look { path: path.to_owned(), source })?;
    // A link would be followed to wherever its owner likes.
    if !about.is_dir() {
        return Err(FolderError::NoFolder(path.to_owned()));
    }
    if about.uid() != 0 || about.mode() & 0o022 != 0 {
        return Err(FolderError::Shared { path: path.to_owned() });
    }
    Ok(())
}

fn read_record(folder: &OwnedFd, id: &RunId) -> Result<Record, Fault> {
    let file = open_file(folder, RECORD)?;
    let length = file.metadata()?.len();
    if length > LARGEST {
        return Err(Fault::Corrupt(format!("{RECORD} has {length} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    let record = Record::parse(&bytes)?;
    if record.id != *id {
        return Err(Fault::Corrupt(format!("{RECORD} is that of {}", record.id)));
    }
    Ok(record)
}

fn open_file(folder: &OwnedFd, name: &str) -> Result<File, Fault> {
    // Without NONBLOCK a FIFO would be waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Err(Fault::Corrupt(format!("{name} is missing"))),
        Err(Errno::LOOP | Errno::NXIO) => return Err(Fault::Corrupt(format!("{name} is no file"))),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(Fault::Corrupt(format!("{name} is no file")));
    }
    Ok(file)
}

/// Bytes that this takes on the disk, links not followed.
fn tree_size(path: &Path) -> u64 {
    let mut size = 0;
    let mut waiting = vec![path.to_owned()];
    let mut looked_at = 0;
    while let Some(path) = waiting.pop() {
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        size += about.blocks() * 512;
        looked_at += 1;
        if about.is_dir() && looked_at < MOST_LOOKED_AT {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(entries.take(MOST_LOOKED_AT - looked_at).map(|entry| entry.path()));
        }
    }
    size
}

/// Removes a folder or whatever stands in its place; nothing there is as well.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
