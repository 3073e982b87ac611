//! The last results of every probe in every container, kept by metric so that a scrape is one walk.
//!
//! A run that ends well replaces the probe's series for that container. One that fails removes them, so that no
//! stale number looks fresh. One that was refused or whose container ended under it says nothing about the numbers
//! and changes nothing. When a container is gone its series stay for the grace, then everything of it goes; nobody
//! needs to call for that, every scrape and every end of a container look.

mod render;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::IntCounterVec;

use super::{admit, docs};
use crate::model::{
    Container, ContainerId, ContainerLabels, Family, MetricKind, Outcome, ProbeName, RunResult, Sample,
};

/// Bound on the series of all containers together: about 60 MiB of memory, and a scrape of some 20 MB.
const MAX_SERIES: usize = 200_000;

/// The store; it is shared behind an `Arc`.
#[derive(Debug)]
pub struct Samples {
    inner: Mutex<Inner>,
    dropped: IntCounterVec,
}

/// One probe's last run in one container, for people.
#[derive(Clone, Debug)]
pub struct LastRun {
    pub probe: ProbeName,
    pub labels: ContainerLabels,
    pub started_at: SystemTime,
    pub duration: Duration,
    pub outcome: Outcome,
}

/// Ids come back (`docker restart` keeps them); with the start time of the init they name one life of a container.
type Life = (ContainerId, u64);

#[derive(Debug)]
struct Inner {
    grace: Duration,
    max_series: usize,
    series: usize,
    /// Number of the next container; a higher number is a newer container.
    next: u64,
    numbers: HashMap<Life, u64>,
    entries: BTreeMap<u64, Entry>,
    slots: BTreeMap<Arc<str>, Slot>,
}

#[derive(Debug)]
struct Entry {
    life: Life,
    subject: Subject,
    /// Set when the container is gone: the end of its grace.
    until: Option<Instant>,
    runs: BTreeMap<ProbeName, Run>,
}

#[derive(Debug)]
struct Run {
    started_at: SystemTime,
    duration: Duration,
    outcome: Outcome,
    /// The metrics in which it has series.
    names: Vec<Arc<str>>,
}

#[derive(Debug)]
enum Subject {
    Live(Arc<Container>),
    /// What was known at the end; the pidfd is closed by then.
    Gone(Facts),
}

/// What the exposition shows of a container.
#[derive(Clone, Debug)]
struct Facts {
    labels: ContainerLabels,
    id: ContainerId,
    image: String,
    uid: String,
    runtime: &'static str,
    pid: u32,
    sandbox: bool,
}

/// One metric with the samples of every container and probe that has it.
#[derive(Debug)]
struct Slot {
    kind: MetricKind,
    help: Arc<str>,
    parts: BTreeMap<(u64, ProbeName), Vec<Sample>>,
}

impl Subject {
    fn facts(&self) -> Facts {
        let container = match self {
            Self::Gone(facts) => return facts.clone(),
            Self::Live(container) => container,
        };
        let metadata = container.metadata.load_full().unwrap_or_default();
        let cgroup_uid = || container.cgroup_pod_uid.clone().unwrap_or_default();
        Facts {
            labels: container.labels(),
            id: container.id.clone(),
            image: metadata.image.clone(),
            uid: if metadata.pod_uid.is_empty() { cgroup_uid() } else { metadata.pod_uid.clone() },
            runtime: container.runtime.as_str(),
            pid: container.pid,
            sandbox: metadata.sandbox,
        }
    }
}

impl Samples {
    /// `dropped` is `parachute_series_dropped_total`; it counts what this store refuses, not what parsers cut.
    pub fn new(grace: Duration, dropped: IntCounterVec) -> Self {
        Self::bounded(grace, dropped, MAX_SERIES)
    }

    fn bounded(grace: Duration, dropped: IntCounterVec, max_series: usize) -> Self {
        let inner = Inner {
            grace,
            max_series,
            series: 0,
            next: 0,
            numbers: HashMap::new(),
            entries: BTreeMap::new(),
            slots: BTreeMap::new(),
        };
        Self { inner: Mutex::new(inner), dropped }
    }

    /// For a reload; containers already gone keep the grace they were given.
    pub fn set_grace(&self, grace: Duration) {
        self.lock().grace = grace;
    }

