//! Alerts: a webhook becomes runs that are on the disk before it is answered, and are run once, also when the agent is
//! killed in between. What came of each alert can be looked up.
//!
//! The order of things is the promise. A webhook's runs are decided on and queued under one lock (`admit`), written down
//! with whatever else has come meanwhile (`writer`, `journal`), and only then answered with 202 and run. A run is taken out
//! of the journal when its result is final, which is when its capture is on the disk and some time after it was published; found there after a restart, it is run under the same id, unless its capture
//! is there already or its container is not. If the disk does not take it the run is run all the same, and the answer is
//! 503, so that it is delivered again: it is known then, and answered well as soon as the disk is.

mod admit;
mod counts;
mod journal;
mod log;
mod pass;
mod payload;
mod queue;
mod recent;
mod run;
mod select;
mod turns;
mod webhook;
mod writer;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

pub use self::counts::{ANSWERS, Counters, Dropped, Reason};
use self::journal::{Contents, Op};
use self::log::Log;
pub use self::log::{DecidedRun, Decision};
pub use self::payload::{MAX_BODY, Status};
use self::queue::Queue;
pub use self::run::Turn;
pub use self::webhook::Answer;
use self::writer::{Hooks, Writer};
use super::LiveSet;
use crate::config::Config;
use crate::model::{Delivery, Instance, Outcome, Parcel, RunId, RunRequest};

/// How long the first look at the journal is waited for before alerts are taken without it: a disk can hang.
const JOURNAL_WAIT: Duration = Duration::from_secs(30);
/// How long a first answer of a runtime is waited for: senders are told to come again meanwhile.
const NAMES_WAIT: Duration = Duration::from_secs(30);

/// More would only wait for one another: nodes that run containers have some processors, and the agent is to use few.
const DECIDING: usize = 4;

/// How a run ended.
#[derive(Clone, Debug)]
pub enum RunEnd {
    /// Its result is final: its capture is on the disk, or is not to be kept.
    Done(Outcome),
    /// It was not begun, and why.
    Refused(String),
    /// The agent ends: the run is left for its next start.
    ShuttingDown,
}

/// Runs a request, and returns when its result is final and kept. The token ends it before its time; the turn is to be dropped
/// when its result is published.
pub type Run = Box<dyn Fn(RunRequest, CancellationToken, Turn) -> BoxFuture<'static, RunEnd> + Send + Sync>;
/// Whether the capture of a run is there.
pub type Kept = Box<dyn Fn(&RunId) -> bool + Send + Sync>;

/// Passes alerts on, once, to the peers that answer; breaks if there is nothing more to be done.
pub type PassOn = Box<dyn Fn(Parcel) -> BoxFuture<'static, ControlFlow<Delivery, Rest>> + Send + Sync>;
/// Asks again those that may take them, and returns when each has or is given up: told false, at once.
pub type Rest = Box<dyn FnOnce(bool) -> BoxFuture<'static, Delivery> + Send>;

/// What alerts are answered with, and from.
pub struct Wiring {
    pub config: Arc<ArcSwap<Config>>,
    pub live: LiveSet,
    /// Returns when what runs on the node is known; alerts before that are to be delivered again.
    pub ready: BoxFuture<'static, ()>,
    pub run: Run,
    pub kept: Kept,
    pub pass_on: PassOn,
    /// By which the peers, and this agent, know what it has passed on.
    pub instance: Instance,
    pub counters: Counters,
}

impl std::fmt::Debug for Wiring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wiring").finish_non_exhaustive()
    }
}

/// Handle to the room; cheap to clone.
#[derive(Clone)]
pub struct Alerts(Arc<Shared>);

struct Shared {
    config: Arc<ArcSwap<Config>>,
    live: LiveSet,
    run: Run,
    kept: Kept,
    pass_on: PassOn,
    instance: Instance,
    counters: Counters,
    queue: Mutex<Queue>,
    log: Mutex<Log>,
    /// None without a folder, and once closed. Locked after the queue, so that the order of writing is that of deciding.
    writer: Mutex<Option<Writer>>,
    /// Webhooks that are read and decided on at once: it is work for the processor, and each has its body in memory.
    deciding: Arc<Semaphore>,
    /// Something may be run.
    work: Notify,
    /// Something may be passed on.
    to_pass: Notify,
    /// Ends when the room was closed and all runs have.
    dispatcher: Mutex<Option<tokio::task::JoinHandle<()>>>,
    stop: CancellationToken,
}

