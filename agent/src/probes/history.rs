//! The last runs, for people: the newest of all, and the newest failures, which success must not push out.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use crate::model::{ContainerLabels, Outcome, ProbeName, RunResult, TriggerName};

/// How many of each are kept.
const KEPT: usize = 50;

/// One line of the history.
#[derive(Clone, Debug)]
pub struct RunSummary {
    pub probe: ProbeName,
    pub trigger: TriggerName,
    pub labels: ContainerLabels,
    pub started_at: SystemTime,
    pub duration: Duration,
    pub outcome: Outcome,
    pub series: usize,
}

impl RunSummary {
    pub(super) fn of(result: &RunResult) -> Self {
        Self {
            probe: result.request.probe.clone(),
            trigger: result.request.trigger.clone(),
            labels: result.request.container.labels(),
            started_at: result.started_at,
            duration: result.output.duration,
            outcome: result.outcome.clone(),
            series: result.families.iter().map(|f| f.samples.len()).sum(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct History {
    good: VecDeque<RunSummary>,
    failed: VecDeque<RunSummary>,
}

impl History {
    pub(super) fn add(&mut self, run: RunSummary) {
        let line = if run.outcome.is_ok() { &mut self.good } else { &mut self.failed };
        line.truncate(KEPT - 1);
        line.push_front(run);
    }

    pub(super) fn newest_first(&self) -> Vec<RunSummary> {
        let mut all: Vec<_> = self.good.iter().chain(&self.failed).cloned().collect();
        all.sort_by_key(|run| std::cmp::Reverse(run.started_at));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_does_not_push_out_failures() {
        let mut history = History::default();
        for second in 0..1000 {
            history.add(RunSummary {
                probe: ProbeName::new("p"),
                trigger: TriggerName::new("t"),
                labels: ContainerLabels::default(),
                started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
                duration: Duration::ZERO,
                outcome: if second == 3 { Outcome::Timeout } else { Outcome::Ok },
                series: 0,
            });
        }
        let all = history.newest_first();
        assert_eq!(all.len(), KEPT + 1);
        assert_eq!(all.last().map(|run| run.outcome.clone()), Some(Outcome::Timeout));
    }
}
