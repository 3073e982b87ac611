//! Pure: whose turn it is among the runs that wait. The pool runs one at a time in a container, and one that hangs there must
//! not take the places of the others: so it is the oldest run of a container that is free, however many wait for others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{ContainerId, RunId};

#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Of containers that are busy, or for which a run waits.
    lines: HashMap<ContainerId, Line>,
    /// The head of each line whose container is free.
    heads: BTreeMap<RunId, ContainerId>,
    busy: usize,
}

/// The runs that wait for one container.
#[derive(Debug, Default)]
struct Line {
    /// Oldest first, as the ids say.
    waiting: BTreeSet<RunId>,
    /// The one that has the container.
    busy: Option<RunId>,
}

impl Line {
    fn head(&self) -> Option<&RunId> {
        if self.busy.is_some() { None } else { self.waiting.first() }
    }
}

impl Turns {
    /// Containers that are busy.
    pub(super) fn busy(&self) -> usize {
        self.busy
    }

    pub(super) fn add(&mut self, run: &RunId, container: &ContainerId) {
        self.change(container, |line| _ = line.waiting.insert(run.clone()));
    }

    /// The oldest run whose container is free. Its container is busy from now on, until [`Self::free`].
    pub(super) fn take(&mut self) -> Option<RunId> {
        let (run, container) = self.heads.pop_first()?;
        self.change(&container, |line| {
            line.waiting.remove(&run);
            line.busy = Some(run.clone());
        });
        Some(run)
    }

    /// The container is free again, if it was busy with this run.
    pub(super) fn free(&mut self, run: &RunId, container: &ContainerId) {
        self.change(container, |line| _ = line.busy.take_if(|busy| busy == run));
    }

    /// It neither waits nor has its container any more, if it did.
    pub(super) fn remove(&mut self, run: &RunId, container: &ContainerId) {
        self.free(run, container);
        self.change(container, |line| _ = line.waiting.remove(run));
    }

    fn change(&mut self, container: &ContainerId, change: impl FnOnce(&mut Line)) {
        let line = self.lines.entry(container.clone()).or_default();
        if let Some(head) = line.head() {
            self.heads.remove(head);
        }
        self.busy -= usize::from(line.busy.is_some());
        change(line);
        self.busy += usize::from(line.busy.is_some());
        if let Some(head) = line.head() {
            self.heads.insert(head.clone(), container.clone());
        }
        if line.waiting.is_empty() && line.busy.is_none() {
            self.lines.remove(container);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: usize) -> RunId {
        RunId::new(&format!("{number:03}"))
    }

    #[test]
    fn it_is_the_oldest_whose_container_is_free() {
        let [a, b] = ["a", "b"].map(ContainerId::new);
        let mut turns = Turns::default();
        for (number, container) in [(3, &b), (1, &a), (0, &a), (2, &a)] {
            turns.add(&run(number), container);
        }
        assert_eq!(turns.take(), Some(run(0)));
        assert_eq!(turns.take(), Some(run(3)), "a is busy");
        assert_eq!((turns.take(), turns.busy()), (None, 2));
        turns.add(&run(4), &b);
        assert_eq!(turns.take(), None, "it comes to a container that is busy");
        turns.remove(&run(1), &a);
        turns.free(&run(1), &a);
        assert_eq!(turns.take(), None, "a is busy with another one");
        turns.free(&run(0), &a);
        assert_eq!(turns.take(), Some(run(2)), "the one before it has gone");
        turns.free(&run(3), &b);
        turns.remove(&run(4), &b);
        turns.remove(&run(2), &a);
        assert_eq!(turns.take(), None);
        assert_eq!((turns.busy(), turns.lines.len(), turns.heads.len()), (0, 0, 0), "nothing is left behind");
    }

    proptest::proptest! {
        /// Against the plain way: all that wait, in order, and the first whose container is not busy.
        #[test]
        fn it_is_what_a_walk_through_all_would_find(steps in proptest::collection::vec((0..4_usize, 0..5_usize, 0..40_usize), 0..200)) {
            let containers: Vec<_> = (0..5).map(|number| ContainerId::new(&number.to_string())).collect();
            let (mut turns, mut waiting, mut busy) = (Turns::default(), BTreeMap::new(), BTreeMap::new());
            for (what, container, number) in steps {
                // A run is in one container only.
                let (container, of_run) = (&containers[container], &containers[number % 5]);
                match what {
                    0 => {
                        turns.add(&run(number), of_run);
                        waiting.insert(run(number), of_run.clone());
                    }
                    1 => {
                        turns.remove(&run(number), of_run);
                        waiting.remove(&run(number));
                        busy.retain(|_, of| *of != run(number));
                    }
                    2 => {
                        if let Some(of) = busy.remove(container) {
                            turns.free(&of, container);
                        }
                    }
                    _ => {
                        let found = waiting.iter().find(|(_, of)| !busy.contains_key(*of));
                        let found = found.map(|(run, of)| (run.clone(), of.clone()));
                        proptest::prop_assert_eq!(turns.take(), found.as_ref().map(|(run, _)| run.clone()));
                        if let Some((run, of)) = found {
                            waiting.remove(&run);
                            busy.insert(of, run);
                        }
                    }
                }
                proptest::prop_assert_eq!(turns.busy(), busy.len());
            }
        }
    }
}
