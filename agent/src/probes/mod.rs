//! Runs requests: a bounded number at once, a bounded number waiting, each to one of a closed set of outcomes. How a
//! container is entered is `enter`'s business, what the numbers mean is `parse`'s.

mod history;
mod judge;
mod keep;
mod put_off;
mod quarantine;
mod queue;
mod refusal;
mod work;

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use prometheus::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use self::history::History;
pub use self::history::Record;
pub use self::keep::Keeper;
use self::put_off::PutOff;
pub use self::quarantine::Quarantined;
use self::queue::{Early, Job, State};
pub use self::refusal::Refusal;
use crate::config::Config;
use crate::enter::Launcher;
use crate::model::{Container, Outcome, RunRequest, RunResult};

/// Runs of which a process is still there in D state after it was killed. Beyond this many new runs are refused: each
/// holds memory and a cgroup, and the node has a problem that more probes do not cure.
const MAX_STUCK: usize = 16;

/// Captures that are brought to the disk behind the runs' back, at once: each has a writer.
const MAX_KEEPING: usize = 64;

/// The metrics that this room moves.
#[derive(Clone, Debug)]
pub struct Counters {
    /// `probe`, `trigger`.
    pub runs: IntCounterVec,
    /// `probe`, `trigger`, `reason`.
    pub failures: IntCounterVec,
    /// `probe`; seconds.
    pub duration: HistogramVec,
    /// `probe`.
    pub parse_errors: IntCounterVec,
    /// `probe`.
    pub series_dropped: IntCounterVec,
    /// `step`.
    pub enter_errors: IntCounterVec,
    /// `reason`.
    pub refused: IntCounterVec,
    pub running: IntGauge,
    pub queued: IntGauge,
    pub stuck: IntGauge,
    /// `way`.
    pub ways: IntCounterVec,
    /// `probe`.
    pub quarantined: IntGaugeVec,
}

/// What whoever waits for a run wants of it.
#[derive(Debug)]
pub struct Terms {
    /// From now, the time in the queue included; the probe's own deadline counts besides.
    pub within: Option<Duration>,
    /// Ends it when it is not needed any more, waiting or running.
    pub cancel: CancellationToken,
    /// The output itself, and not only what came of it.
    pub hold: bool,
    /// Whether the result takes the place of the probe's earlier one in that container, for everybody to see.
    pub publish: bool,
    /// Whoever asks has a bound of its own on what it asks for at once, and is not to be turned away by others' runs.
    pub reserved: bool,
    /// What is the asker's until the result is published.
    pub until_published: Option<UntilPublished>,
}

/// Something that is dropped then, or when there will be no result.
pub type UntilPublished = Box<dyn Any + Send + Sync>;

impl Default for Terms {
    fn default() -> Self {
        let cancel = CancellationToken::new();
        Self { within: None, cancel, hold: true, publish: true, reserved: false, until_published: None }
    }
}

/// Where every finished run is published, before whoever waits for it is answered.
pub type Publish = Box<dyn Fn(&RunResult) + Send + Sync>;

/// Handle to the one pool of runs; cheap to clone.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    launcher: Launcher,
    config: Arc<ArcSwap<Config>>,
    counters: Counters,
    publish: Publish,
    /// None where nothing is kept.
    keeper: Option<Keeper>,
    /// Runs that have ended and whose capture is still on its way to the disk, without a place of their own.
    keeping: Arc<Semaphore>,
    put_off: PutOff,
    /// A std mutex: it is held for a few instructions and never across an await.
    state: Mutex<State>,
    history: Mutex<History>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.shared.state();
        f.debug_struct("Pool")
            .field("running", &state.running.len())
            .field("waiting", &state.waiting())
            .finish()
    }
}

