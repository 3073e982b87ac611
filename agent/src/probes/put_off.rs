//! Captures of alerts' runs that wait until the runs have the processors no more: compressing and syncing them takes from runs
//! what those would have had. Bounded in number, and in time until they stand in line for the disk; what was printed is in memory
//! meanwhile, 16 KiB at most each, and beside it what was made of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;

use crate::captures::MOST_PUT_OFF;

/// So many are written at once then.
const AT_ONCE: usize = 64;
/// So long at most does one wait for a quiet moment.
const MOST: Duration = Duration::from_secs(1);
/// And so long of it, once no run waits for a place any more, for the last ones to end.
const AT_LAST: Duration = Duration::from_millis(50);

/// What the pool has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Runs wait for a place.
    Queued,
    /// None waits, and some are under way.
    Running,
    /// Nothing, or nothing that is worth to be waited for.
    Idle,
}

#[derive(Debug)]
pub(super) struct PutOff {
    places: Arc<Semaphore>,
    turns: Semaphore,
    load: watch::Sender<Load>,
}

impl Default for PutOff {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MOST_PUT_OFF)),
            turns: Semaphore::new(AT_ONCE),
            load: watch::Sender::new(Load::Idle),
        }
    }
}

impl PutOff {
    /// Whoever waits hears of a change alone.
    pub(super) fn tell(&self, load: Load) {
        self.load.send_if_modified(|now| std::mem::replace(now, load) != load);
    }

    /// A place among those that wait, if there is one left; it is to be kept until the capture is on the disk.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.available_permits() == MOST_PUT_OFF
    }

    /// Waits for a quiet moment, but not for ever, and then for a turn to write.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let mut load = self.load.subscribe();
        let quiet = async {
            // An error would be the end of this value, which is borrowed.
            let _ = load.wait_for(|load| *load != Load::Queued).await;
            let _ = timeout(AT_LAST, load.wait_for(|load| *load == Load::Idle)).await;
        };
        let _ = timeout(MOST, quiet).await;
        self.turns.acquire().await.ok()
    }

    /// The agent ends: twice as many at once, and no more, as each is a thread and four syncs. An alert's run whose capture is not
    /// on the disk in time is in the journal still, and is run anew.
    pub(super) fn hurry(&self) {
        self.turns.add_permits(AT_ONCE);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// How long one waits for its turn while the load changes, each after so many milliseconds.
    async fn waits(first: Load, changes: &[(u64, Load)]) -> u128 {
        let put_off = PutOff::default();
        put_off.tell(first);
        let began = Instant::now();
        let change = async {
            for (after, load) in changes {
                tokio::time::sleep(Duration::from_millis(*after)).await;
                put_off.tell(*load);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            turn = put_off.turn() => assert!(turn.is_some()),
            () = change => {}
        }
        began.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn a_capture_waits_for_the_queue_and_then_for_the_last_runs() {
        use Load::{Idle, Queued, Running};
        let restless = [(30, Queued), (10, Running)].repeat(100);
        for (first, changes, least, most) in [
            (Idle, &[][..], 0, 0),
            (Running, &[(20, Idle)], 20, 21),
            (Running, &[], 50, 51),
            (Queued, &[(300, Running), (20, Idle)], 320, 321),
            (Queued, &[(300, Idle)], 300, 301),
            (Queued, &[], 1000, 1001),
            // Other runs come and go: it is not waited for the end of each of them.
            (Running, &restless, 50, 51),
        ] {
            let waited = waits(first, changes).await;
            assert!((least..=most).contains(&waited), "{first:?}, {changes:?}: {waited} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_or_write_than_is_said() {
        let put_off = PutOff::default();
        let places: Vec<_> = std::iter::from_fn(|| put_off.place()).collect();
        assert_eq!((places.len(), put_off.is_empty()), (MOST_PUT_OFF, false));
        drop(places);
        assert!(put_off.is_empty());
        let mut turns = Vec::new();
        for _ in 0..AT_ONCE {
            turns.push(put_off.turn().await);
        }
        assert!(timeout(Duration::from_mins(1), put_off.turn()).await.is_err());
        put_off.hurry();
        for _ in 0..AT_ONCE {
            turns.push(put_off.turn().await);
        }
        assert!(turns.iter().all(Option::is_some));
        assert!(timeout(Duration::from_mins(1), put_off.turn()).await.is_err());
    }
}
