//! What ran, when, where, why and with what outcome, newest last, in memory. Bounded in number, and by kind: a run that an
//! alert asked for, or one that failed, is what somebody will ask for later, and must not be pushed out by the hundreds that
//! a schedule makes in between.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Refusal;
use crate::model::{
    ContainerId, ContainerLabels, Outcome, ProbeName, RunId, RunRequest, RunResult, TriggerName, Way,
};

/// Runs that ended well: some minutes of a busy node.
const WELL: usize = 1000;
/// Runs that failed; the same failure again is one entry, so that this lasts for much longer.
const FAILED: usize = 1000;
/// Runs that alerts asked for, whatever became of them.
const ALERTED: usize = 1000;
/// Runs for scrapes that ended well, of which there may be dozens in a second.
const SCRAPED: usize = 500;
/// Runs that were not begun; the same refusal again is one entry.
const REFUSED: usize = 500;

/// One run, or a row of equal failures of which it is the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: RunId,
    pub probe: ProbeName,
    pub trigger: TriggerName,
    /// Name of the alert that asked for it.
    pub alert: Option<String>,
    pub container: ContainerId,
    pub labels: ContainerLabels,
    /// When it began, or was refused.
    pub at: SystemTime,
    pub duration: Duration,
    /// `refused` with the reason for one that was not even begun.
    pub outcome: Outcome,
    /// Why it was not begun, in the words of `parachute_runs_refused_total`; None for one that ran.
    pub refused: Option<Refusal>,
    pub way: Option<Way>,
    /// Whether its output was kept.
    pub captured: bool,
    /// How often it happened in a row, and since when.
    pub times: u64,
    pub since: SystemTime,
}

#[derive(Debug, Default)]
pub(super) struct History {
    well: VecDeque<Arc<Record>>,
    failed: VecDeque<Arc<Record>>,
    alerted: VecDeque<Arc<Record>>,
    scraped: VecDeque<Arc<Record>>,
    refused: VecDeque<Arc<Record>>,
}

impl History {
    /// Takes note of a run that has ended; `published` is whether its result is for everybody, and not one scrape's alone.
    pub(super) fn ended(&mut self, result: &RunResult, published: bool) {
        let mut record = record(&result.request, result.started_at, result.outcome.clone());
        (record.duration, record.way) = (result.output.duration, result.output.way);
        record.captured = result.captured;
        if record.alert.is_some() {
            push(&mut self.alerted, ALERTED, record);
        } else if record.outcome.is_ok() {
            let (ring, most) = if published { (&mut self.well, WELL) } else { (&mut self.scraped, SCRAPED) };
            push(ring, most, record);
        } else {
            merge(&mut self.failed, FAILED, record);
        }
    }

    /// Takes note of one that was not begun.
    pub(super) fn refused(&mut self, request: &RunRequest, refusal: Refusal, at: SystemTime) {
        let mut record = record(request, at, Outcome::Refused { reason: refusal.to_string() });
        record.refused = Some(refusal);
        // An alert's, too: one that is refused again and again would push out what the alerts have brought.
        merge(&mut self.refused, REFUSED, record);
    }

    /// Everything, newest first.
    pub(super) fn all(&self) -> Vec<Arc<Record>> {
        let rings = [&self.well, &self.failed, &self.alerted, &self.scraped, &self.refused];
        let mut all: Vec<_> = rings.into_iter().flatten().cloned().collect();
        // By the id where the moment is the same, so that the order is always one.
        all.sort_by(|a, b| (b.at, &b.id).cmp(&(a.at, &a.id)));
        all
    }
}

fn record(request: &RunRequest, at: SystemTime, outcome: Outcome) -> Record {
    Record {
        id: request.id.clone(),
        probe: request.probe.clone(),
        trigger: request.trigger.clone(),
        alert: request.alert.as_ref().map(|alert| alert.name().to_owned()),
        container: request.container.id.clone(),
        labels: request.container.labels(),
        at,
        duration: Duration::ZERO,
        outcome,
        refused: None,
        way: None,
        captured: false,
        times: 1,
        since: at,
    }
}

