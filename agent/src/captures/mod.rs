//! What runs printed, kept on disk with the reason, the place and the outcome of each run: for whoever comes after the alert.
//!
//! One folder per capture, named by its run: `record.json`, and `stdout.zst` and `stderr.zst` for what was printed. It is
//! written in the sub-folder `tmp` and moved to its place when all of it is on the disk (`draft`), so that whatever stands in a
//! capture's place is whole. What stands there all the same and is none goes to the sub-folder `set-aside`.
//!
//! - `record`: the JSON; `disk`: the folder, also for the command line without an agent; `read`: streams back from it.
//! - `keeping`: a run's output on its way to the disk, by a thread of its own that may hang without holding anybody up.
//! - `index`: what is known of all captures without the disk; `retain`: which of them have to go; `upkeep`: reading the
//!   folder at the start, and making room.
//!
//! A disk that fails stops the keeping and nothing else: it is counted, said once, and tried again with the next run.

mod disk;
mod draft;
mod index;
mod keeping;
mod moment;
mod read;
mod record;
mod retain;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use serde::Serialize;
use tokio::sync::{Notify, watch};

pub use disk::{Fault, Folder, FolderError, Found};
pub use index::{Filter, Index, Summary};
pub use keeping::{Keeping, Kept, MOST_PUT_OFF, NotKept, Pieces};
pub use moment::moment;
pub use read::StreamReader;
pub use record::{Kind, Part, Place, Record};
pub use retain::Why;

use self::disk::Aside;
use self::retain::Besides;
use crate::config;
use crate::model::{RunId, Stream};

/// Rows of a list, where nobody says how many, and at most.
pub const USUAL_LIMIT: usize = 100;
pub const MAX_LIMIT: usize = 1000;

/// The metrics that this room moves.
#[derive(Clone, Debug)]
pub struct Counters {
    pub captures: IntGauge,
    /// On the disk, all that is in the folder.
    pub bytes: IntGauge,
    pub budget_bytes: IntGauge,
    /// 1 or 0.
    pub working: IntGauge,
    pub written: IntCounter,
    /// `reason`, one of [`NotKept::REASONS`].
    pub failures: IntCounterVec,
    /// `reason`, one of [`Why::ALL`].
    pub evicted: IntCounterVec,
    /// `reason`, one of [`Fault::ASIDE`].
    pub set_aside: IntCounterVec,
}

/// Handle to the captures of this agent; cheap to clone.
#[derive(Clone)]
pub struct Captures {
    shared: Arc<Shared>,
}

struct Shared {
    folder: Folder,
    counters: Counters,
    /// A std mutex: it is held for some instructions, for a list for some milliseconds, and never while the disk is waited for.
    state: Mutex<State>,
    /// The next expiry may be another one.
    changed: Arc<Notify>,
    reading: watch::Sender<Reading>,
    on_kept: OnceLock<OnKept>,
}

/// Of the folder, which is read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    UnderWay,
    Done,
    /// It is tried again with the next capture.
    Failed,
}

/// Called with each new capture, by the thread that has written it: it must not wait.
type OnKept = Box<dyn Fn(&RunId) + Send + Sync>;

#[derive(Debug)]
struct State {
    bounds: config::Captures,
    index: Index,
    /// The captures that are being written.
    writing: HashMap<RunId, Writing>,
    aside: Vec<Aside>,
    loading: bool,
    /// Held as long as the agent lives, so that no other one writes here.
    lock: Option<OwnedFd>,
    /// What the log was told last of a disk that fails.
    complaint: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Writing {
    /// On the disk, by now or soon.
    bytes: u64,
    /// Nobody waits for it any more, because the disk is slow or hangs.
    late: bool,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listing {
    pub captures: Vec<Summary>,
    /// Where the next page begins, for `before`; none on the last one.
    pub next: Option<RunId>,
    /// False while the folder is still being read after the agent's start, or cannot be.
    pub complete: bool,
}

impl std::fmt::Debug for Captures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Captures").field("folder", &self.shared.folder).finish_non_exhaustive()
    }
}

impl Captures {
    /// Takes the folder for this agent, reads it in the background, and removes what is too old from now on. Never fails: where
    /// there can be no captures the agent works without. To be called in a runtime of tokio's.
    pub fn open(folder: &Path, bounds: &config::Captures, counters: Counters) -> Self {
        counters.budget_bytes.set(upkeep::whole(bounds.max_size));
        for (counter, reasons) in [
            (&counters.failures, NotKept::REASONS.as_slice()),
            (&counters.evicted, &Why::ALL.map(Why::as_str)),
            (&counters.set_aside, &Fault::ASIDE),
        ] {
            for reason in reasons {
                counter.with_label_values(&[reason]);
            }
        }
        let shared = Arc::new(Shared {
            folder: Folder::new(folder),
            counters,
            state: Mutex::new(State {
                bounds: *bounds,
                index: Index::default(),
                writing: HashMap::new(),
                aside: Vec::new(),
                loading: false,
                lock: None,
                complaint: None,
            }),
            changed: Arc::default(),
            reading: watch::Sender::new(Reading::UnderWay),
            on_kept: OnceLock::new(),
        });
        let opened = Arc::clone(&shared);
        // Without a thread there is none for a run's output either, and that is counted.
        let _ = keeping::thread("captures", move || {
            if let Err(error) = opened.prepare() {
                opened.reading.send_replace(Reading::Failed);
                opened.account(&Err(error.into()));
            }
        });
        tokio::spawn(upkeep::expire(Arc::downgrade(&shared), Arc::clone(&shared.changed)));
        Self { shared }
    }

