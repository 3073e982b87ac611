//! Many mounts on the host, as kubelet makes them, and their end.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

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