impl std::fmt::Debug for Alerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alerts").field("queued", &self.0.queue().entries.len()).finish_non_exhaustive()
    }
}

impl Alerts {
    /// Starts the room, on the runtime that this is called on. Its journal is in `folder`; without one, nothing outlives
    /// the agent.
    pub fn open(folder: Option<&Path>, wiring: Wiring) -> Self {
        let Wiring { config, live, ready, run, kept, pass_on, instance, counters } = wiring;
        let shared = Arc::new(Shared {
            config,
            live,
            run,
            kept,
            pass_on,
            instance,
            counters: counters.clone(),
            queue: Mutex::default(),
            log: Mutex::default(),
            writer: Mutex::default(),
            deciding: Arc::new(Semaphore::new(DECIDING)),
            work: Notify::new(),
            to_pass: Notify::new(),
            dispatcher: Mutex::default(),
            stop: CancellationToken::new(),
        });
        if let Some(folder) = folder {
            let (for_restore, for_contents) = (Arc::downgrade(&shared), Arc::downgrade(&shared));
            let hooks = Hooks {
                restore: Box::new(move |contents| {
                    if let Some(shared) = for_restore.upgrade() {
                        shared.restore(contents);
                    }
                }),
                contents: Box::new(move || for_contents.upgrade().map(|shared| shared.queue().contents())),
            };
            match Writer::start(folder.to_owned(), hooks, counters) {
                Ok(writer) => *shared.writer() = Some(writer),
                Err(error) => {
                    tracing::error!(%error, "no thread for the journal of queued runs: they do not survive a restart");
                }
            }
        }
        let tried = shared.writer().as_ref().map(Writer::tried);
        let opening = Arc::clone(&shared);
        tokio::spawn(async move {
            if tokio::time::timeout(NAMES_WAIT, ready).await.is_err() {
                tracing::error!(
                    "no runtime has answered yet; alerts are taken for the containers whose names are known"
                );
            }
            if let Some(tried) = tried
                && tokio::time::timeout(JOURNAL_WAIT, tried).await.is_err()
            {
                tracing::error!("the journal of queued runs is not open yet; alerts are taken without it");
            }
            // Looks at the disk for captures of what was left.
            let _ = tokio::task::spawn_blocking(move || opening.begin()).await;
        });
        tokio::spawn(pass::dispatch(Arc::clone(&shared)));
        let dispatcher = tokio::spawn(run::dispatch(Arc::clone(&shared)));
        *shared.dispatcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(dispatcher);
        Self(shared)
    }

    /// Takes a webhook's body from `who`, and answers when its runs are written down.
    pub async fn receive(&self, body: Bytes, who: &str) -> Answer {
        webhook::receive(&self.0, body, who.to_owned(), false).await
    }

    /// The same for what a peer has passed on, which goes no further. It is answered with a word for each alert.
    pub async fn receive_forwarded(&self, body: Bytes, who: &str) -> Answer {
        webhook::receive(&self.0, body, who.to_owned(), true).await
    }

    /// Who this agent is to its peers.
    pub fn instance(&self) -> &Instance {
        &self.0.instance
    }

    /// What came of the last alerts, at most `limit`, the newest first.
    pub fn log(&self, limit: usize) -> Vec<Decision> {
        self.0.log().newest(limit)
    }

    /// The front door has refused a webhook from `who` with this status, so that its alerts are not even known.
    pub fn refused(&self, status: u16, why: &str, who: &str) {
        self.0.counters.webhooks.with_label_values(&[&status.to_string()]).inc();
        tracing::warn!(%who, status, why, "a webhook with alerts was refused");
    }

    /// Runs that wait or are under way.
    pub fn queued(&self) -> usize {
        self.0.queue().entries.len()
    }

