//! What a configuration's check asks of the machine: where a program is, and the node's name. Tests answer for it.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use sha2::{Digest as _, Sha256};

use super::root::ProbeRoot;

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
    /// It is in a place that this process has no right to look at.
    Unseen,
}

pub(super) struct Host<'a> {
    pub(super) look: &'a dyn Fn(ProbeRoot, &str) -> ProgramFile,
    pub(super) node: &'a str,
}

impl Host<'_> {
    /// The absolute path of `program`, or what is wrong with it.
    pub(super) fn find(&self, root: ProbeRoot, program: &str) -> Result<PathBuf, String> {
        if program.starts_with('/') {
            return match (self.look)(root, program) {
                ProgramFile::Executable | ProgramFile::Unseen => Ok(program.into()),
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
            match (self.look)(root, &path) {
                ProgramFile::Executable => return Ok(path.into()),
                // By its name alone, which whoever can see it will look for.
                ProgramFile::Unseen => return Ok(program.into()),
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

/// What a path leads to, by where its links lead and by what is at each place on the way there.
pub(super) fn judged(
    path: &Path,
    real: impl Fn(&Path) -> Option<PathBuf>,
    about: impl Fn(&Path) -> Option<Stat>,
) -> ProgramFile {
    match about(path) {
        Some(file) if kind(&file) == FileType::RegularFile && file.st_mode & 0o111 != 0 => {
            let safe = real(path).is_some_and(|real| {
                real.ancestors().all(|part| about(part).as_ref().is_some_and(is_roots_alone))
            });
            if safe { ProgramFile::Executable } else { ProgramFile::Unsafe }
        }
        Some(_) => ProgramFile::NotExecutable,
        None => ProgramFile::Missing,
    }
}

/// Whether root alone can change it. In a sticky folder such as /tmp nobody can replace what is root's.
fn is_roots_alone(about: &Stat) -> bool {
    const STICKY: u32 = 0o1000;
    let sticky = kind(about) == FileType::Directory && about.st_mode & STICKY != 0;
    about.st_uid == 0 && (about.st_mode & 0o022 == 0 || sticky)
}

fn kind(about: &Stat) -> FileType {
    FileType::from_raw_mode(about.st_mode)
}

/// The node's name: the one that a pod is told by its manifest, else as `uname -n` prints it, which is the pod's in a pod.
pub fn node_name() -> String {
    if let Some(name) = std::env::var("PARACHUTE_NODE_NAME").ok().filter(|name| !name.is_empty()) {
        return name;
    }
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::root;
    use super::*;

    fn look(path: &str) -> ProgramFile {
        root::look(ProbeRoot::Image, path)
    }

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
