//! What is known of alerts at this moment: the runs that wait or are under way, which alerts have been answered, and when
//! which probe last ran where. Who comes in is decided in `admit`; this only keeps, and says whose turn it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::journal::{Contents, Op};
use super::pass::Passes;
use super::payload::{Key, Status, Told, key};
use super::recent::Recent;
use super::turns::Turns;
use crate::model::{Alert, Container, ContainerLabels, ProbeName, RunId, RunRequest, TriggerName};

/// For so long an alert is known again.
const SEEN_AGE: Duration = Duration::from_hours(24);
/// The longest cooldown that can be configured.
const REST_AGE: Duration = Duration::from_hours(7 * 24);
/// For so long a firing that comes after its resolution is known to be over: `give_up_after` is ten minutes at most, and a
/// peer's own queue may hold it as long again.
const OVER_AGE: Duration = Duration::from_mins(20);
/// So many of each are known, the newest ones; some 50 bytes each.
const KNOWN: usize = 100_000;
/// Runs that are handed to the pool beyond those that it runs at once: they wait there before others.
const AHEAD: usize = 64;

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) entries: BTreeMap<RunId, Entry>,
    /// Those whose turn may come. A container is busy from when one of them was handed to the pool until its result is published.
    turns: Turns,
    pub(super) seen: Recent,
    pub(super) rests: Recent,
    /// Alerts that were resolved, in whatever group. Stands in no journal.
    pub(super) over: Recent,
    pub(super) passes: Passes,
    /// False until the containers are known.
    pub(super) open: bool,
}

impl Default for Queue {
    fn default() -> Self {
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self {
            entries: BTreeMap::new(),
            turns: Turns::default(),
            seen: Recent::new(millis(SEEN_AGE), KNOWN),
            rests: Recent::new(millis(REST_AGE), KNOWN),
            over: Recent::new(millis(OVER_AGE), KNOWN),
            passes: Passes::default(),
            open: false,
        }
    }
}

/// A run for an alert, from when it is asked for until nothing more is to be done for it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) record: Arc<Record>,
    /// Absent until it is found again after a restart.
    pub(super) container: Option<Arc<Container>>,
    pub(super) running: bool,
    pub(super) cancel: CancellationToken,
}

impl Entry {
    pub(super) fn new(record: Record, container: Option<Arc<Container>>) -> Self {
        let cancel = CancellationToken::new();
        Self { record: Arc::new(record), container, running: false, cancel }
    }
}

/// What of it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) trigger: String,
    pub(super) probe: String,
    /// The container's id and its init's start: of two with one id only one is meant.
    pub(super) id: String,
    pub(super) start_ticks: u64,
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: String,
    pub(super) status: Status,
    pub(super) alert: Arc<Alert>,
    /// Milliseconds of Unix time.
    pub(super) queued_at: u64,
}

impl Record {
    /// As it stands in the journal; None for what has no JSON form, which is none of the texts and numbers in it.
    pub(super) fn written(&self) -> Option<Vec<u8>> {
        // With room from the start, as there are hundreds at once.
        let mut json = Vec::with_capacity(1024);
        serde_json::to_writer(&mut json, self).is_ok().then_some(json)
    }

    pub(super) fn is_of(&self, occasion: &Key) -> bool {
        Told::occasion(&self.alert) == *occasion
    }

    pub(super) fn is_in(&self, container: &Container) -> bool {
        self.id == container.id.as_str() && self.start_ticks == container.start_ticks
    }
}

/// A probe in a container by its names, which a container that crashes and is started again keeps.
pub(super) fn rest_key(probe: &str, labels: &ContainerLabels) -> Key {
    key([probe, &labels.namespace, &labels.pod, &labels.container])
}

/// Milliseconds of Unix time.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Queue {
    /// Makes it the turn of these as soon as there is room; those that have gone in the meantime stay gone.
    pub(super) fn release(&mut self, runs: &[RunId]) {
        for run in runs {
            if let Some(container) = self.entries.get(run).and_then(|entry| entry.container.as_ref()) {
                self.turns.add(run, &container.id);
            }
        }
    }

    /// The oldest run whose container is free, if there is room in a pool that runs so many at once.
    pub(super) fn next(&mut self, concurrent: usize) -> Option<(RunRequest, CancellationToken)> {
        if self.turns.busy() >= concurrent + AHEAD {
            return None;
        }
        // What waits has an entry with a container: `release` sees to it, and `remove` takes it out of both.
        let id = self.turns.take()?;
        let entry = self.entries.get_mut(&id)?;
        entry.running = true;
        let container = Arc::clone(entry.container.as_ref()?);
        let request = RunRequest {
            id,
            probe: ProbeName::new(&entry.record.probe),
            trigger: TriggerName::new(&entry.record.trigger),
            container,
            alert: Some(Arc::clone(&entry.record.alert)),
        };
        Some((request, entry.cancel.clone()))
    }

    /// Its result is published, so that its container's next run may begin.
    pub(super) fn published(&mut self, run: &RunId) {
        if let Some(container) = self.entries.get(run).and_then(|entry| entry.container.as_ref()) {
            self.turns.free(run, &container.id);
        }
    }

    /// Nothing more is to be done for it.
    pub(super) fn remove(&mut self, run: &RunId) -> Option<Entry> {
        let entry = self.entries.remove(run)?;
        if let Some(container) = &entry.container {
            self.turns.remove(run, &container.id);
        }
        Some(entry)
    }

    /// The run has gone from the queue and was never begun: its probe did not run there, so that the next alert's may.
    pub(super) fn never_ran(&mut self, record: &Record) -> Option<Op> {
        let labels = ContainerLabels {
            namespace: record.namespace.clone(),
            pod: record.pod.clone(),
            container: record.container.clone(),
        };
        let rest = rest_key(&record.probe, &labels);
        self.rests.remove(&rest, record.queued_at).then_some(Op::ForgetRest(rest))
    }

    /// All that is to be in the journal.
    pub(super) fn contents(&self) -> Contents {
        let record = |(id, entry): (&RunId, &Entry)| Some((id.to_string(), entry.record.written()?));
        Contents {
            runs: self.entries.iter().filter_map(record).collect(),
            seen: self.seen.iter().collect(),
            rests: self.rests.iter().collect(),
            passes: self.passes.contents(),
        }
    }

    /// Takes in what was found in a journal; the ids of the runs, and how many were no runs.
    pub(super) fn restore(&mut self, contents: Contents) -> (Vec<RunId>, usize) {
        // They are of before all that is known already, which only a journal that was opened late finds here.
        let newer = [self.seen.take(), self.rests.take()];
        for (key, at) in contents.seen {
            self.seen.put(key, at);
        }
        for (key, at) in contents.rests {
            self.rests.put(key, at);
        }
        let [seen, rests] = newer;
        for (at, key) in seen {
            self.seen.put(key, at);
        }
        for (at, key) in rests {
            self.rests.put(key, at);
        }
        let mut broken = self.passes.restore(contents.passes);
        let mut found = Vec::new();
        for (id, record) in contents.runs {
            let (Some(id), Ok(record)) = (RunId::parse(&id), serde_json::from_slice(&record)) else {
                broken += 1;
                continue;
            };
            let entry = Entry::new(record, None);
            self.entries.entry(id.clone()).or_insert(entry);
            found.push(id);
        }
        (found, broken)
    }
}
