//! What a configuration's check asks of the machine: where a program is, and the node's name. Tests answer for it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

/// Where a command without a slash is looked for. Fixed: the agent's own PATH must not choose what runs as root.
pub const PROGRAM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProgramFile {
    Missing,
    NotExecutable,
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

/// Looks at the real file system.
pub(super) fn look(path: &str) -> ProgramFile {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => ProgramFile::Executable,
        Ok(_) => ProgramFile::NotExecutable,
        Err(_) => ProgramFile::Missing,
    }
}

/// The node's name as `uname -n` prints it.
pub fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
