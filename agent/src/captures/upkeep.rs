//! Reading the folder at the start, making room in it, and saying what it has come to.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::sync::Notify;

use super::disk::{Fault, FolderError, remove_tree};
use super::index::{id, millis};
use super::keeping::{self, Kept, NotKept};
use super::retain::{self, MOST};
use super::{Reading, Shared, Why};
use crate::model::RunId;

/// Where a timer cannot be set far enough, it is set anew.
const LONGEST_SLEEP: Duration = Duration::from_hours(24);
/// Of what was too old and could not be removed another try is made so much later.
const AGAIN: Duration = Duration::from_mins(1);
/// Of looking for captures in the place of those that cannot be removed; the next capture goes on with it.
const ROUNDS: usize = 100;

impl Shared {
    /// Makes the folder usable, and has it read if it was not. Cheap when all is well: it is asked before each capture.
    pub(super) fn prepare(self: &Arc<Self>) -> Result<(), FolderError> {
        self.folder.prepare()?;
        self.lock()?;
        {
            let mut state = self.state();
            if state.loading || self.is_read() {
                return Ok(());
            }
            state.loading = true;
        }
        self.reading.send_replace(Reading::UnderWay);
        self.counters.working.set(1);
        let loader = Arc::clone(self);
        let started = keeping::thread("captures-index", move || {
            let loaded = loader.load();
            loader.state().loading = false;
            match loaded {
                Ok(()) => {
                    loader.reading.send_replace(Reading::Done);
                    loader.make_room();
                    loader.changed.notify_one();
                }
                Err(error) => {
                    loader.reading.send_replace(Reading::Failed);
                    loader.account(&Err(error.into()));
                }
            }
        });
        if started.is_err() {
            self.state().loading = false;
            self.reading.send_replace(Reading::Failed);
        }
        Ok(())
    }

    /// Keeps other agents out of the folder. The disk is not waited for with the state in hand: of two threads that do this
    /// at once, one is refused by the other's lock, which then is this agent's.
    fn lock(&self) -> Result<(), FolderError> {
        if self.state().lock.is_some() {
            return Ok(());
        }
        let path = self.folder.path();
        let lock = File::open(path).map_err(|source| FolderError::Look { path: path.to_owned(), source })?;
        let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
        let mut state = self.state();
        match locked {
            Ok(()) => state.lock = Some(lock.into()),
            Err(_) if state.lock.is_some() => {}
            Err(_) => return Err(FolderError::InUse(path.to_owned())),
        }
        Ok(())
    }

