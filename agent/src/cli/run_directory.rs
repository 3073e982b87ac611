//! The folder of a running agent's sockets: `agent.sock` answers what the agent's HTTP addresses do, `launcher.sock` hands
//! out the template. Root's alone.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::own_folder;
use crate::http::ListenAddress;

const DEFAULT: &str = "/run/parachute";

/// Which folder is meant.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RunDirectory {
    /// Folder of the agent's sockets; without this /run/parachute.
    #[arg(long = "run-directory", id = "run_directory", value_name = "DIR", env = "PARACHUTE_RUN_DIRECTORY")]
    named: Option<PathBuf>,
}

impl RunDirectory {
    /// For a completion, which has no command line of its own.
    pub(super) fn from_environment() -> Self {
        Self { named: std::env::var_os("PARACHUTE_RUN_DIRECTORY").map(PathBuf::from) }
    }

    pub(super) fn path(&self) -> &Path {
        self.named.as_deref().unwrap_or(Path::new(DEFAULT))
    }

    /// Takes it for an agent. One that nobody named is done without if it cannot be had: the agent's work does not need it.
    pub(super) fn hold(&self) -> anyhow::Result<Option<Held>> {
        match Held::take(self.path()) {
            Ok(held) => Ok(Some(held)),
            Err(error) if self.named.is_none() => {
                tracing::warn!(error = %super::told(&error), "`parachute exec` and `ps` will not find this agent");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Where the agent answers.
    pub(super) fn agent(&self) -> ListenAddress {
        ListenAddress::Unix(self.path().join("agent.sock"))
    }
}

/// The folder as an agent holds it; removed with the agent if that has made it and nothing is left in it.
#[derive(Debug)]
pub(super) struct Held {
    folder: PathBuf,
    /// Locked as long as the agent lives, however that ends.
    _lock: OwnedFd,
    made: bool,
}

impl Held {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder if it is not there, and makes sure that no other agent serves in it.
    pub(super) fn take(folder: &Path) -> anyhow::Result<Self> {
        let made = own_folder::make(folder, "run directory", "--run-directory")?;
        let lock = own_folder::lock(folder, "run directory", "--run-directory")?;
        Ok(Self { folder: folder.to_owned(), made, _lock: lock })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.made {
            // It stays if something else is in it.
            let _ = std::fs::remove_dir(&self.folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_others_could_change_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("run");
        drop(Held::take(&folder).unwrap());
        assert!(!folder.exists(), "it goes with the agent");

        std::fs::create_dir(&folder).unwrap();
        drop(Held::take(&folder).unwrap());
        assert!(folder.exists(), "it was there before");
        std::fs::remove_dir(&folder).unwrap();

        let held = Held::take(&folder).unwrap();
        std::fs::write(folder.join("other"), "").unwrap();
        assert!(
            Held::take(&folder).unwrap_err().to_string().starts_with("another agent has its run directory")
        );
        drop(held);
        assert!(folder.exists(), "somebody's file is in it");

        let open = temporary.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let link = temporary.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        for (path, part) in [(&open, "writable by root alone"), (&link, "is no folder")] {
            let error = Held::take(path).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(
            Held::take(&temporary.path().join("a/b")).unwrap_err().to_string().contains("cannot be made")
        );
    }
}
