//! What came of the last alerts, for people: which ran what, and why the others ran nothing. Those that ran nothing are kept
//! longer: that is what somebody will ask about.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::counts::Reason;
use super::payload::{Key, Status, shortened};
use super::queue::Record;
use crate::model::{Alert, ContainerLabels, RunId};

const KEPT_RAN: usize = 250;
const KEPT_NOTHING: usize = 500;
/// Runs of one alert that are listed.
const RUNS: usize = 100;
/// Labels that are shown, and characters of each.
const LABELS: usize = 40;
const LABEL_LENGTH: usize = 200;

/// One alert, and what came of it. Texts of the alert are the sender's: hostile, but bounded.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// When it was decided.
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
    /// When the same was delivered last.
    #[serde(serialize_with = "rfc3339")]
    pub last_at: SystemTime,
    pub deliveries: u64,
    /// Who delivered it first, as far as the front door knows.
    pub who: String,
    /// Name of the receiver in the sender's configuration.
    pub receiver: String,
    pub alertname: String,
    pub status: Status,
    pub fingerprint: String,
    /// As the sender wrote it, RFC 3339.
    pub starts_at: String,
    pub labels: BTreeMap<String, String>,
    /// `queued`; `passed_on` where only peers can have its containers; `restored` after a restart of the agent; `ended` where it is over and its runs were ended; or the word of
    /// the foremost reason why nothing ran, one of [`super::Reason::ALL`].
    pub result: &'static str,
    /// Why not all of it, or nothing, was run, in words.
    pub reasons: Vec<String>,
    /// What became of it at the peers, in words; absent where it was not passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed_on: Option<String>,
    /// It could not be passed on for want of room.
    #[serde(skip)]
    pub left_out: bool,
    /// The first hundred of its runs.
    pub runs: Vec<DecidedRun>,
    /// All its runs.
    pub run_count: usize,
}

/// One run of an alert's.
#[derive(Clone, Debug, Serialize)]
pub struct DecidedRun {
    /// Also the id of its capture.
    pub id: RunId,
    pub probe: String,
    pub trigger: String,
    #[serde(flatten)]
    pub container: ContainerLabels,
    /// `queued`, then what it came to, in words.
    pub state: String,
}

impl DecidedRun {
    pub(super) fn of(id: &RunId, record: &Record, state: &str) -> Self {
        let container = ContainerLabels {
            namespace: record.namespace.clone(),
            pod: record.pod.clone(),
            container: record.container.clone(),
        };
        let (probe, trigger) = (record.probe.clone(), record.trigger.clone());
        Self { id: id.clone(), probe, trigger, container, state: state.to_owned() }
    }
}

impl Decision {
    pub(super) fn of(alert: &Alert, status: Status, who: &str, receiver: &str, now: SystemTime) -> Self {
        let shown = |text: &str| shortened(text, LABEL_LENGTH);
        Self {
            at: now,
            last_at: now,
            deliveries: 1,
            who: shown(who),
            receiver: shown(receiver),
            alertname: shown(alert.name()),
            status,
            fingerprint: shown(&alert.fingerprint),
            starts_at: shown(&alert.starts_at),
            labels: alert
                .labels
                .iter()
                .take(LABELS)
                .map(|(name, value)| (shown(name), shown(value)))
                .collect(),
            result: "queued",
            reasons: Vec::new(),
            passed_on: None,
            left_out: false,
            runs: Vec::new(),
            run_count: 0,
        }
    }

    pub(super) fn add(&mut self, run: DecidedRun) {
        self.run_count += 1;
        if self.runs.len() < RUNS {
            self.runs.push(run);
        }
    }
}

/// Decisions in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Log {
    ran: VecDeque<(Key, Decision)>,
    nothing: VecDeque<(Key, Decision)>,
    /// The keys of both, so that what is new is not looked for.
    keys: HashSet<Key>,
}

impl Log {
    /// Notes what came of the alert that `key` names. Its later deliveries are counted on what is there: a storm of
    /// duplicates must not push out what it is a duplicate of.
    pub(super) fn note(&mut self, key: Key, decision: Decision) {
        if !self.keys.contains(&key) {
            return self.push(key, decision);
        }
        let ran = decision.run_count > 0;
        let tells_less =
            |known: &Decision| decision.result == Reason::Duplicate.as_str() || known.result == "ended";
        let known = self.ran.iter_mut().rev().find(|(of, _)| *of == key).filter(|_| !ran);
        let known = known.or_else(|| {
            self.nothing.iter_mut().rev().find(|(of, known)| *of == key && !ran && tells_less(known))
        });
        if let Some((_, known)) = known {
            known.deliveries += 1;
            known.last_at = decision.at;
            return;
        }
        if let Some(place) = self.nothing.iter().position(|(of, _)| *of == key)
            && let Some((_, known)) = self.nothing.remove(place)
        {
            // The newest reason counts, and a run if there is one now. That it was delivered before is none that tells more.
            let decision = Decision { at: known.at, deliveries: known.deliveries + 1, ..decision };
            return self.push(key, decision);
        }
        self.push(key, decision);
    }