    /// Reads all of the folder: leftovers are removed, captures are taken in, what is none is set aside.
    fn load(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.folder.tmp())? {
            let entry = entry?;
            let name = entry.file_name();
            let is_written = |state: &super::State| {
                name.to_str().and_then(RunId::parse).is_some_and(|id| state.writing.contains_key(&id))
            };
            if !is_written(&self.state()) {
                // What cannot be removed now is tried at the next start.
                let _ = remove_tree(&entry.path());
            }
        }
        let aside = self.folder.aside()?;
        self.state().aside = aside;
        for name in self.folder.names()? {
            let name = name?;
            let looked = match name.to_str().and_then(RunId::parse) {
                None => Err(Fault::Foreign("its name is none of a run".into())),
                Some(id) => self.folder.look(&id),
            };
            match looked {
                Ok(found) => {
                    let mut state = self.state();
                    // One that was committed meanwhile is there already.
                    if !state.index.contains(&found.record.id) {
                        state.index.insert(&found.record, found.size, SystemTime::now());
                    }
                }
                Err(fault) if fault.aside().is_some() => self.set_aside(&name, &fault),
                // Removed meanwhile.
                Err(Fault::Missing) => {}
                // The agent's own want, and not this capture's fault.
                Err(Fault::Io(error)) if is_want(&error) => return Err(error),
                // One that cannot be read must not keep the others from being bounded.
                Err(fault) => {
                    tracing::warn!(?name, %fault, "left as it is among the captures, and not counted");
                    self.counters.failures.with_label_values(&["io"]).inc();
                }
            }
        }
        self.show();
        Ok(())
    }

    /// Moves what is no good capture out of the way.
    pub(super) fn set_aside(&self, name: &OsStr, fault: &Fault) {
        let Some(why) = fault.aside() else { return };
        let moved = self.folder.set_aside(name, why);
        if let Some(id) = name.to_str().and_then(RunId::parse) {
            self.state().index.remove(&id);
        }
        match moved {
            Ok(aside) => {
                tracing::warn!(?name, %fault, aside = ?aside.name, "set aside among the captures");
                self.state().aside.push(aside);
            }
            // Somebody else has done it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => tracing::warn!(?name, %fault, %error, "cannot be set aside among the captures"),
        }
        self.counters.set_aside.with_label_values(&[why]).inc();
        self.show();
    }

    /// Removes what is too old or has no room any more; true if the rest has room now.
    pub(super) fn make_room(&self) -> bool {
        if !self.is_read() {
            // What is not known yet can be judged when it is.
            return true;
        }
        self.expire_aside();
        // Another round for those that come next in the place of one that stays; a round costs a look at all.
        let _ = (0..ROUNDS).any(|_| !self.evict());
        self.show();
        let state = self.state();
        retain::fits(&state.index, state.besides(), &state.bounds)
    }

    fn expire_aside(&self) {
        let now = millis(SystemTime::now());
        let old: Vec<_> = {
            let mut state = self.state();
            let longest = retain::millis(state.bounds.failures_max_age);
            let is_old = |since: u64| since.saturating_add(longest) <= now;
            let mut old: Vec<_> = state.aside.extract_if(.., |aside| is_old(aside.since)).collect();
            // They may take half of the room, as captures need the other half; the oldest go.
            state.aside.sort_by_key(|aside| aside.since);
            let mut size: u64 = state.aside.iter().map(|aside| aside.size).sum();
            while size > state.bounds.max_size / 2 && !state.aside.is_empty() {
                let oldest = state.aside.remove(0);
                size -= oldest.size;
                old.push(oldest);
            }
            old
        };
        for aside in old {
            if let Err(error) = self.folder.remove_aside(&aside.name) {
                tracing::warn!(name = ?aside.name, %error, "what was set aside cannot be removed");
            }
        }
    }

    /// One round; true if some were found to be stuck, so that others have to go.
    fn evict(&self) -> bool {
        let victims = {
            let state = self.state();
            retain::victims(&state.index, state.besides(), &state.bounds, MOST, millis(SystemTime::now()))
        };
        let mut stuck = false;
        for (key, why) in victims {
            let id = id(key);
            let Err(error) = self.folder.remove(&id) else {
                self.forget(&id, why);
                continue;
            };
            let errno = error.raw_os_error().map(Errno::from_raw_os_error);
            if !matches!(errno, Some(Errno::PERM | Errno::ACCESS | Errno::BUSY)) {
                self.account(&Err(error.into()));
                return false;
            }
            // It is this one's fault and not the disk's: somebody holds on to it, as by chattr(1) or as its owner.
            if self.state().index.stick(&id) {
                stuck = true;
                tracing::warn!(capture = %id, %error, "cannot be removed; it stays, and others make the room");
            }
        }
        stuck
    }

    pub(super) fn forget(&self, id: &RunId, why: Why) {
        if self.state().index.remove(id) {
            self.counters.evicted.with_label_values(&[why.as_str()]).inc();
        }
    }

    pub(super) fn show(&self) {
        let state = self.state();
        let besides = state.besides();
        self.counters.captures.set(i64::try_from(state.index.len()).unwrap_or(i64::MAX));
        self.counters.bytes.set(whole(state.index.bytes + besides.drafts + besides.aside));
    }

    /// Counts how keeping went, and tells the log when that changes.
    pub(super) fn account(&self, result: &Result<Option<Kept>, NotKept>) {
        let error = match result {
            Ok(None) => return,
            Ok(Some(_)) => {
                self.counters.working.set(1);
                if self.state().complaint.take().is_some() {
                    tracing::info!("captures are kept again");
                }
                return;
            }
            Err(error) => error,
        };
        self.counters.failures.with_label_values(&[error.as_str()]).inc();
        if error.is_the_disks() {
            self.counters.working.set(0);
        }
        if self.state().complaint.replace(error.as_str()) != Some(error.as_str()) {
            let folder = self.folder.path().display();
            tracing::warn!(%folder, %error, "what runs print is not kept; it is tried again with the next run");
        }
    }
}

/// The process lacks something, and not the file.
fn is_want(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

pub(super) fn whole(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Removes each capture when it is too old, for as long as there is somebody who keeps captures.
pub(super) async fn expire(shared: Weak<Shared>, changed: Arc<Notify>) {
    let mut sleep = LONGEST_SLEEP;
    loop {
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = changed.notified() => {}
        }
        let Some(shared) = shared.upgrade() else { return };
        let (tell, told) = tokio::sync::oneshot::channel();
        // Not on this thread, which must not wait for a disk.
        let started = keeping::thread("captures-upkeep", move || {
            shared.make_room();
            let state = shared.state();
            let _ = tell.send(retain::next_expiry(&state.index, &state.bounds, &state.aside));
        });
        let next = if started.is_ok() { told.await.ok().flatten() } else { None };
        let now = millis(SystemTime::now());
        sleep = match next {
            None => LONGEST_SLEEP,
            Some(next) if next <= now => AGAIN,
            Some(next) => Duration::from_millis(next - now).min(LONGEST_SLEEP),
        };
    }
}
