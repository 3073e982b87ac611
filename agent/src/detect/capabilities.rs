//! What of the kernel this room needs is lacking, each tried once; see `enter::capabilities` for the others.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};

use super::Hierarchies;
use crate::enter::handle;
use crate::model::Capability;

/// What is tried in here.
const OURS: [Capability; 5] = [
    Capability::BpfRawTracepoint,
    Capability::BpfCgroupId,
    Capability::BpfRingBuffer,
    Capability::KernelBtf,
    Capability::CgroupById,
];

/// What this kernel lacks. To be called with all rights.
pub fn lacking() -> Vec<Capability> {
    OURS.into_iter().filter(|capability| !has(*capability)).collect()
}

fn has(capability: Capability) -> bool {
    match capability {
        Capability::BpfRawTracepoint => is_program_supported(ProgramType::RawTracePoint).unwrap_or(false),
        Capability::BpfCgroupId => {
            let helper = BpfHelper::BPF_FUNC_get_current_cgroup_id;
            is_helper_supported(ProgramType::RawTracePoint, helper).unwrap_or(false)
        }
        Capability::BpfRingBuffer => is_map_supported(MapType::RingBuf).unwrap_or(false),
        Capability::KernelBtf => has_btf(),
        Capability::CgroupById => Hierarchies::find().is_ok_and(|hierarchies| hierarchies.finds_by_id()),
        _ => true,
    }
}

/// `btf_header.magic` (Documentation/bpf/btf.rst).
fn has_btf() -> bool {
    let mut magic = [0; 2];
    let read = File::open(super::btf::PATH).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && u16::from_ne_bytes(magic) == 0xeb9f
}

impl Hierarchies {
    /// Whether a cgroup is found by its id: the root is, if any is.
    fn finds_by_id(&self) -> bool {
        let root = self.file();
        root.metadata().is_ok_and(|about| handle::open_cgroup(root.as_fd(), about.ino()).is_ok())
    }
}
