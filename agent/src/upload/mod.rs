//! Copies captures to an object store in the background, oldest first. What is not copied yet is found on the disk, so that a
//! restart goes on where it was; a store that is down or says no costs a retry now and then, and never a run or what is
//! kept on the disk. Only in builds with the feature `object-store`. It removes nothing, here or there.

mod pending;
mod send;
mod store;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use rustix::io::Errno;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::model::RunId;
use pending::Pending;
use send::{SendError, Source};
pub use store::{Destination, StoreError};

/// Captures that are copied at the same time while all is well; each holds at most one part in memory. While the store
/// fails it is one, which tells whether it does still.
const AT_ONCE: usize = 4;
/// The pause after the first failure, and the longest after many, each drawn anew from its upper half.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(2);
/// A capture of 64 MiB at 100 KiB/s; a store that is slower fails, and the capture is tried again.
const LONGEST_COPY: Duration = Duration::from_mins(15);
/// At the end, for uploads to be given up in good order; well within the agent's own grace.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// What a store says in an error is its own text; so much of it is logged, in characters.
const MOST_TOLD: usize = 500;

/// What the uploads count.
#[derive(Clone, Debug)]
pub struct Counters {
    pub uploads: IntCounter,
    /// By reason, one of [`REASONS`].
    pub failures: IntCounterVec,
    /// Removed from the disk before they were copied.
    pub missed: IntCounter,
    pub bytes: IntCounter,
    pub pending: IntGauge,
}

/// Label values of `parachute_capture_upload_failures_total`: credentials or rights are refused, there is no such bucket, the
/// store cannot be reached in time, it answers with another error, a capture cannot be read.
pub const REASONS: [&str; 5] = ["refused", "no_bucket", "unreachable", "answered_error", "local"];

/// What the uploads need.
#[derive(Debug)]
pub struct Start {
    /// The captures, each a folder named by its run.
    pub folder: PathBuf,
    pub destination: Destination,
    pub counters: Counters,
    pub stop: CancellationToken,
}

/// Tells of new captures; cheap to clone.
#[derive(Clone, Debug)]
pub struct Uploads(Arc<Pending>);

impl Uploads {
    /// A capture stands whole in its place.
    pub fn kept(&self, id: &RunId) {
        self.0.add(id);
    }
}

/// Begins. The task ends soon after `stop`, whatever the store does.
pub fn start(start: Start) -> (Uploads, JoinHandle<()>) {
    let Start { folder, destination, counters, stop } = start;
    for reason in REASONS {
        counters.failures.with_label_values(&[reason]);
    }
    let pending = Arc::new(Pending::new(folder, counters.pending.clone()));
    let uploads = Uploads(Arc::clone(&pending));
    let uploader = Uploader { pending, destination, counters, stop, failing: None, failures: 0, due: false };
    (uploads, tokio::spawn(uploader.run()))
}

#[derive(Debug)]
struct Uploader {
    pending: Arc<Pending>,
    destination: Destination,
    counters: Counters,
    stop: CancellationToken,
    /// Why, since the last copy that went well.
    failing: Option<&'static str>,
    /// In a row.
    failures: u32,
    /// A pause must come before the next try.
    due: bool,
}

type Ended = (RunId, Result<u64, SendError>);

impl Uploader {
    async fn run(mut self) {
        let mut running = JoinSet::new();
        while self.turn(&mut running).await.is_continue() {}
        // Each gives its parts back to the store, if that answers at once.
        let _ = tokio::time::timeout(LAST_WAIT, async { while running.join_next().await.is_some() {} }).await;
    }

    /// Starts what may be started, then waits until something changes.
    async fn turn(&mut self, running: &mut JoinSet<Ended>) -> ControlFlow<()> {
        let most = if self.failing.is_some() { 1 } else { AT_ONCE };
        if running.is_empty() && self.due {
            tokio::select! {
                () = self.stop.cancelled() => return ControlFlow::Break(()),
                () = tokio::time::sleep(self.pause()) => self.due = false,
            }
        }
        while running.len() < most {
            let pending = Arc::clone(&self.pending);
            // Looks at the disk.
            let Ok(next) = spawn_blocking(move || pending.next()).await else {
                return ControlFlow::Break(());
            };
            let Some(id) = next else { break };
            let source = Source { folder: self.pending.folder().join(id.as_str()), id: id.clone() };
            let (destination, stop) = (self.destination.clone(), self.stop.clone());
            running.spawn(async move {
                let sent = tokio::time::timeout(LONGEST_COPY, send::capture(source, &destination, &stop));
                (id, sent.await.unwrap_or(Err(SendError::Slow)))
            });
        }
        let news = Arc::clone(&self.pending);
        tokio::select! {
            biased;
            () = self.stop.cancelled() => ControlFlow::Break(()),
            Some(ended) = running.join_next() => {
                if let Ok((id, sent)) = ended {
                    self.ended(&id, sent);
                }
                ControlFlow::Continue(())
            }
            () = news.changed(), if running.len() < most => ControlFlow::Continue(()),
        }
    }

    /// Twice as long after each failure, with chance in it, so that a fleet does not come back at once.
    fn pause(&self) -> Duration {
        let whole =
            FIRST_PAUSE.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
        whole / 2 + (whole / 2).mul_f64(chance())
    }

    fn ended(&mut self, id: &RunId, sent: Result<u64, SendError>) {
        let error = match sent {
            Ok(bytes) => {
                self.pending.done(id);
                self.counters.uploads.inc();
                self.counters.bytes.inc_by(bytes);
                (self.failures, self.due) = (0, false);
                if self.failing.take().is_some() {
                    tracing::info!(store = %self.destination, "captures are uploaded again");
                }
                return;
            }
            Err(SendError::Stopped) => return self.pending.again(id),
            Err(SendError::Local(Errno::NOENT)) if !self.pending.folder().join(id.as_str()).exists() => {
                self.counters.missed.inc();
                return self.pending.done(id);
            }
            Err(error) => error,
        };
        let reason = error.reason();
        self.counters.failures.with_label_values(&[reason]).inc();
        if let SendError::Local(_) = error {
            // The store is not to blame, and another try would end the same: the next start looks at it again.
            tracing::warn!(capture = %id, %error, "a capture is not uploaded");
            return self.pending.done(id);
        }
        self.pending.again(id);
        // Those that fail together are one failure.
        self.failures = self.failures.saturating_add(u32::from(!self.due));
        self.due = true;
        if self.failing.replace(reason) != Some(reason) {
            let error: String = error.to_string().chars().take(MOST_TOLD).collect();
            tracing::warn!(store = %self.destination, reason, error, "captures are not uploaded; they stay on the disk and are tried again");
        }
    }
}

/// From 0 to 1, different in each process and each time.
fn chance() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let random = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default();
    f64::from(random) / f64::from(u32::MAX)
}