    /// Has `tell` called with each new capture, as soon as it stands in its place; only the first caller's is.
    pub fn on_kept(&self, tell: impl Fn(&RunId) + Send + Sync + 'static) {
        let _ = self.shared.on_kept.set(Box::new(tell));
    }

    /// From now on these bounds, as after a reload of the configuration.
    pub fn bound(&self, bounds: &config::Captures) {
        self.shared.counters.budget_bytes.set(upkeep::whole(bounds.max_size));
        self.shared.state().bounds = *bounds;
        self.shared.changed.notify_one();
    }

    /// Starts to keep what a run prints. None if that is not possible, which is counted.
    pub fn begin(&self, id: &RunId) -> Option<Keeping> {
        keeping::begin(&self.shared, id)
    }

    /// Ends it: with a record what was printed is kept, without one it is thrown away. Waits for the disk, but only for some
    /// seconds: what was too slow may be kept all the same later. `Ok(None)` is for what was thrown away.
    pub async fn finish(&self, keeping: Keeping, record: Option<Record>) -> Result<Option<Kept>, NotKept> {
        keeping::finish(&self.shared, keeping, record).await
    }

    /// Whether there is a capture of this run. Looks at the disk as long as the folder has not been read.
    pub fn contains(&self, id: &RunId) -> bool {
        if self.shared.state().index.contains(id) {
            return true;
        }
        !self.shared.is_read() && self.shared.folder.has(id)
    }

    /// Waits until the folder has been read or cannot be, for as long as the caller does.
    pub async fn settled(&self) {
        // The sender lives as long as this does.
        let _ = self.shared.reading.subscribe().wait_for(|reading| *reading != Reading::UnderWay).await;
    }

    /// Waits until the folder has been read, however often that was tried.
    #[cfg(test)]
    pub(crate) async fn loaded(&self) {
        let _ = self.shared.reading.subscribe().wait_for(|reading| *reading == Reading::Done).await;
    }

    /// A page of those that fit, newest first; `limit` within [`MAX_LIMIT`].
    pub fn list(&self, filter: &Filter, limit: usize, before: Option<&RunId>) -> Listing {
        let complete = self.shared.is_read();
        let (captures, next) = self.shared.state().index.list(filter, limit.min(MAX_LIMIT), before);
        Listing { captures, next, complete }
    }

    /// The newest one's id.
    pub fn newest(&self) -> Option<RunId> {
        self.shared.state().index.newest()
    }

    /// One capture's record, from the disk: call it off the async threads.
    pub fn record(&self, id: &RunId) -> Result<Record, Fault> {
        self.shared.noted(id, self.shared.folder.look(id).map(|found| found.record))
    }

    /// A stream from the raw byte `from` on, `most` bytes or all. Reads the disk: call it, and read, off the async threads.
    pub fn read(
        &self,
        id: &RunId,
        stream: Stream,
        from: u64,
        most: Option<u64>,
    ) -> Result<(Record, StreamReader), Fault> {
        let (shared, damaged) = (Arc::downgrade(&self.shared), id.clone());
        let tell = move |what| {
            if let Some(shared) = shared.upgrade() {
                shared.set_aside(damaged.as_str().as_ref(), &Fault::Corrupt(what));
            }
        };
        let opened = read::open(&self.shared.folder, id, stream, (from, most), Some(Box::new(tell)));
        self.shared.noted(id, opened)
    }

    /// Removes one because somebody asks for it; false if there is none. Waits for the disk.
    pub fn remove(&self, id: &RunId) -> std::io::Result<bool> {
        let removed = self.shared.folder.remove(id)?;
        self.shared.forget(id, Why::Asked);
        self.shared.show();
        Ok(removed)
    }
}

impl Shared {
    fn is_read(&self) -> bool {
        *self.reading.borrow() == Reading::Done
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What reading a capture says of it besides: that it is gone, or is none.
    fn noted<T>(&self, id: &RunId, result: Result<T, Fault>) -> Result<T, Fault> {
        match &result {
            // Somebody has removed it behind the agent's back.
            Err(Fault::Missing) if self.state().index.remove(id) => self.show(),
            Err(fault) if fault.aside().is_some() => self.set_aside(id.as_str().as_ref(), fault),
            _ => {}
        }
        result
    }
}

impl State {
    fn besides(&self) -> Besides {
        Besides {
            drafts: self.writing.values().map(|writing| writing.bytes).sum(),
            aside: self.aside.iter().map(|aside| aside.size).sum(),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Whoever waits for the next expiry sees that there is none.
        self.changed.notify_one();
    }
}
