//! Many mounts on the host, as kubelet makes them, and their end.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The host's mounts as systemd has them: what is mounted later arrives wherever they are shown. They are private again when this is
/// dropped, if they were.
#[derive(Debug)]
pub(crate) struct Shared {
    were_private: bool,
}

impl Shared {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let table = std::fs::read_to_string("/proc/self/mountinfo")?;
        let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/")).context("no root")?;
        let shared = Self { were_private: !root.contains(" shared:") };
        if shared.were_private {
            propagate(MsFlags::MS_SHARED)?;
        }
        Ok(shared)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.were_private {
            let _ = propagate(MsFlags::MS_PRIVATE);
        }
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