impl Pool {
    pub fn new(
        launcher: Launcher,
        config: Arc<ArcSwap<Config>>,
        counters: Counters,
        publish: Publish,
        keeper: Option<Keeper>,
    ) -> Self {
        let state = Mutex::new(State::default());
        let history = Mutex::default();
        let keeping = Arc::new(Semaphore::new(MAX_KEEPING));
        let put_off = PutOff::default();
        let shared = Shared { launcher, config, counters, publish, keeper, keeping, put_off, state, history };
        Self { shared: Arc::new(shared) }
    }

    /// Queues a run that nobody waits for.
    pub fn submit(&self, request: RunRequest) -> Result<(), Refusal> {
        let early = Early::default();
        self.enqueue(
            Job { request, reply: None, hold: false, publish: true, early, until_published: None },
            false,
        )
    }

    /// Queues a run and waits for its result.
    pub async fn run(&self, request: RunRequest, terms: Terms) -> Result<RunResult, Refusal> {
        let Terms { within, cancel, hold, publish, reserved, until_published } = terms;
        let (reply, result) = oneshot::channel();
        let early = Early { cancel: cancel.child_token(), ..Early::default() };
        let (run, wanted) = (request.id.clone(), request.clone());
        let job = Job { request, reply: Some(reply), hold, publish, early: early.clone(), until_published };
        self.enqueue(job, reserved)?;
        let late = async {
            match within {
                Some(within) => tokio::time::sleep(within).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(result);
        let refusal = tokio::select! {
            result = &mut result => return result.map_err(|_| Refusal::ShuttingDown),
            () = cancel.cancelled() => Refusal::Cancelled,
            () = late => {
                early.late.cancel();
                early.cancel.cancel();
                Refusal::NotInTime
            }
        };
        let forgotten = self.shared.state().forget_waiting(&run);
        if forgotten {
            self.pump();
            self.shared.refused(&wanted, refusal);
            return Err(refusal);
        }
        // It runs, and the launcher has been told to end it.
        result.await.map_err(|_| Refusal::ShuttingDown)
    }

    /// Forgets what is known of a container that has gone.
    pub fn container_gone(&self, container: &Container) {
        self.shared.state().quarantine.forget(container);
    }

    /// Brings the gauges up to date that change without a run: a hanging command goes, a quarantine ends.
    pub fn refresh(&self) {
        let config = self.shared.config.load();
        let state = self.shared.state();
        self.shared.show(&state);
        for (probe, count) in state.quarantine.counts(config.probes.keys(), Instant::now()) {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.shared.counters.quarantined.with_label_values(&[probe.as_str()]).set(count);
        }
    }

    /// What ran and what was refused, newest first; at most some thousand.
    pub fn history(&self) -> Vec<Arc<Record>> {
        self.shared.history().all()
    }

    /// What is in quarantine now, and for how much longer.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.shared.state().quarantine.all(Instant::now())
    }

    /// Refuses what comes, forgets what waits, and waits for what runs, at most `grace`.
    pub async fn close(&self, grace: Duration) {
        {
            let mut state = self.shared.state();
            state.closed = true;
            state.clear();
            self.shared.put_off.tell(state.load());
        }
        self.shared.put_off.hurry();
        let deadline = Instant::now() + grace;
        // Once, at the end of the process: a tick is simpler than a signal that only this would wait for.
        let is_busy = || {
            !self.shared.state().running.is_empty()
                || self.shared.keeping.available_permits() < MAX_KEEPING
                || !self.shared.put_off.is_empty()
        };
        while is_busy() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn enqueue(&self, job: Job, reserved: bool) -> Result<(), Refusal> {
        let request = job.request.clone();
        let admitted = self.admit(job, reserved);
        match admitted {
            Ok(()) => self.pump(),
            Err(refusal) => self.shared.refused(&request, refusal),
        }
        admitted
    }

    fn admit(&self, job: Job, reserved: bool) -> Result<(), Refusal> {
        let limits = &self.shared.config.load().limits;
        let launcher = &self.shared.launcher;
        // One in each container: what hangs there would take all places of the node, run after run.
        let stuck = launcher.stuck() >= MAX_STUCK || launcher.is_stuck_in(&job.request.container.id);
        let mut state = self.shared.state();
        if state.closed {
            return Err(Refusal::ShuttingDown);
        }
        if stuck {
            return Err(Refusal::Stuck);
        }
        let RunRequest { probe, container, .. } = &job.request;
        if state.quarantine.remaining(probe, container, Instant::now()).is_some() {
            return Err(Refusal::Quarantined);
        }
        // A schedule that is faster than its probe must not fill the queue with copies of one run.
        if job.reply.is_none() && state.has_unasked(&job.request) {
            return Err(Refusal::AlreadyQueued);
        }
        if !reserved && state.waiting() >= limits.queued_runs {
            state.forget_abandoned();
            if state.waiting() >= limits.queued_runs {
                return Err(Refusal::QueueFull);
            }
        }
        state.push(job);
        Ok(())
    }

    /// Starts waiting runs while there is room. The limits are read anew each time, so a reload needs nothing more.
    fn pump(&self) {
        let concurrent = self.shared.config.load().limits.concurrent_runs;
        let mut state = self.shared.state();
        while state.running.len() < concurrent
            && let Some(job) = state.next()
        {
            let container = Arc::clone(&job.request.container);
            state.running.push(Arc::clone(&container));
            let pool = self.clone();
            tokio::spawn(async move {
                let place = Place { pool, container };
                place.pool.clone().finish(job, place).await;
            });
        }
        self.shared.show(&state);
        self.shared.put_off.tell(state.load());
    }

    async fn finish(self, mut job: Job, place: Place) {
        let (mut result, kept) = self.shared.execute(&job).await;
        self.shared.account(&result);
        // Before the disk, which takes its time.
        if job.publish {
            (self.shared.publish)(&result);
        }
        drop(job.until_published.take());
        let (mut place, mut disk) = (Some(place), None);
        if let Some((keeping, probe)) = kept {
            // What the agent's own end has cut short is run anew at its next start if an alert has asked for it, and half of
            // it must not be taken for all of it then.
            let cut_short = result.request.alert.is_some()
                && self.shared.state().closed
                && matches!(&result.outcome, Outcome::EnterFailed { step, .. } if step == work::LAUNCHER_STEP);
            // The next run does not wait for this one's disk, unless that is far behind. Nobody waits for an alert's capture
            // as others do for its next runs.
            let may_wait = result.request.alert.is_some() && !cut_short && Shared::is_wanted(&result, &probe);
            if may_wait {
                // Whoever holds the output has yet to see its last piece.
                tokio::task::yield_now().await;
            }
            let put_off = may_wait && keeping.is_held();
            disk = if put_off {
                self.shared.put_off.place()
            } else {
                Arc::clone(&self.shared.keeping).try_acquire_owned().ok()
            };
            if disk.is_some() {
                place = None;
            }
            let _turn = if put_off && disk.is_some() { self.shared.put_off.turn().await } else { None };
            result.captured = !cut_short && self.shared.keep(keeping, &result, &probe).await;
        }
        self.shared.history().ended(&result, job.publish);
        if let Some(reply) = job.reply {
            // Whoever asked may have left; the result is published all the same.
            let _ = reply.send(result);
        }
        drop((place, disk));
    }
}

/// A run's place among those under way; the next one begins when it is dropped.
struct Place {
    pool: Pool,
    container: Arc<Container>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.shared.state().running.retain(|busy| !Arc::ptr_eq(busy, &self.container));
        self.pool.pump();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, request: &RunRequest, refusal: Refusal) {
        self.counters.refused.with_label_values(&[refusal.as_str()]).inc();
        self.history().refused(request, refusal, SystemTime::now());
    }

    fn show(&self, state: &State) {
        let whole = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.counters.running.set(whole(state.running.len()));
        self.counters.queued.set(whole(state.waiting()));
        self.counters.stuck.set(whole(self.launcher.stuck()));
    }
}
