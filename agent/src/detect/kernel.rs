//! The agent's end of the exec tracepoint: load, attach, read records and losses, and the map of known cgroups.

use std::time::Duration;

use agent_ebpf::{
    COUNTERS, EVENTS, EVENTS_BYTES, ExecSeen, LOST, PROGRAM, Place, RECENT, RECORD_BYTES, SEEN, SUBMITTED,
    TRACEPOINT, WALK, WALKING_PROGRAM, place,
};
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::RawTracePoint;
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::hierarchy::Hierarchies;
use super::{DetectError, btf};
use crate::enter::ebpf_loader;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/parachute-exec"));

/// Records handed on at once. What is over it stays in the ring, which is the queue between kernel and agent.
const BATCH: usize = 256;

/// How long after the ring was nearly full its losses are read once more; see `Kernel::next`.
const RECHECK: Duration = Duration::from_millis(10);

/// The attached program's records. Dropping it detaches the program.
pub struct Kernel {
    ebpf: Ebpf,
    /// Which of the object's programs is attached.
    program: &'static str,
    ring: AsyncFd<RingBuf<MapData>>,
    counters: PerCpuArray<MapData, u64>,
    /// Totals that were already handed on.
    submitted: u64,
    lost: u64,
    /// Records read since the ring was last empty.
    since_empty: usize,
    recheck: bool,
}

/// What has come since the last batch.
#[derive(Debug, Default)]
pub struct Batch {
    pub records: Vec<ExecSeen>,
    /// Records that the kernel half wrote, and those it could not write, since the last batch.
    pub submitted: u64,
    pub lost: u64,
}

/// The kernel half's memory of cgroups.
pub struct Seen {
    known: HashMap<MapData, u64, u8>,
    recent: Array<MapData, Place>,
}

/// Loads the program and attaches it: from its return on, no first exec goes unnoticed.
pub fn attach() -> Result<(Kernel, Seen), DetectError> {
    attach_by(&Hierarchies::find()?)
}

/// The same, by the ids of these hierarchies.
pub fn attach_by(hierarchies: &Hierarchies) -> Result<(Kernel, Seen), DetectError> {
    if OBJECT.is_empty() {
        return Err(DetectError::NoProgram);
    }
    // Before Linux 5.11 maps are charged to RLIMIT_MEMLOCK, 64 KiB by default. Where it may not be raised it may
    // still be enough, and if not the error is that of the load.
    let unlimited = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
        tracing::debug!(%error, "RLIMIT_MEMLOCK cannot be raised");
    }
    let walk = hierarchies.controller().map(btf::walk).transpose()?;
    let mut loader = ebpf_loader();
    if let Some(walk) = &walk {
        loader.override_global(WALK, walk, true);
    }
    let mut ebpf = loader.load(OBJECT)?;
    let mut take = |name: &'static str| ebpf.take_map(name).ok_or(DetectError::Missing(name));
    let ring = RingBuf::try_from(take(EVENTS)?)?;
    let seen = Seen { known: HashMap::try_from(take(SEEN)?)?, recent: Array::try_from(take(RECENT)?)? };
    let counters = PerCpuArray::try_from(take(COUNTERS)?)?;
    let name = if walk.is_some() { WALKING_PROGRAM } else { PROGRAM };
    let program: &mut RawTracePoint = ebpf.program_mut(name).ok_or(DetectError::Missing(name))?.try_into()?;
    program.load()?;
    program.attach(TRACEPOINT)?;
    #[allow(
        deprecated,
        reason = "its successor is unsafe; what it asks for holds: the ring owns one descriptor"
    )]
    let ring = AsyncFd::with_interest(ring, Interest::READABLE).map_err(DetectError::Ring)?;
    let kernel =
        Kernel { ebpf, program: name, ring, counters, submitted: 0, lost: 0, since_empty: 0, recheck: false };
    Ok((kernel, seen))
}

impl std::fmt::Debug for Kernel {
    // aya's maps have none of their own.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("submitted", &self.submitted)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl Kernel {
    /// How often the program has run and for how long in all. The kernel counts only while `kernel.bpf_stats_enabled` is 1.
    pub fn cost(&self) -> Result<(u64, Duration), DetectError> {
        let program = self.ebpf.program(self.program).ok_or(DetectError::Missing(self.program))?;
        let info = <&RawTracePoint>::try_from(program)?.info()?;
        Ok((info.run_count(), info.run_time()))
    }

    /// Waits for records. Dropping the future loses nothing.
    ///
    /// A loss wakes nobody, and need not: records are lost only while the ring is full, so there is one to wake
    /// for, and the counter is read after it. One case is left: the program finds the ring full, and before it
    /// counts that, all of the ring is read here, and the counter. It takes a ring that was full, so only then is
    /// the counter read once more, a little later.
    pub async fn next(&mut self) -> Result<Batch, DetectError> {
        loop {
            let records = if self.recheck {
                self.recheck = false;
                tokio::time::timeout(RECHECK, self.drain()).await.unwrap_or(Ok(Vec::new()))
            } else {
                self.drain().await
            };
            let batch = self.account(records.map_err(DetectError::Ring)?)?;
            // A record may be counted a moment before it can be read.
            if !batch.records.is_empty() || batch.submitted > 0 || batch.lost > 0 {
                return Ok(batch);
            }
        }
    }

    async fn drain(&mut self) -> Result<Vec<ExecSeen>, std::io::Error> {
        let mut guard = self.ring.readable_mut().await?;
        let mut records = Vec::new();
        while records.len() < BATCH {
            let Some(item) = guard.get_inner_mut().next() else {
                let was_full = (self.since_empty + records.len()) * RECORD_BYTES;
                self.recheck = was_full > EVENTS_BYTES as usize / 2;
                self.since_empty = 0;
                guard.clear_ready();
                return Ok(records);
            };
            records.extend(ExecSeen::from_bytes(&item));
        }
        self.since_empty += records.len();
        Ok(records)
    }

    fn account(&mut self, records: Vec<ExecSeen>) -> Result<Batch, DetectError> {
        let total = |index| Ok::<u64, DetectError>(self.counters.get(&index, 0)?.iter().sum());
        let (submitted, lost) = (total(SUBMITTED)?, total(LOST)?);
        let batch = Batch { records, submitted: submitted - self.submitted, lost: lost - self.lost };
        (self.submitted, self.lost) = (submitted, lost);
        Ok(batch)
    }
}

impl Seen {
    /// The next exec in the cgroup writes a record again.
    pub fn forget(&mut self, cgroup_id: u64) {
        // It fails where the cgroup is not in the map, which is what was asked for.
        if let Err(error) = self.known.remove(&cgroup_id) {
            tracing::trace!(cgroup_id, %error, "cgroup was not known to the kernel half");
        }
        // In this order: see `Place`.
        if let Err(error) = self.end_generation(place(cgroup_id)) {
            tracing::error!(cgroup_id, %error, "the kernel half may not tell of this cgroup's next exec");
        }
    }

    fn end_generation(&mut self, place: u32) -> Result<(), MapError> {
        let [generation, _] = self.recent.get(&place, 0)?;
        self.recent.set(place, [generation + 1, 0], 0)
    }

    /// No exec in the cgroup writes a record any more.
    pub fn remember(&mut self, cgroup_id: u64) {
        // Where it fails the cgroup's next exec writes one record too many, which the registry recognises.
        if let Err(error) = self.known.insert(cgroup_id, 1, 0) {
            tracing::debug!(cgroup_id, %error, "cgroup cannot be made known to the kernel half");
        }
    }
}