    /// Must come before the container's first result: results of containers that are not known are dropped.
    pub fn container_up(&self, container: &Arc<Container>) {
        let mut inner = self.lock();
        let life = (container.id.clone(), container.start_ticks);
        if inner.numbers.contains_key(&life) {
            return;
        }
        let number = inner.next;
        inner.next += 1;
        inner.numbers.insert(life.clone(), number);
        let subject = Subject::Live(Arc::clone(container));
        inner.entries.insert(number, Entry { life, subject, until: None, runs: BTreeMap::new() });
    }

    /// Starts the grace and lets go of the container (it holds a pidfd).
    pub fn container_gone(&self, container: &Container) {
        let now = Instant::now();
        let mut inner = self.lock();
        let until = now + inner.grace;
        if let Some(entry) = inner.entry(container) {
            entry.subject = Subject::Gone(entry.subject.facts());
            // Without results there is nothing that a last scrape would want to see.
            entry.until = Some(if entry.runs.is_empty() { now } else { until });
        }
        inner.expire(now);
    }

    /// Takes the result's series in place of the probe's earlier ones in that container; see the file's head.
    pub fn publish(&self, result: &RunResult) {
        if matches!(result.outcome, Outcome::TargetGone | Outcome::Refused { .. }) {
            return;
        }
        // The costly part is done before the lock is taken.
        let (families, mut dropped) =
            if result.outcome.is_ok() { admit::admit(&result.families) } else { Default::default() };
        let probe = &result.request.probe;
        let mut inner = self.lock();
        let life = (result.request.container.id.clone(), result.request.container.start_ticks);
        let Some(number) = inner.numbers.get(&life).copied() else { return };
        inner.forget(number, probe);
        let mut names = Vec::with_capacity(families.len() + 2);
        for family in families.into_values() {
            dropped += inner.add(number, probe, family, &mut names);
        }
        for (name, value) in [
            (docs::LAST_RUN, unix_seconds(result.started_at)),
            (docs::LAST_SUCCESS, f64::from(u8::from(result.outcome.is_ok()))),
        ] {
            names.push(inner.insert(number, probe, note(name, probe, value)));
        }
        if let Some(entry) = inner.entries.get_mut(&number) {
            let run = Run {
                started_at: result.started_at,
                duration: result.output.duration,
                outcome: result.outcome.clone(),
                names,
            };
            entry.runs.insert(probe.clone(), run);
        }
        drop(inner);
        if dropped > 0 {
            self.dropped.with_label_values(&[probe.as_str()]).inc_by(dropped);
        }
    }

    /// Removes everything of a probe that is no longer configured.
    pub fn forget_probe(&self, probe: &ProbeName) {
        let mut inner = self.lock();
        let numbers: Vec<u64> = inner.entries.keys().copied().collect();
        for number in numbers {
            inner.forget(number, probe);
        }
    }

    /// Removes the containers whose grace is over at `now`.
    pub fn expire(&self, now: Instant) {
        self.lock().expire(now);
    }

    /// Newest first, at most `limit`.
    pub fn last_runs(&self, limit: usize) -> Vec<LastRun> {
        let inner = self.lock();
        let mut runs: Vec<_> = inner
            .entries
            .values()
            .flat_map(|entry| entry.runs.iter().map(move |(probe, run)| (entry, probe, run)))
            .collect();
        runs.sort_by_key(|(_, _, run)| std::cmp::Reverse(run.started_at));
        runs.truncate(limit);
        let shown = |(entry, probe, run): (&Entry, &ProbeName, &Run)| LastRun {
            probe: probe.clone(),
            labels: entry.subject.facts().labels,
            started_at: run.started_at,
            duration: run.duration,
            outcome: run.outcome.clone(),
        };
        runs.into_iter().map(shown).collect()
    }

