//! The last results of every probe in every container, kept by metric and as text so that a scrape is one walk that copies.
//!
//! A run that ends well replaces the probe's series for that container. One that fails or is refused removes them, so
//! that no stale number looks fresh. One whose container ended under it says nothing about the numbers and changes
//! nothing. When a container is gone its series stay for the grace, then everything of it goes; nobody
//! needs to call for that, every scrape and every end of a container look.

mod alone;
mod part;
mod render;
mod shown;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::IntCounterVec;

pub use self::alone::{Alone, Note, alone};
use self::part::Part;
use self::shown::Shown;
use self::store::{Entry, Inner, Run, Subject};
use super::{admit, docs};
use crate::model::{
    Container, ContainerId, ContainerLabels, Family, MetricKind, Outcome, ProbeName, RunRequest, RunResult,
    Sample, Way,
};

/// Bound on the series of all containers together: about 60 MiB of memory, and a scrape of some 20 MB.
const MAX_SERIES: usize = 200_000;

/// The store; it is shared behind an `Arc`.
#[derive(Debug)]
pub struct Samples {
    inner: Mutex<Inner>,
    /// Bytes of the last scrape.
    size: AtomicUsize,
    dropped: IntCounterVec,
}

/// One probe's last run in one container, for people.
#[derive(Clone, Debug)]
pub struct LastRun {
    pub probe: ProbeName,
    pub container: ContainerId,
    pub labels: ContainerLabels,
    pub started_at: SystemTime,
    pub duration: Duration,
    pub outcome: Outcome,
    /// None if it never came so far.
    pub way: Option<Way>,
}

impl Samples {
    /// `dropped` is `parachute_series_dropped_total`; it counts what this store refuses, not what parsers cut.
    pub fn new(grace: Duration, dropped: IntCounterVec) -> Self {
        Self::bounded(grace, dropped, MAX_SERIES)
    }

    fn bounded(grace: Duration, dropped: IntCounterVec, max_series: usize) -> Self {
        let inner = Inner::new(grace, max_series);
        Self { inner: Mutex::new(inner), size: AtomicUsize::new(0), dropped }
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
        let shown = Shown::of(&subject);
        inner.entries.insert(
            number,
            Entry { life, subject, shown, until: None, runs: BTreeMap::new(), marks: BTreeSet::new() },
        );
    }

    /// Another process stands for it from here on; its results stay.
    pub fn container_moved(&self, container: &Arc<Container>) {
        if let Some(entry) = self.lock().entry(container) {
            entry.subject = Subject::Live(Arc::clone(container));
            entry.shown = Shown::of(&entry.subject);
        }
    }

    /// Starts the grace and lets go of the container (it holds a pidfd).
    pub fn container_gone(&self, container: &Container) {
        let now = Instant::now();
        let mut inner = self.lock();
        let until = now + inner.grace;
        if let Some(entry) = inner.entry(container) {
            entry.subject = Subject::Gone(entry.subject.facts());
            entry.shown = Shown::of(&entry.subject);
            // Also without results: a run that it did not survive is still to leave its capture's mark.
            entry.until = Some(until);
        }
        inner.expire(now);
    }

    /// Takes the result's series in place of the probe's earlier ones in that container; see the file's head.
    pub fn publish(&self, result: &RunResult) {
        if result.outcome == Outcome::TargetGone {
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
            let labels = vec![("probe".into(), probe.as_str().to_owned())];
            let note = note(name, labels, value);
            let part = Part::of(&note.samples);
            names.push(inner.insert(number, probe, note, part));
        }
        if let Some(entry) = inner.entries.get_mut(&number) {
            let run = Run {
                started_at: result.started_at,
                duration: result.output.duration,
                outcome: result.outcome.clone(),
                way: result.output.way,
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
            inner.unmark(number, probe);
        }
    }

    /// Marks the moment of a run of which a capture was kept, with the capture's name.
    pub fn mark_capture(&self, result: &RunResult) {
        let RunRequest { id, probe, trigger, container, alert } = &result.request;
        let alert = alert.as_ref().map_or("", |alert| alert.name());
        let labels = [
            ("probe", probe.as_str()),
            ("trigger", trigger.as_str()),
            ("alert", alert),
            ("outcome", result.outcome.as_str()),
            ("capture", id.as_str()),
        ];
        let labels = labels.map(|(label, text)| (label.into(), text.to_owned())).to_vec();
        let family = note(docs::LAST_CAPTURE, labels, unix_seconds(result.started_at));
        let mut inner = self.lock();
        let number = inner.numbers.get(&(container.id.clone(), container.start_ticks)).copied();
        if let Some(number) = number {
            inner.mark(number, probe, family);
            // The run may have ended long after its container: what marks it is to be there for a scrape or two.
            let until = Instant::now() + inner.grace;
            if let Some(entry) = inner.entries.get_mut(&number).filter(|entry| entry.until.is_some()) {
                entry.until = Some(until);
            }
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
            container: entry.life.0.clone(),
            labels: entry.subject.facts().labels,
            started_at: run.started_at,
            duration: run.duration,
            outcome: run.outcome.clone(),
            way: run.way,
        };
        runs.into_iter().map(shown).collect()
    }

    /// A panic elsewhere cannot leave the maps half-changed in a way that matters to a reader.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A metric of the table with one sample.
fn note(name: &'static str, labels: Vec<(Arc<str>, String)>, value: f64) -> Family {
    let help = docs::find(name).map_or("", |doc| doc.help);
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
