//! A set of keys that knows when each was last put in, and forgets by age and by number, the oldest first.

use std::collections::{HashMap, VecDeque};

use super::payload::Key;

/// Times are milliseconds of Unix time, as they are in the journal.
#[derive(Debug)]
pub(super) struct Recent {
    at: HashMap<Key, u64>,
    /// In the order of putting in. A key that was put in again stands here twice until its older place is forgotten.
    order: VecDeque<(u64, Key)>,
    max_age: u64,
    max_count: usize,
}

impl Recent {
    pub(super) fn new(max_age: u64, max_count: usize) -> Self {
        Self { at: HashMap::new(), order: VecDeque::new(), max_age, max_count }
    }

    /// When it was put in, if that is not forgotten.
    pub(super) fn get(&self, key: &Key, now: u64) -> Option<u64> {
        // Both ways: after a clock was put back, what is far in the future has never been.
        self.at.get(key).copied().filter(|at| at.abs_diff(now) < self.max_age)
    }

    /// Puts it in, and hands out what is forgotten for it.
    pub(super) fn put(&mut self, key: Key, at: u64) -> Vec<Key> {
        self.at.insert(key, at);
        self.order.push_back((at, key));
        let mut forgotten = Vec::new();
        while let Some((oldest, key)) = self.order.front().copied() {
            if self.order.len() <= self.max_count && oldest.abs_diff(at) < self.max_age {
                break;
            }
            self.order.pop_front();
            if self.at.get(&key) == Some(&oldest) {
                self.at.remove(&key);
                forgotten.push(key);
            }
        }
        forgotten
    }

    /// Forgets that it was put in at that time; false if it was put in again since.
    pub(super) fn remove(&mut self, key: &Key, at: u64) -> bool {
        // Its place in the order is passed over when its turn comes.
        self.at.get(key) == Some(&at) && self.at.remove(key).is_some()
    }

    /// Empties it, and hands out what was in it, the oldest first.
    pub(super) fn take(&mut self) -> VecDeque<(u64, Key)> {
        self.at.clear();
        std::mem::take(&mut self.order)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, u64)> {
        self.at.iter().map(|(key, at)| (*key, *at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        [n; 16]
    }

    #[test]
    fn it_forgets_by_age_and_by_number() {
        let mut recent = Recent::new(100, 3);
        for n in 1..=3 {
            assert!(recent.put(key(n), u64::from(n)).is_empty());
        }
        assert_eq!(recent.put(key(4), 4), [key(1)]);
        assert_eq!((recent.get(&key(1), 4), recent.get(&key(2), 4)), (None, Some(2)));
        assert_eq!(recent.get(&key(2), 102), None, "too old, though still there");
        assert_eq!(recent.put(key(5), 103), [key(2), key(3)]);
        assert_eq!(recent.iter().count(), 2);
    }

    #[test]
    fn one_put_in_again_is_as_young_as_its_last_time_and_takes_no_more_room() {
        let mut recent = Recent::new(1000, 3);
        for at in 1..=50 {
            recent.put(key(1), at);
        }
        assert!(recent.order.len() <= 3);
        assert_eq!(recent.get(&key(1), 50), Some(50));
    }

    #[test]
    fn a_clock_that_is_put_back_makes_nothing_last_longer() {
        let mut recent = Recent::new(100, 3);
        recent.put(key(1), 10_000);
        assert_eq!(recent.get(&key(1), 20), None);
        assert_eq!(recent.put(key(2), 20), [key(1)]);
    }
}