fn push(ring: &mut VecDeque<Arc<Record>>, most: usize, record: Record) {
    if ring.len() >= most {
        ring.pop_front();
    }
    ring.push_back(Arc::new(record));
}

/// As [`push`], but in the place of an earlier entry that says the same. One whose output was kept stays as it is: its id
/// leads to the capture.
fn merge(ring: &mut VecDeque<Arc<Record>>, most: usize, mut record: Record) {
    let same = |old: &Arc<Record>| {
        (&old.probe, &old.trigger, &old.container, &old.alert)
            == (&record.probe, &record.trigger, &record.container, &record.alert)
            && old.outcome == record.outcome
            && !old.captured
            && !record.captured
    };
    if let Some(old) = ring.iter().rposition(same).and_then(|place| ring.remove(place)) {
        record.times = old.times.saturating_add(1);
        record.since = old.since;
    }
    push(ring, most, record);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Alert;
    use crate::model::testing::{container, named, result};

    fn run(probe: &str, outcome: Outcome, seconds: u64) -> RunResult {
        let shop = container("a", named("shop", "cart-0", "cart"));
        let mut run = result(probe, &shop, outcome, Vec::new());
        run.started_at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        run
    }

    fn shown(history: &History) -> Vec<(String, &'static str, u64, u64)> {
        let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let all = history.all();
        all.iter().map(|r| (r.probe.to_string(), r.outcome.as_str(), seconds(r.at), r.times)).collect()
    }

    #[test]
    fn failures_outlive_what_went_well_and_alerts_both() {
        let mut history = History::default();
        history.ended(&run("sockets", Outcome::Timeout, 1), true);
        let mut alerted = run("dump", Outcome::Ok, 2);
        let labels = [("alertname".to_owned(), "Slow".to_owned())].into();
        alerted.request.alert = Some(Arc::new(Alert { labels, ..Alert::default() }));
        alerted.captured = true;
        history.ended(&alerted, true);
        for second in 3..5000 {
            history.ended(&run("sockets", Outcome::Ok, second), true);
            history.ended(&run("scraped", Outcome::Ok, 0), false);
        }
        let all = history.all();
        assert_eq!(all.len(), WELL + 2 + SCRAPED);
        assert_eq!(shown(&history)[0], ("sockets".into(), "ok", 4999, 1));
        assert_eq!(
            shown(&history)[WELL..WELL + 2],
            [("dump".into(), "ok", 2, 1), ("sockets".into(), "timeout", 1, 1)]
        );
        assert_eq!((all[WELL].alert.as_deref(), all[WELL].captured), (Some("Slow"), true));
        assert_eq!(all[WELL].labels.pod, "cart-0");
    }

    #[test]
    fn the_same_failure_again_is_one_entry_and_a_kept_one_stays() {
        let mut history = History::default();
        for (outcome, captured, second) in [
            (Outcome::Timeout, false, 1),
            (Outcome::Truncated, false, 2),
            (Outcome::Timeout, true, 3),
            (Outcome::Timeout, false, 4),
            (Outcome::Timeout, false, 5),
        ] {
            history.ended(&RunResult { captured, ..run("p", outcome, second) }, true);
        }
        let p = |outcome, at, times| ("p".to_owned(), outcome, at, times);
        assert_eq!(shown(&history), [p("timeout", 5, 3), p("timeout", 3, 1), p("truncated", 2, 1)]);
        assert_eq!(history.all()[0].since, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        for number in 0..3000 {
            history.ended(&run(&format!("p{number}"), Outcome::Timeout, 10), false);
        }
        assert_eq!(history.all().len(), FAILED);
    }

    #[test]
    fn a_flood_of_refusals_is_one_entry() {
        let (mut history, run) = (History::default(), run("p", Outcome::Ok, 1));
        for second in 0..10_000 {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            history.refused(&run.request, Refusal::QueueFull, at);
        }
        history.refused(&run.request, Refusal::Stuck, SystemTime::UNIX_EPOCH);
        let all = history.all();
        assert_eq!((all.len(), all[0].times, all[0].refused), (2, 10_000, Some(Refusal::QueueFull)));
        assert!(matches!(&all[0].outcome, Outcome::Refused { reason } if reason.contains("queue")));
    }
}
