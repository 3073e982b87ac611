//! A folder that is one agent's: root's alone, and no other agent's at the same time.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use rustix::fs::FlockOperation;

/// Makes it if it is not there, and makes sure that nobody else can write in it. True if it was made. `what` and `flag`
/// are for the messages.
pub(super) fn make(folder: &Path, what: &str, flag: &str) -> anyhow::Result<bool> {
    let shown = folder.display();
    let made = match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
        Err(error) => bail!("the {what} {shown} cannot be made: {error}; name another by {flag}"),
    };
    // A link would be followed to wherever its owner likes.
    let about = fs::symlink_metadata(folder).with_context(|| format!("the {what} {shown}"))?;
    ensure!(about.is_dir(), "the {what} {shown} is no folder; name another by {flag}");
    ensure!(
        about.uid() == 0 && about.mode() & 0o022 == 0,
        "the {what} {shown} must belong to root and be writable by root alone: \
         sudo chown root {shown} && sudo chmod 700 {shown}"
    );
    Ok(made)
}

/// Locked as long as the fd is open, however that ends.
pub(super) fn lock(folder: &Path, what: &str, flag: &str) -> anyhow::Result<OwnedFd> {
    let shown = folder.display();
    let lock: OwnedFd = File::open(folder).with_context(|| format!("opening {shown}"))?.into();
    ensure!(
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        "another agent has its {what} in {shown}; give this one a folder of its own by {flag}"
    );
    Ok(lock)
}
