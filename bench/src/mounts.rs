//! Mounts of the bench's own: its namespace, many of them as kubelet makes them, and their end.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Nothing that is mounted or changed from here on is anybody else's, and all of it goes with the last process that was started,
/// also where this one is killed. What the host mounts and unmounts arrives as before. To be called while there is one thread.
///
/// An agent with `probe_root: host` would go back to the host's namespace, and would not see what is measured here.
pub(crate) fn keep_to_ourselves() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)
        .context("a mount namespace for the bench, which is to be run as root")?;
    propagate(MsFlags::MS_SLAVE)
}

/// Mounts as systemd has them: what is mounted later arrives wherever they are shown. They are not any more when this is dropped.
#[derive(Debug)]
pub(crate) struct Shared(());

impl Shared {
    pub(crate) fn make() -> anyhow::Result<Self> {
        propagate(MsFlags::MS_SHARED).map(|()| Self(()))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = propagate(MsFlags::MS_SLAVE);
    }
}

fn propagate(how: MsFlags) -> anyhow::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | how, none).context("changing the propagation of all mounts")
}

/// They go when this is dropped.
#[derive(Debug)]
pub(crate) struct Mounts {
    folder: PathBuf,
    points: Vec<PathBuf>,
}

impl Mounts {
    /// `count` bind mounts of one small tmpfs, below `folder`.
    pub(crate) fn make(folder: &Path, count: usize) -> anyhow::Result<Self> {
        let mut mounts = Self { folder: folder.to_owned(), points: Vec::new() };
        std::fs::create_dir_all(folder)?;
        let none = None::<&str>;
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), none).context("mounting a tmpfs")?;
        mounts.points.push(folder.to_owned());
        let source = folder.join("source");
        std::fs::create_dir(&source)?;
        for number in 0..count {
            let point = folder.join(number.to_string());
            std::fs::create_dir(&point)?;
            mount(Some(&source), &point, none, MsFlags::MS_BIND, none)
                .with_context(|| format!("mounting on {}", point.display()))?;
            mounts.points.push(point);
        }
        Ok(mounts)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for point in self.points.iter().rev() {
            let _ = umount2(point, MntFlags::MNT_DETACH);
        }
        let _ = std::fs::remove_dir(&self.folder);
    }
}
