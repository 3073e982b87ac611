//! A file that holds a process's number, as `targets: {pid_files: …}` names some. Agent and launcher each read it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// A number has ten digits at most; there may be a newline, and some write more lines.
const LONGEST: u64 = 128;
/// Why a file names no process; to be told to a person.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("{path} can be changed by others than root, who could name any process in it; chown root and chmod go-w", path = .0.display())]
    Unsafe(PathBuf),
    #[error("it does not begin with a process's number")]
    NoNumber,
}

/// The number in such a file. Others than root must not be able to choose it: they could have any process of the host's
/// looked into under this name.
pub fn read(path: &Path) -> Result<u32, PidFileError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from)?);
    let about = file.metadata()?;
    if !about.is_file() || about.uid() != 0 || about.mode() & 0o022 != 0 {
        return Err(PidFileError::Unsafe(path.to_owned()));
    }
    let folder = path.parent().unwrap_or(path).canonicalize()?;
    for part in folder.ancestors() {
        let about = part.metadata()?;
        if about.uid() != 0 || about.mode() & 0o022 != 0 {
            return Err(PidFileError::Unsafe(part.to_owned()));
        }
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    let number = text.split_whitespace().next().and_then(|word| word.parse().ok());
    number.filter(|number| *number > 0).ok_or(PidFileError::NoNumber)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Sticky folders such as /tmp let others make files beside ours: this stands in one that does not.
    fn folder() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("pt-").tempdir_in("/run").unwrap()
    }

    #[test]
    fn numbers_are_read_from_files_of_roots_alone() {
        let folder = folder();
        let path = folder.path().join("app.pid");
        for (text, number) in [
            ("4711\n", Some(4711)),
            ("4711", Some(4711)),
            (" 4711 more\nlines\n", Some(4711)),
            ("", None),
            ("0\n", None),
            ("-1\n", None),
            ("x\n", None),
            ("99999999999\n", None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path).ok(), number, "{text}");
        }
        fs::write(&path, "4711\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(read(&path), Err(PidFileError::Unsafe(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
        assert!(matches!(read(&path), Err(PidFileError::Unsafe(_))));
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(read(&path), Err(PidFileError::Unsafe(_))));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let link = folder.path().join("link.pid");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(read(&link), Err(PidFileError::Read(_))));
        assert!(matches!(read(Path::new("/nowhere/app.pid")), Err(PidFileError::Read(_))));
    }
}