    /// Alerts that ran nothing, or not all that they asked for, by reason.
    pub fn dropped(&self) -> Vec<(&'static str, u64)> {
        let count = |reason: Reason| {
            let word = reason.as_str();
            (word, self.0.counters.dropped.with_label_values(&[word]).get())
        };
        Reason::ALL.into_iter().map(count).collect()
    }

    /// Begins no more runs, waits at most `grace` for those under way, and closes the journal. Runs that end later are run
    /// again at the next start, unless their capture is found.
    pub async fn close(&self, grace: Duration) {
        {
            // Under the lock, so that no webhook is between having looked and being passed on to be written.
            let _queue = self.0.queue();
            self.0.stop.cancel();
        }
        let dispatcher = self.0.dispatcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(dispatcher) = dispatcher {
            let _ = tokio::time::timeout(grace, dispatcher).await;
        }
        let writer = self.0.writer().take();
        if let Some(writer) = writer {
            // It only fails if the thread for it cannot be had or panics, and there is nothing to be done then.
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, ops: Vec<Op>) {
        if let Some(writer) = &*self.writer() {
            writer.note(ops);
        }
    }

    fn show(&self, queue: &Queue) {
        self.counters.queued.set(i64::try_from(queue.entries.len()).unwrap_or(i64::MAX));
        self.counters.passing.set(i64::try_from(queue.passes.len()).unwrap_or(i64::MAX));
    }

    /// Takes what was found in the journal. If that was only after the room had opened, its runs are decided on at once.
    fn restore(&self, contents: Contents) {
        let (runs, broken) = {
            let mut queue = self.queue();
            let (runs, broken) = queue.restore(contents);
            self.show(&queue);
            (if queue.open { runs } else { Vec::new() }, broken)
        };
        self.to_pass.notify_one();
        if broken > 0 {
            tracing::error!(broken, "runs in the journal that cannot be read were left out");
        }
        self.resume(&runs);
    }

    /// The containers are known: what was left by the agent before this one is decided on, and alerts are taken.
    fn begin(&self) {
        let left: Vec<RunId> = {
            let mut queue = self.queue();
            queue.open = true;
            queue
                .entries
                .iter()
                .filter(|(_, entry)| entry.container.is_none())
                .map(|(id, _)| id.clone())
                .collect()
        };
        self.to_pass.notify_one();
        self.resume(&left);
    }

    /// Decides on runs that were found in the journal.
    fn resume(&self, runs: &[RunId]) {
        if runs.is_empty() {
            return;
        }
        let (live, config, now) = ((self.live)(), self.config.load(), SystemTime::now());
        let mut again = Vec::new();
        for id in runs {
            // May look at the disk, so that nothing is locked meanwhile.
            let kept = (self.kept)(id);
            let mut queue = self.queue();
            let Some(entry) = queue.entries.get_mut(id) else { continue };
            let record = Arc::clone(&entry.record);
            let container = live.iter().find(|container| record.is_in(container));
            let configured = config
                .triggers
                .get(record.trigger.as_str())
                .is_some_and(|trigger| trigger.probes.iter().any(|probe| probe.as_str() == record.probe));
            entry.container = container.cloned();
            let (state, dropped) = match (kept, container, configured) {
                (true, _, _) => ("done before the agent's restart", None),
                (false, _, false) => ("not run: the configuration has lost it", Some(Dropped::NotConfigured)),
                (false, None, true) => ("not run: its container has gone", Some(Dropped::ContainerGone)),
                (false, Some(_), true) => ("queued", None),
            };
            if state == "queued" {
                again.push(id.clone());
            } else {
                queue.remove(id);
                let mut ops = vec![Op::Done(id.to_string())];
                ops.extend(dropped.and_then(|_| queue.never_ran(&record)));
                self.note(ops);
            }
            self.show(&queue);
            drop(queue);
            if let Some(why) = dropped {
                self.counters.drop_run(why);
            }
            run::log_restored(&mut self.log(), id, &record, state, now);
        }
        tracing::info!(
            found = runs.len(),
            to_run = again.len(),
            "runs for alerts were left by the agent before this one"
        );
        self.queue().release(&again);
        self.work.notify_one();
    }
}

#[cfg(test)]
mod tests;
