//! Where an agent keeps what must outlive it: captures, and the runs that alerts have asked for.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::own_folder;

const DEFAULT: &str = "/var/lib/parachute";

/// Which folder is meant.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Storage {
    /// Folder of captures and of what is still to be run; without this /var/lib/parachute. Root's alone.
    #[arg(long = "storage.path", id = "storage_path", value_name = "DIR", env = "PARACHUTE_STORAGE_PATH")]
    named: Option<PathBuf>,
}

impl Storage {
    pub(super) fn path(&self) -> &Path {
        self.named.as_deref().unwrap_or(Path::new(DEFAULT))
    }

    /// The captures in it.
    pub(super) fn captures(&self) -> PathBuf {
        self.path().join("captures")
    }

    /// Takes it for an agent. A disk that cannot be written must not keep the agent from its work: without a folder nothing
    /// is kept, and that is said. One that others can change, or that another agent has, is refused if it was named.
    pub(super) fn hold(&self) -> anyhow::Result<Option<OwnedFd>> {
        const WHAT: &str = "storage folder";
        const FLAG: &str = "--storage.path";
        let held =
            own_folder::make(self.path(), WHAT, FLAG).and_then(|_| own_folder::lock(self.path(), WHAT, FLAG));
        match held {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if self.named.is_none() || !self.path().exists() => {
                tracing::error!(error = %super::told(&error), "no capture is kept, and runs for alerts do not survive a restart");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_is_not_safe_is_refused_and_one_that_cannot_be_made_is_done_without() {
        let temporary = tempfile::tempdir().unwrap();
        let storage = |path: &str| Storage { named: Some(temporary.path().join(path)) };
        let held = storage("good").hold().unwrap();
        assert!(held.is_some());
        assert!(storage("good").hold().unwrap_err().to_string().contains("another agent"));
        assert!(storage("no/where").hold().unwrap().is_none());
        std::fs::create_dir(temporary.path().join("open")).unwrap();
        let everybodys = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(temporary.path().join("open"), everybodys).unwrap();
        assert!(storage("open").hold().unwrap_err().to_string().contains("root alone"));
    }
}
