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
    /// For a completion, which has no command line of its own.
    pub(super) fn from_environment() -> Self {
        Self { named: std::env::var_os("PARACHUTE_STORAGE_PATH").map(PathBuf::from) }
    }

    pub(super) fn path(&self) -> &Path {
        self.named.as_deref().unwrap_or(Path::new(DEFAULT))
    }

    /// The captures in it.
    pub(super) fn captures(&self) -> PathBuf {
        self.path().join("captures")
    }

    /// Takes it for an agent. A disk that cannot be written must not keep the agent from its work: it is said, and tried
    /// again whenever something is to be kept. A folder that others can change, or that another agent has, is refused if
    /// it was named, and else done without.
    pub(super) fn hold(&self) -> anyhow::Result<Held> {
        const WHAT: &str = "storage folder";
        const FLAG: &str = "--storage.path";
        let held =
            own_folder::make(self.path(), WHAT, FLAG).and_then(|_| own_folder::lock(self.path(), WHAT, FLAG));
        match held {
            Ok(lock) => Ok(Held { folder: Some(self.path().to_owned()), lock: Some(lock) }),
            Err(error) if !self.path().exists() => {
                tracing::error!(error = %super::told(&error), "nothing is kept until this can be made");
                Ok(Held { folder: Some(self.path().to_owned()), lock: None })
            }
            Err(error) if self.named.is_none() => {
                tracing::error!(error = %super::told(&error), "no capture is kept, and runs for alerts do not survive a restart");
                Ok(Held { folder: None, lock: None })
            }
            Err(error) => Err(error),
        }
    }
}

/// The folder as an agent holds it.
#[derive(Debug)]
pub(super) struct Held {
    /// None if there is none that is safe.
    pub(super) folder: Option<PathBuf>,
    /// Locked as long as the agent lives, however that ends.
    #[allow(dead_code, reason = "it is held, and not looked at but by a test")]
    lock: Option<OwnedFd>,
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
        assert!(held.lock.is_some());
        assert!(storage("good").hold().unwrap_err().to_string().contains("another agent"));
        let later = storage("no/where").hold().unwrap();
        assert!(later.lock.is_none() && later.folder.is_some());
        std::fs::create_dir(temporary.path().join("open")).unwrap();
        let everybodys = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(temporary.path().join("open"), everybodys).unwrap();
        assert!(storage("open").hold().unwrap_err().to_string().contains("root alone"));
    }
}
