//! Which devices an observer may open: those of its own root, and no others. It reaches the container's files below
//! `/proc/PID/root`, where a container with MKNOD, which it has by default, can leave a node of any device of the host's.
//! That container may not open it, because of the runtime's rule for its cgroup; the observer is in another cgroup.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use agent_ebpf::{DEVICES_PROGRAM, MEMORY_DEVICES, OBSERVERS_MINORS};
use aya::programs::{CgroupAttachMode, CgroupDevice, ProgramError};
use aya::{Ebpf, EbpfError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::ebpf_loader;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/parachute-devices"));

#[derive(Debug, thiserror::Error)]
pub(super) enum RuleError {
    #[error("this build holds no eBPF program")]
    NoProgram,
    #[error(transparent)]
    Load(#[from] EbpfError),
    #[error(transparent)]
    Attach(#[from] ProgramError),
    #[error("{0}")]
    Folder(#[from] io::Error),
}

/// A rule that holds for a folder of cgroups and all below it; with a program, as long as this value lives.
#[derive(Debug)]
pub(super) enum Rule {
    /// On cgroup v2, also beside v1.
    Program { _attached: Box<Ebpf> },
    /// The `devices` controller of cgroup v1.
    Controller,
}

impl Rule {
    /// To be put in place before there are cgroups below `folder`: on v1 they begin with a copy of its rule.
    pub(super) fn place(folder: &Path, unified: bool) -> Result<Self, RuleError> {
        if unified { load(folder) } else { write(folder) }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Program { .. } => "an eBPF program",
            Self::Controller => "the devices controller",
        })
    }
}

fn load(folder: &Path) -> Result<Rule, RuleError> {
    if OBJECT.is_empty() {
        return Err(RuleError::NoProgram);
    }
    let folder = fs::File::open(folder)?;
    // Before Linux 5.11 programs are charged to RLIMIT_MEMLOCK, together with the agent's maps, which are of the same
    // user. It is lowered again, because commands inherit it. Where it may not be raised the load may still work.
    let before = getrlimit(Resource::Memlock);
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    let loaded = ebpf_loader().load(OBJECT).map_err(RuleError::from).and_then(|mut ebpf| {
        let program: &mut CgroupDevice =
            ebpf.program_mut(DEVICES_PROGRAM).ok_or(RuleError::NoProgram)?.try_into()?;
        program.load()?;
        // A link, which the kernel lets stand beside others' programs by itself, and which takes no flags.
        program.attach(&folder, CgroupAttachMode::Single)?;
        Ok(Rule::Program { _attached: Box::new(ebpf) })
    });
    let _ = setrlimit(Resource::Memlock, before);
    loaded
}

fn write(folder: &Path) -> Result<Rule, RuleError> {
    // To read and write, not to make.
    let known = OBSERVERS_MINORS.map(|minor| format!("c {MEMORY_DEVICES}:{minor} rw"));
    fs::write(folder.join("devices.deny"), "a")?;
    known.iter().try_for_each(|device| fs::write(folder.join("devices.allow"), device))?;
    Ok(Rule::Controller)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::super::view::DEVICES;
    use super::*;

    #[test]
    fn the_rule_knows_the_devices_of_an_observers_root() {
        let known = OBSERVERS_MINORS.map(|minor| libc::makedev(MEMORY_DEVICES, minor));
        assert_eq!(DEVICES.map(|name| fs::metadata(Path::new("/dev").join(name)).unwrap().rdev()), known);
    }
}
