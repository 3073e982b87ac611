//! Which captures are not uploaded yet. The truth is on the disk: a capture that is uploaded has an empty file in its folder
//! that says so. Here is an index of it, of a bounded size, that is made anew when it has been worked off.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use tokio::sync::Notify;

use crate::model::RunId;

/// The file in a capture's folder that says that it is uploaded.
pub(super) const MARKER: &str = "uploaded";
/// Captures in the index, which take some 100 bytes each; what is beyond waits on the disk.
const MOST: usize = 20_000;

#[derive(Debug)]
pub(super) struct Pending {
    folder: PathBuf,
    index: Mutex<Index>,
    /// Not only of this index: also of those that are beyond it.
    gauge: IntGauge,
    news: Notify,
}

#[derive(Debug)]
struct Index {
    ids: BTreeSet<RunId>,
    /// Of `ids`, those that somebody works on.
    taken: HashSet<RunId>,
    /// The last that was handed out: each has its turn, so that one that the store refuses holds up no other.
    last: Option<RunId>,
    /// Captures that are on the disk, but not here.
    beyond: usize,
    /// Nobody has looked at the disk yet.
    fresh: bool,
}

impl Pending {
    pub(super) fn new(folder: PathBuf, gauge: IntGauge) -> Self {
        let index = Index { ids: BTreeSet::new(), taken: HashSet::new(), last: None, beyond: 0, fresh: true };
        Self { folder, index: Mutex::new(index), gauge, news: Notify::new() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn add(&self, id: &RunId) {
        let mut index = self.lock();
        if index.ids.len() < MOST && index.beyond == 0 {
            index.ids.insert(id.clone());
        } else {
            index.beyond += 1;
        }
        self.count(&index);
        drop(index);
        self.news.notify_one();
    }

    /// Returns when there is something new.
    pub(super) async fn changed(&self) {
        self.news.notified().await;
    }

    /// Takes the oldest that has not had its turn. May look at the disk, and so wait for it.
    pub(super) fn next(&self) -> Option<RunId> {
        let look = {
            let index = self.lock();
            index.fresh || (index.beyond > 0 && index.ids.is_empty())
        };
        if look {
            let found = scan(&self.folder, MOST);
            let mut index = self.lock();
            index.fresh = false;
            index.beyond = 0;
            match found {
                Ok((ids, all)) => {
                    index.beyond = all - ids.len();
                    index.ids.extend(ids);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(folder = %self.folder.display(), %error, "captures to upload cannot be looked for")
                }
            }
            self.count(&index);
        }
        let mut index = self.lock();
        let after = index.last.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let free = |id: &&RunId| !index.taken.contains(*id);
        let id = index
            .ids
            .range((after, Bound::Unbounded))
            .find(free)
            .or_else(|| index.ids.iter().find(free))
            .cloned()?;
        index.taken.insert(id.clone());
        index.last = Some(id.clone());
        Some(id)
    }

    /// It need not be tried again.
    pub(super) fn done(&self, id: &RunId) {
        let mut index = self.lock();
        index.taken.remove(id);
        index.ids.remove(id);
        self.count(&index);
    }

    /// It must be tried again.
    pub(super) fn again(&self, id: &RunId) {
        self.lock().taken.remove(id);
    }

    fn count(&self, index: &Index) {
        self.gauge.set(i64::try_from(index.ids.len() + index.beyond).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The oldest `most` captures that are not uploaded, and how many there are in all.
fn scan(folder: &Path, most: usize) -> io::Result<(BTreeSet<RunId>, usize)> {
    let mut oldest = BTreeSet::new();
    let mut all = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(RunId::parse) else { continue };
        if fs::symlink_metadata(entry.path().join(MARKER)).is_ok() {
            continue;
        }
        all += 1;
        oldest.insert(id);
        if oldest.len() > most {
            oldest.pop_last();
        }
    }
    Ok((oldest, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> RunId {
        RunId::parse(&format!("20261126T030412.123Z-{number:08x}")).unwrap()
    }

    #[test]
    fn what_is_on_the_disk_comes_oldest_first_and_each_has_its_turn() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..4 {
            fs::create_dir(folder.path().join(id(number).as_str())).unwrap();
        }
        for other in ["tmp", "set-aside", "lost+found"] {
            fs::create_dir(folder.path().join(other)).unwrap();
        }
        fs::write(folder.path().join(id(1).as_str()).join(MARKER), "").unwrap();
        let gauge = IntGauge::new("pending", "pending").unwrap();
        let pending = Pending::new(folder.path().to_owned(), gauge.clone());
        assert_eq!(pending.next(), Some(id(0)));
        assert_eq!(gauge.get(), 3);
        assert_eq!(pending.next(), Some(id(2)));
        pending.again(&id(0));
        assert_eq!(pending.next(), Some(id(3)), "the others come before the one that failed");
        assert_eq!(pending.next(), Some(id(0)));
        assert_eq!(pending.next(), None);
        for number in [0, 2, 3] {
            pending.done(&id(number));
        }
        pending.add(&id(9));
        assert_eq!(gauge.get(), 1);
        assert_eq!(pending.next(), Some(id(9)));
    }

    #[test]
    fn the_index_is_bounded_and_the_rest_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let gauge = IntGauge::new("pending", "pending").unwrap();
        let pending = Pending::new(folder.path().to_owned(), gauge.clone());
        assert_eq!(pending.next(), None);
        for number in 0..MOST + 5 {
            pending.add(&id(number));
        }
        fs::create_dir(folder.path().join(id(MOST + 3).as_str())).unwrap();
        assert_eq!(gauge.get(), i64::try_from(MOST).unwrap() + 5);
        for number in 0..MOST {
            pending.done(&id(number));
        }
        assert_eq!(pending.next(), Some(id(MOST + 3)), "found on the disk");
        assert_eq!(gauge.get(), 1);
    }

    #[test]
    fn a_scan_keeps_the_oldest() {
        let folder = tempfile::tempdir().unwrap();
        for number in [5, 1, 4, 2, 3] {
            fs::create_dir(folder.path().join(id(number).as_str())).unwrap();
        }
        let (oldest, all) = scan(folder.path(), 2).unwrap();
        assert_eq!((oldest.into_iter().collect::<Vec<_>>(), all), (vec![id(1), id(2)], 5));
    }
}