    /// A panic elsewhere cannot leave the maps half-changed in a way that matters to a reader.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn entry(&mut self, container: &Container) -> Option<&mut Entry> {
        let number = self.numbers.get(&(container.id.clone(), container.start_ticks))?;
        self.entries.get_mut(number)
    }

    /// Adds what of `family` goes together with the rest of the exposition; returns the number of dropped series.
    fn add(&mut self, number: u64, probe: &ProbeName, mut family: Family, names: &mut Vec<Arc<str>>) -> u64 {
        let offered = family.samples.len();
        if self.conflicts(&family) {
            return offered as u64;
        }
        if let Some(slot) = self.slots.get(&family.name) {
            // Another probe may have the same series of the same container: the first to publish keeps it.
            let taken: HashSet<_> = slot
                .parts
                .range((number, ProbeName::new(""))..)
                .take_while(|((other, _), _)| *other == number)
                .flat_map(|(_, samples)| samples.iter().map(|sample| (sample.suffix, &sample.labels)))
                .collect();
            family.samples.retain(|sample| !taken.contains(&(sample.suffix, &sample.labels)));
        }
        if self.series + family.samples.len() > self.max_series {
            return offered as u64;
        }
        let dropped = offered - family.samples.len();
        if !family.samples.is_empty() {
            names.push(self.insert(number, probe, family));
        }
        dropped as u64
    }

    /// True if the family may not stand beside what is there: an agent's own metric, another type under the same
    /// name, or a name that is also another histogram's or summary's part (readers of the format mix them up).
    fn conflicts(&self, family: &Family) -> bool {
        let own = docs::find(&family.name).is_some_and(|doc| {
            // An application's process metrics are welcome beside the agent's.
            !doc.name.starts_with("process_") || doc.kind != family.kind
        });
        let compound = |kind| matches!(kind, MetricKind::Histogram | MetricKind::Summary);
        let compound_named = |name: &str| {
            docs::find(name).is_some_and(|doc| compound(doc.kind))
                || self.slots.get(name).is_some_and(|slot| compound(slot.kind))
        };
        let parts = ["_bucket", "_sum", "_count"];
        let is_part = parts.iter().any(|part| family.name.strip_suffix(part).is_some_and(compound_named));
        let has_part = compound(family.kind)
            && parts.iter().any(|part| self.slots.contains_key(format!("{}{part}", family.name).as_str()));
        let other_kind = self.slots.get(&family.name).is_some_and(|slot| slot.kind != family.kind);
        own || is_part || has_part || other_kind
    }

    fn insert(&mut self, number: u64, probe: &ProbeName, family: Family) -> Arc<str> {
        self.series += family.samples.len();
        let slot = self.slots.entry(Arc::clone(&family.name)).or_insert_with(|| Slot {
            kind: family.kind,
            help: family.help,
            parts: BTreeMap::new(),
        });
        slot.parts.insert((number, probe.clone()), family.samples);
        family.name
    }

    fn forget(&mut self, number: u64, probe: &ProbeName) {
        let run = self.entries.get_mut(&number).and_then(|entry| entry.runs.remove(probe));
        for name in run.into_iter().flat_map(|run| run.names) {
            let Some(slot) = self.slots.get_mut(&name) else { continue };
            let samples = slot.parts.remove(&(number, probe.clone())).unwrap_or_default();
            self.series -= samples.len();
            if slot.parts.is_empty() {
                self.slots.remove(&name);
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        let is_over = |entry: &Entry| entry.until.is_some_and(|until| until <= now);
        let over: Vec<u64> =
            self.entries.iter().filter(|(_, entry)| is_over(entry)).map(|(number, _)| *number).collect();
        for number in over {
            let probes: Vec<ProbeName> = self
                .entries
                .get(&number)
                .map(|entry| entry.runs.keys().cloned().collect())
                .unwrap_or_default();
            for probe in probes {
                self.forget(number, &probe);
            }
            if let Some(entry) = self.entries.remove(&number) {
                self.numbers.remove(&entry.life);
            }
        }
    }
}

/// A metric of the table with one sample that carries the probe's name.
fn note(name: &'static str, probe: &ProbeName, value: f64) -> Family {
    let help = docs::find(name).map_or("", |doc| doc.help);
    let labels = vec![("probe".into(), probe.as_str().to_owned())];
    let samples = vec![Sample { suffix: "", labels, value }];
    Family { name: name.into(), kind: MetricKind::Gauge, help: help.into(), samples }
}

/// A clock before 1970 counts as 1970.
fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
#[path = "samples/tests.rs"]
mod tests;
