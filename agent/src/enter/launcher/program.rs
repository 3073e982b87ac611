//! The check of a program right before it runs: whoever can change it could run anything with its rights.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::model::End;

/// The program at `path` below `root`, opened and checked; none for a script, whose interpreter opens it by its path. A
/// script is as safe as a program: the configuration's check has looked at who may write in the folders above it.
pub(super) fn checked(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, End> {
    let failed =
        |errno: rustix::io::Errno| End::EnterFailed { step: "exec".into(), errno: errno.raw_os_error() };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file: File = openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).map_err(failed)?.into();
    let about = file.metadata().map_err(|_| failed(rustix::io::Errno::IO))?;
    if !about.is_file() || about.uid() != 0 || about.mode() & 0o022 != 0 {
        let path = path.display();
        let reason =
            format!("{path} can be changed by others than root; chown root {path} && chmod go-w {path}");
        return Err(End::Refused { reason });
    }
    let mut head = [0; 2];
    let is_script = (&file).read(&mut head).is_ok_and(|read| read == 2) && head == *b"#!";
    Ok((!is_script).then(|| file.into()))
}