    /// Notes a run that was found after a restart, with the others of its alert.
    pub(super) fn join(&mut self, key: Key, decision: Decision) {
        match self.ran.iter_mut().rev().find(|(of, known)| *of == key && known.result == decision.result) {
            Some((_, known)) => decision.runs.into_iter().for_each(|run| known.add(run)),
            None => self.push(key, decision),
        }
    }

    fn push(&mut self, key: Key, decision: Decision) {
        let (ring, kept) = if decision.run_count > 0 {
            (&mut self.ran, KEPT_RAN)
        } else {
            (&mut self.nothing, KEPT_NOTHING)
        };
        if ring.len() >= kept
            && let Some((gone, _)) = ring.pop_front()
        {
            // It may stand in the other one as well; then its next delivery has a line of its own.
            self.keys.remove(&gone);
        }
        self.keys.insert(key);
        ring.push_back((key, decision));
    }

    /// Says what has become of a run.
    pub(super) fn run_is(&mut self, id: &RunId, state: &str) {
        let mut runs = self.ran.iter_mut().rev().flat_map(|(_, decision)| &mut decision.runs);
        if let Some(run) = runs.find(|run| run.id == *id) {
            state.clone_into(&mut run.state);
        }
    }

    /// Says what has become of it at the peers.
    pub(super) fn passed_is(&mut self, key: &Key, words: &str) {
        for ring in [&mut self.ran, &mut self.nothing] {
            if let Some((_, decision)) = ring.iter_mut().rev().find(|(of, _)| of == key) {
                decision.passed_on = Some(words.to_owned());
            }
        }
    }

    /// At most `limit`, the newest first.
    pub(super) fn newest(&self, limit: usize) -> Vec<Decision> {
        let mut all: Vec<&Decision> =
            self.ran.iter().chain(&self.nothing).map(|(_, decision)| decision).collect();
        all.sort_by_key(|decision| std::cmp::Reverse(decision.last_at));
        all.into_iter().take(limit).cloned().collect()
    }
}

// serde asks for the reference.
fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn decision(second: u64, runs: usize) -> Decision {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let mut decision = Decision::of(&Alert::default(), Status::Firing, "me", "hook", now);
        for _ in 0..runs {
            decision.add(DecidedRun {
                id: RunId::fresh(),
                probe: "p".into(),
                trigger: "t".into(),
                container: ContainerLabels::default(),
                state: "queued".into(),
            });
        }
        decision
    }

    fn key(n: usize) -> Key {
        crate::triggers::alerts::payload::key([n.to_string().as_str()])
    }

    #[test]
    fn it_is_bounded_and_keeps_those_that_ran_nothing_longer() {
        let mut log = Log::default();
        for n in 0..2000 {
            log.note(key(n), decision(n as u64, n % 2));
        }
        let all = log.newest(usize::MAX);
        assert_eq!(all.len(), KEPT_RAN + KEPT_NOTHING);
        assert!(all.is_sorted_by_key(|decision| std::cmp::Reverse(decision.last_at)));
        assert_eq!(all.iter().filter(|decision| decision.run_count == 0).count(), KEPT_NOTHING);
        assert_eq!(log.newest(3).len(), 3);
        let many = decision(1, 1000);
        assert_eq!((many.run_count, many.runs.len()), (1000, RUNS));
    }

    #[test]
    fn a_later_delivery_leaves_the_reason() {
        let mut log = Log::default();
        let with = |second: u64, result: &'static str| {
            let mut decision = decision(second, 0);
            decision.result = result;
            decision.reasons = vec![result.to_owned()];
            decision
        };
        for (n, first, then) in
            [(1, "cooldown", "duplicate"), (2, "ended", "resolved"), (3, "no_container", "no_trigger")]
        {
            log.note(key(n), with(1, first));
            log.note(key(n), with(2, then));
        }
        let all = log.newest(10);
        let mut told: Vec<_> = all.iter().map(|d| (d.result, d.reasons[0].as_str(), d.deliveries)).collect();
        told.sort_unstable();
        assert_eq!(
            told,
            [("cooldown", "cooldown", 2), ("ended", "ended", 2), ("no_trigger", "no_trigger", 2)]
        );
    }

    #[test]
    fn a_storm_of_one_alert_is_one_line() {
        let mut log = Log::default();
        log.note(key(1), decision(1, 1));
        for second in 2..100 {
            log.note(key(1), decision(second, 0));
            log.note(key(2), decision(second, 0));
        }
        let all = log.newest(10);
        assert_eq!(all.iter().map(|d| (d.deliveries, d.run_count)).collect::<Vec<_>>(), [(99, 1), (98, 0)]);
        log.note(key(2), decision(200, 2));
        let all = log.newest(10);
        assert_eq!((all.len(), all[0].run_count, all[0].deliveries), (2, 2, 99), "it runs at last");
        log.run_is(&all[0].runs[1].id, "ok");
        assert_eq!(log.newest(1)[0].runs[1].state, "ok");
    }
}
