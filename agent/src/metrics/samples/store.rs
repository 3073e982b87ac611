//! What the last results are kept in: entries by container, slots by metric. It keeps the two in step, and refuses
//! what may not stand beside what is there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::part::Part;
use super::shown::Shown;
use crate::metrics::docs;
use crate::model::{Container, ContainerId, ContainerLabels, Family, MetricKind, Outcome, ProbeName, Way};

/// Ids come back (`docker restart` keeps them); with the start time of the init they name one life of a container.
pub(super) type Life = (ContainerId, u64);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) grace: Duration,
    pub(super) max_series: usize,
    pub(super) series: usize,
    /// Number of the next container; a higher number is a newer container.
    pub(super) next: u64,
    pub(super) numbers: HashMap<Life, u64>,
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) slots: BTreeMap<Arc<str>, Slot>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) life: Life,
    pub(super) subject: Subject,
    pub(super) shown: Shown,
    /// Set when the container is gone: the end of its grace.
    pub(super) until: Option<Instant>,
    pub(super) runs: BTreeMap<ProbeName, Run>,
    /// The probes of which a capture is marked; a later run that is not kept leaves the mark where it is.
    pub(super) marks: BTreeSet<ProbeName>,
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) started_at: SystemTime,
    pub(super) duration: Duration,
    pub(super) outcome: Outcome,
    pub(super) way: Option<Way>,
    /// The metrics in which it has series.
    pub(super) names: Vec<Arc<str>>,
}

#[derive(Debug)]
pub(super) enum Subject {
    Live(Arc<Container>),
    /// What was known at the end; the pidfd is closed by then.
    Gone(Facts),
}

/// What the exposition shows of a container.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) labels: ContainerLabels,
    pub(super) id: ContainerId,
    pub(super) image: String,
    pub(super) uid: String,
    pub(super) runtime: &'static str,
    pub(super) pid: u32,
    pub(super) sandbox: bool,
    /// Names of the namespaces that are the host's.
    pub(super) shares: String,
}

/// One metric with the samples of every container and probe that has it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) kind: MetricKind,
    pub(super) help: Arc<str>,
    pub(super) parts: BTreeMap<(u64, ProbeName), Part>,
}

impl Subject {
    pub(super) fn facts(&self) -> Facts {
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
            shares: container.shares.names().collect::<Vec<_>>().join(","),
        }
    }
}

impl Inner {
    pub(super) fn new(grace: Duration, max_series: usize) -> Self {
        Self {
            grace,
            max_series,
            series: 0,
            next: 0,
            numbers: HashMap::new(),
            entries: BTreeMap::new(),
            slots: BTreeMap::new(),
        }
    }

    pub(super) fn entry(&mut self, container: &Container) -> Option<&mut Entry> {
        let number = self.numbers.get(&(container.id.clone(), container.start_ticks))?;
        self.entries.get_mut(number)
    }

    /// Adds what of `family` goes together with the rest of the exposition; returns the number of dropped series.
    pub(super) fn add(
        &mut self,
        number: u64,
        probe: &ProbeName,
        family: Family,
        names: &mut Vec<Arc<str>>,
    ) -> u64 {
        let offered = family.samples.len();
        if self.conflicts(&family) {
            return offered as u64;
        }
        let mut part = Part::of(&family.samples);
        if let Some(slot) = self.slots.get(&family.name) {
            // Another probe may have the same series of the same container: the first to publish keeps it.
            let others = slot.parts.range((number, ProbeName::new(""))..);
            let others = others.take_while(|((other, _), _)| *other == number).map(|(_, part)| part);
            let taken: HashSet<_> = others.flat_map(Part::series).collect();
            if !taken.is_empty() {
                part = part.without(&taken);
            }
        }
        if self.series + part.len() > self.max_series {
            return offered as u64;
        }
        let dropped = offered - part.len();
        if part.len() > 0 {
            names.push(self.insert(number, probe, family, part));
        }
        dropped as u64
    }

    /// True if the family may not stand beside what is there: an agent's own metric, another type under the same
    /// name, or a name that is also another histogram's or summary's part (readers of the format mix them up).
    pub(super) fn conflicts(&self, family: &Family) -> bool {
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

    /// Puts `part` in place, which has the samples of `family` that may be shown.
    pub(super) fn insert(&mut self, number: u64, probe: &ProbeName, family: Family, part: Part) -> Arc<str> {
        self.series += part.len();
        let slot = self.slots.entry(Arc::clone(&family.name)).or_insert_with(|| Slot {
            kind: family.kind,
            help: family.help,
            parts: BTreeMap::new(),
        });
        slot.parts.insert((number, probe.clone()), part);
        family.name
    }

    pub(super) fn forget(&mut self, number: u64, probe: &ProbeName) {
        let run = self.entries.get_mut(&number).and_then(|entry| entry.runs.remove(probe));
        for name in run.into_iter().flat_map(|run| run.names) {
            self.take(&name, number, probe);
        }
    }

    /// Shows the probe's newest capture in that container.
    pub(super) fn mark(&mut self, number: u64, probe: &ProbeName, mark: Family) {
        self.unmark(number, probe);
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.marks.insert(probe.clone());
            let part = Part::of(&mark.samples);
            self.insert(number, &marked(probe), mark, part);
        }
    }

    pub(super) fn unmark(&mut self, number: u64, probe: &ProbeName) {
        if self.entries.get_mut(&number).is_some_and(|entry| entry.marks.remove(probe)) {
            self.take(docs::LAST_CAPTURE, number, &marked(probe));
        }
    }

    /// Removes the series of one metric.
    fn take(&mut self, name: &str, number: u64, probe: &ProbeName) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        self.series -= slot.parts.remove(&(number, probe.clone())).map_or(0, |part| part.len());
        if slot.parts.is_empty() {
            self.slots.remove(name);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let is_over = |entry: &Entry| entry.until.is_some_and(|until| until <= now);
        let over: Vec<u64> =
            self.entries.iter().filter(|(_, entry)| is_over(entry)).map(|(number, _)| *number).collect();
        for number in over {
            let Some(entry) = self.entries.get(&number) else { continue };
            let runs: Vec<ProbeName> = entry.runs.keys().cloned().collect();
            let marks: Vec<ProbeName> = entry.marks.iter().cloned().collect();
            for probe in &runs {
                self.forget(number, probe);
            }
            for probe in &marks {
                self.unmark(number, probe);
            }
            if let Some(entry) = self.entries.remove(&number) {
                self.numbers.remove(&entry.life);
            }
        }
    }
}

/// Under which name a probe's mark stands beside its results; no probe can be called so.
fn marked(probe: &ProbeName) -> ProbeName {
    ProbeName::new(&format!("@{probe}"))
}
