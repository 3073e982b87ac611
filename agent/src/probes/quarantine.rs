//! Which probes may not run where for a while: those that have reached their limits again and again. Kept for each
//! container by itself, so that one that makes a probe's work endless does not keep the probe from the others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::model::{Container, ContainerId, ProbeName};

/// So many runs in a row at their limits begin a quarantine.
const HITS: u32 = 3;
/// How long the first one lasts; each further one, of which the next run gave no better news, twice as long.
const FIRST: Duration = Duration::from_mins(1);
const LONGEST: Duration = Duration::from_hours(1);
/// More pairs than this are not watched: a thousand containers with sixteen hungry probes each.
const MOST: usize = 16_384;

/// A container is told from a later one of the same id by its start.
type Key = (ProbeName, String, u64);

#[derive(Debug, Default)]
pub(super) struct Quarantine {
    records: HashMap<Key, Record>,
}

/// A probe that does not run in a container for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    pub probe: ProbeName,
    pub container: ContainerId,
    /// How much longer.
    pub left: Duration,
}

#[derive(Debug)]
struct Record {
    hits: u32,
    until: Option<Instant>,
}

impl Quarantine {
    /// How much longer the probe may not run there.
    pub(super) fn remaining(
        &self,
        probe: &ProbeName,
        container: &Container,
        now: Instant,
    ) -> Option<Duration> {
        let until = self.records.get(&key(probe, container))?.until?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Takes note of a finished run; gives the time of a quarantine that begins with it.
    pub(super) fn note(
        &mut self,
        probe: &ProbeName,
        container: &Container,
        at_limit: bool,
        now: Instant,
    ) -> Option<Duration> {
        let key = key(probe, container);
        if !at_limit {
            self.records.remove(&key);
            return None;
        }
        if self.records.len() >= MOST && !self.records.contains_key(&key) {
            return None;
        }
        let record = self.records.entry(key).or_insert(Record { hits: 0, until: None });
        record.hits = record.hits.saturating_add(1);
        let doublings = record.hits.checked_sub(HITS)?;
        let length = FIRST.saturating_mul(1 << doublings.min(16)).min(LONGEST);
        record.until = now.checked_add(length);
        Some(length)
    }

    /// In how many containers each of these probes is in quarantine.
    pub(super) fn counts<'a>(
        &'a self,
        probes: impl Iterator<Item = &'a ProbeName>,
        now: Instant,
    ) -> Vec<(&'a ProbeName, usize)> {
        let is_in = |record: &Record| record.until.is_some_and(|until| until > now);
        let of = |probe: &ProbeName| {
            self.records.iter().filter(|((name, ..), record)| name == probe && is_in(record)).count()
        };
        probes.map(|probe| (probe, of(probe))).collect()
    }

    /// Everything that is in quarantine.
    pub(super) fn all(&self, now: Instant) -> Vec<Quarantined> {
        let left = |record: &Record| record.until?.checked_duration_since(now).filter(|left| !left.is_zero());
        let one = |((probe, container, _), record): (&Key, &Record)| {
            Some(Quarantined {
                probe: probe.clone(),
                container: ContainerId::new(container),
                left: left(record)?,
            })
        };
        self.records.iter().filter_map(one).collect()
    }

    /// Forgets a container that has gone.
    pub(super) fn forget(&mut self, container: &Container) {
        let id = container.id.as_str();
        self.records.retain(|(_, of, start), _| of != id || *start != container.start_ticks);
    }
}

fn key(probe: &ProbeName, container: &Container) -> Key {
    (probe.clone(), container.id.as_str().to_owned(), container.start_ticks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::container;

    #[test]
    fn three_hits_in_a_row_begin_it_and_each_further_one_doubles_it() {
        let (mut all, start) = (Quarantine::default(), Instant::now());
        let (probe, shop, other) = (ProbeName::new("p"), container("a", None), container("b", None));
        let minutes = |minutes| Some(Duration::from_mins(minutes));
        for expected in [None, None, minutes(1), minutes(2), minutes(4)] {
            assert_eq!(all.note(&probe, &shop, true, start), expected);
        }
        assert_eq!(all.remaining(&probe, &shop, start + Duration::from_mins(1)), minutes(3));
        assert_eq!(all.remaining(&probe, &other, start), None);
        assert_eq!(all.remaining(&ProbeName::new("q"), &shop, start), None);
        assert_eq!(all.counts([&probe].into_iter(), start), [(&probe, 1)]);
        let (container, left) = (shop.id.clone(), Duration::from_mins(4));
        assert_eq!(all.all(start), [Quarantined { probe: probe.clone(), container, left }]);
        assert_eq!(all.all(start + left), []);
        let over = start + Duration::from_mins(4);
        assert_eq!(all.remaining(&probe, &shop, over), None);
        assert_eq!(all.counts([&probe].into_iter(), over), [(&probe, 0)]);
        for _ in 0..40 {
            all.note(&probe, &shop, true, start);
        }
        assert_eq!(all.remaining(&probe, &shop, start), Some(LONGEST));
    }

    #[test]
    fn a_good_run_or_the_containers_end_begins_anew() {
        let (mut all, now) = (Quarantine::default(), Instant::now());
        let (probe, shop) = (ProbeName::new("p"), container("a", None));
        for at_limit in [true, true, false, true, true] {
            assert_eq!(all.note(&probe, &shop, at_limit, now), None);
        }
        all.note(&probe, &shop, true, now);
        assert!(all.remaining(&probe, &shop, now).is_some());
        all.forget(&shop);
        assert_eq!(all.remaining(&probe, &shop, now), None);
    }
}
