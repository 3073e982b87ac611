//! What a run prints on its way to `captures`, and whether it is kept there in the end.

use super::queue::Job;
use super::{Publish, Shared};
use crate::captures::{Captures, Keeping, Record};
use crate::config::{Keep, Probe, keeps};
use crate::model::RunResult;

/// Where runs' output is kept, and who hears of it.
pub struct Keeper {
    pub captures: Captures,
    /// This node's name, for the record.
    pub node: String,
    /// Hears of each run that was kept, when all of it is on the disk.
    pub kept: Publish,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("captures", &self.captures).finish_non_exhaustive()
    }
}

impl Shared {
    /// Begins to keep the output, unless nothing that this run can come to would be kept. What is not possible is counted there.
    pub(super) fn begin_to_keep(&self, job: &Job, probe: &Probe) -> Option<Keeping> {
        let keeper = self.keeper.as_ref()?;
        let never = Keep::of(probe.keep, job.request.alert.is_some()) == Keep::Never;
        if never { None } else { keeper.captures.begin(&job.request.id) }
    }

    /// Whether what the run came to is worth keeping.
    pub(super) fn is_wanted(result: &RunResult, probe: &Probe) -> bool {
        keeps(probe.keep, result.request.alert.is_some(), &result.outcome)
    }

    /// Keeps it, or throws it away if its outcome is not worth keeping. True once it is on the disk.
    pub(super) async fn keep(&self, keeping: Keeping, result: &RunResult, probe: &Probe) -> bool {
        let Some(keeper) = &self.keeper else { return false };
        let record = Self::is_wanted(result, probe).then(|| Record::of(result, Some(probe), &keeper.node));
        match keeper.captures.finish(keeping, record).await {
            Ok(Some(_)) => {
                (keeper.kept)(result);
                true
            }
            // Why it is not there is counted, and told in the log, where it was found out.
            Ok(None) | Err(_) => false,
        }
    }
}
