//! Reading the files that say who may ask. Whoever can change one of them can let himself in, so that each must be root's;
//! and each is remembered as it was when it was read, so that a change is seen without reading it again.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::WebError;

/// A bundle of some hundred authorities is smaller.
const MAX_BYTES: u64 = 1024 * 1024;

/// What others may do with a file, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// Read it: certificates.
    Public,
    /// Nothing: keys and tokens.
    Secret,
}

/// By which a file is known to be the same one with the same content: device, inode, size, and both times in ns.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i64, i64, i64, i64);

impl Stamp {
    fn of(about: &Metadata) -> Self {
        let (written, changed) = (about.mtime_nsec(), about.ctime_nsec());
        Self(about.dev(), about.ino(), about.size(), about.mtime(), written, about.ctime(), changed)
    }
}

/// The files of one attempt to read, each with its stamp; none for one that could not be opened.
#[derive(Debug, Default)]
pub(in crate::http) struct Files(Vec<(PathBuf, Option<Stamp>)>);

impl Files {
    pub(super) fn read(&mut self, path: &Path, care: Care) -> Result<Vec<u8>, WebError> {
        let shown = path.display().to_string();
        let failed = |source| WebError::Read { path: shown.clone(), source };
        // A pipe at this path would otherwise be waited for.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file: Result<(File, Metadata), _> =
            opened.and_then(|file| file.metadata().map(|about| (file, about)));
        self.0.push((path.to_owned(), file.as_ref().ok().map(|(_, about)| Stamp::of(about))));
        let (file, about) = file.map_err(failed)?;
        if !about.is_file() || about.len() > MAX_BYTES {
            return Err(WebError::NoFile(shown));
        }
        if about.uid() != 0 || about.mode() & 0o022 != 0 {
            return Err(WebError::Writable(shown));
        }
        if care == Care::Secret && about.mode() & 0o077 != 0 {
            return Err(WebError::Shared(shown));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    pub(super) fn text(&mut self, path: &Path, care: Care) -> Result<String, WebError> {
        let bytes = self.read(path, care)?;
        String::from_utf8(bytes).map_err(|_| WebError::NoText(path.display().to_string()))
    }

    /// Some calls of stat(2): cheap enough for every connection.
    pub(in crate::http) fn changed(&self) -> bool {
        self.0
            .iter()
            .any(|(path, stamp)| std::fs::metadata(path).ok().map(|about| Stamp::of(&about)) != *stamp)
    }

    /// True if root alone can read it: the six bits of group and others are not set.
    pub(super) fn is_private(path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|about| about.mode().trailing_zeros() >= 6)
    }
}
