//! Processes that the configuration names by files with their number in them. Who writes such a file is heard of by
//! inotify(7); nothing is polled.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::enter::watch;

/// A file that was just made may be empty for a moment, and a busy folder has much to say.
const SETTLED: Duration = Duration::from_millis(50);

/// The files that are watched.
#[derive(Debug)]
pub struct PidFiles {
    paths: Vec<PathBuf>,
    inotify: AsyncFd<OwnedFd>,
    /// Something was said of one of the files, and nobody has been told.
    untold: bool,
}

impl PidFiles {
    /// `None` where there is none to watch.
    pub fn watch(paths: &[PathBuf]) -> io::Result<Option<Self>> {
        if paths.is_empty() {
            return Ok(None);
        }
        let inotify = watch(init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?)?;
        let files = Self { paths: paths.to_vec(), inotify, untold: false };
        files.arm();
        Ok(Some(files))
    }

    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Returns when one of the files may have been made, written, replaced or removed. Dropping the future loses nothing.
    pub async fn changed(&mut self) -> io::Result<()> {
        while !self.untold {
            let mut ready = self.inotify.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(self.inotify.get_ref(), &mut buffer);
            loop {
                match reader.next() {
                    // A full queue does not say what was lost, and a folder that has gone has no name.
                    Ok(event) => {
                        let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
                        self.untold |= name.is_none_or(|name| is_on_the_way(&self.paths, &name));
                    }
                    Err(Errno::WOULDBLOCK) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
        }
        tokio::time::sleep(SETTLED).await;
        self.untold = false;
        self.arm();
        Ok(())
    }

    /// Watches each file's folder or, as long as that is not there, the nearest above it. A folder that is watched already
    /// stays so.
    fn arm(&self) {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        for path in &self.paths {
            let mut folders = path.ancestors().skip(1);
            if !folders.any(|folder| add_watch(self.inotify.get_ref(), folder, flags).is_ok()) {
                tracing::error!(path = %path.display(), "a pid file cannot be watched: its process is found at a reload alone");
            }
        }
    }
}

fn is_on_the_way(paths: &[PathBuf], name: &str) -> bool {
    paths.iter().any(|path| path.iter().any(|part| part == name))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::read_pid_file as read;

    /// Sticky folders such as /tmp let others make files beside ours: this stands in one that does not.
    fn folder() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("pt-").tempdir_in("/run").unwrap()
    }

    #[tokio::test]
    async fn a_file_is_heard_of_when_it_is_made_written_put_in_place_or_removed() {
        let folder = folder();
        let below = folder.path().join("below");
        let path = below.join("app.pid");
        let mut files = PidFiles::watch(std::slice::from_ref(&path)).unwrap().unwrap();
        let soon = Duration::from_secs(5);
        fs::create_dir(&below).unwrap();
        tokio::time::timeout(soon, files.changed()).await.unwrap().unwrap();
        fs::write(&path, "1\n").unwrap();
        tokio::time::timeout(soon, files.changed()).await.unwrap().unwrap();
        let fresh = folder.path().join("fresh");
        fs::write(&fresh, "2\n").unwrap();
        fs::rename(&fresh, &path).unwrap();
        tokio::time::timeout(soon, files.changed()).await.unwrap().unwrap();
        assert_eq!(read(&path).ok(), Some(2));
        fs::remove_file(&path).unwrap();
        tokio::time::timeout(soon, files.changed()).await.unwrap().unwrap();
        fs::write(below.join("other"), "").unwrap();
        tokio::time::timeout(Duration::from_millis(200), files.changed()).await.unwrap_err();
        assert!(PidFiles::watch(&[]).unwrap().is_none());
    }
}
