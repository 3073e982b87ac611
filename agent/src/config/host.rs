//! What a configuration's check asks of the machine: where a program is, and the node's name. Tests answer for it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Where a command without a slash is looked for. Fixed: the agent's own PATH must not choose what runs as root.
pub const PROGRAM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProgramFile {
    Missing,
    NotExecutable,
    /// Others than root could put another program in its place.
    Unsafe,
    Executable,
}

pub(super) struct Host<'a> {
    pub(super) look: &'a dyn Fn(&str) -> ProgramFile,
    pub(super) node: &'a str,
}

impl Host<'_> {
    /// The absolute path of `program`, or what is wrong with it.
    pub(super) fn find(&self, program: &str) -> Result<PathBuf, String> {
        if program.starts_with('/') {
            return match (self.look)(program) {
                ProgramFile::Executable => Ok(program.into()),
                ProgramFile::NotExecutable => {
                    Err(format!("{program} is not an executable file; chmod +x it"))
                }
                ProgramFile::Unsafe => Err(others(program)),
                ProgramFile::Missing => Err(format!("{program} does not exist on this host; install it")),
            };
        }
        if program.contains('/') {
            return Err(format!(
                "{program:?} is a relative path; write an absolute one, or a name without a slash"
            ));
        }
        let mut passed_over = None;
        for directory in PROGRAM_PATH.split(':') {
            let path = format!("{directory}/{program}");
            match (self.look)(&path) {
                ProgramFile::Executable => return Ok(path.into()),
                ProgramFile::NotExecutable => passed_over = Some(path),
                // It is what would be found, so that looking further would hide it.
                ProgramFile::Unsafe => return Err(others(&path)),
                ProgramFile::Missing => {}
            }
        }
        Err(match passed_over {
            Some(path) => format!("{path} is not an executable file; chmod +x it"),
            None => format!(
                "{program:?} is not in {PROGRAM_PATH} on this host; install it or write its full path"
            ),
        })
    }

    pub(super) fn hash(&self, trigger: &str) -> u64 {
        node_hash(self.node, trigger)
    }
}

/// The same number on the same node for the same trigger, spread evenly over nodes and triggers. It must not change
/// between versions, or every update would move a fleet's schedules.
pub fn node_hash(node: &str, trigger: &str) -> u64 {
    let digest = Sha256::new().chain_update(node).chain_update([0]).chain_update(trigger).finalize();
    digest.iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
}

fn others(path: &str) -> String {
    format!(
        "{path} or a folder above it can be changed by others than root, and it runs with root's rights; \
         chown root and chmod go-w what others own"
    )
}

/// Looks at the real file system.
pub(super) fn look(path: &str) -> ProgramFile {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
            if is_roots_alone(Path::new(path)) { ProgramFile::Executable } else { ProgramFile::Unsafe }
        }
        Ok(_) => ProgramFile::NotExecutable,
        Err(_) => ProgramFile::Missing,
    }
}

/// Whether root alone can change the file, or what lies at its path. In a sticky folder such as /tmp nobody can replace what
/// is root's.
fn is_roots_alone(path: &Path) -> bool {
    const STICKY: u32 = 0o1000;
    let Ok(real) = path.canonicalize() else { return false };
    real.ancestors().all(|part| {
        std::fs::metadata(part).is_ok_and(|about| {
            about.uid() == 0 && (about.mode() & 0o022 == 0 || (about.is_dir() && about.mode() & STICKY != 0))
        })
    })
}

/// The node's name as `uname -n` prints it.
pub fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn a_program_that_others_can_change_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let path = program.to_str().unwrap();
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        assert_eq!(look(path), ProgramFile::NotExecutable);
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for (folder_mode, file_mode, expected) in [
            (0o700, 0o755, ProgramFile::Executable),
            (0o700, 0o775, ProgramFile::Unsafe),
            (0o700, 0o757, ProgramFile::Unsafe),
            (0o777, 0o755, ProgramFile::Unsafe),
            (0o1777, 0o755, ProgramFile::Executable),
        ] {
            mode(folder.path(), folder_mode);
            mode(&program, file_mode);
            assert_eq!(look(path), expected, "{folder_mode:o} {file_mode:o}");
        }
        mode(folder.path(), 0o700);
        std::os::unix::fs::chown(&program, Some(1000), None).unwrap();
        assert_eq!(look(path), ProgramFile::Unsafe);
    }
}
