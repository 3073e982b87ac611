//! Runs requests: a bounded number at once, a bounded number waiting, each to one of a closed set of outcomes. How a
//! container is entered is `enter`'s business, what the numbers mean is `parse`'s.

mod judge;
mod quarantine;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use prometheus::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};
use tokio::sync::oneshot;

use self::judge::{Judged, judge};
use self::quarantine::Quarantine;
use crate::config::Config;
use crate::enter::{EnterError, Launcher};
use crate::model::{Container, End, Outcome, Output, RunRequest, RunResult};

/// Runs of which a process is still there in D state after it was killed. Beyond this many new runs are refused: each
/// holds memory and a cgroup, and the node has a problem that more probes do not cure.
const MAX_STUCK: usize = 16;

/// Why a request was not even queued; the label values of `parachute_runs_refused_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the queue of runs is full; try again later or raise limits.queued_runs")]
    QueueFull,
    #[error("the same run is already waiting")]
    AlreadyQueued,
    #[error(
        "an earlier command hangs in the kernel in this container, or too many in others; see parachute_probe_stuck"
    )]
    Stuck,
    #[error(
        "the probe has reached its limits three times in a row in this container; see parachute_probe_quarantined"
    )]
    Quarantined,
    #[error("the agent is shutting down")]
    ShuttingDown,
}

impl Refusal {
    pub const REASONS: [&'static str; 5] =
        ["queue_full", "already_queued", "stuck", "quarantined", "shutting_down"];

    pub fn as_str(self) -> &'static str {
        let [queue_full, already_queued, stuck, quarantined, shutting_down] = Self::REASONS;
        match self {
            Self::QueueFull => queue_full,
            Self::AlreadyQueued => already_queued,
            Self::Stuck => stuck,
            Self::Quarantined => quarantined,
            Self::ShuttingDown => shutting_down,
        }
    }
}

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
    /// A std mutex: it is held for a few instructions and never across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// The containers in which something runs. A joined command is a process of its container: two at once would count
    /// each other, so there is one at a time in each pid namespace, which containers of a pod may share.
    running: Vec<Arc<Container>>,
    quarantine: Quarantine,
    closed: bool,
}

struct Job {
    request: RunRequest,
    reply: Option<oneshot::Sender<RunResult>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.shared.state();
        f.debug_struct("Pool")
            .field("running", &state.running.len())
            .field("waiting", &state.waiting.len())
            .finish()
    }
}

impl Pool {
    pub fn new(
        launcher: Launcher,
        config: Arc<ArcSwap<Config>>,
        counters: Counters,
        publish: Publish,
    ) -> Self {
        let state = Mutex::new(State::default());
        Self { shared: Arc::new(Shared { launcher, config, counters, publish, state }) }
    }

    /// Queues a run that nobody waits for.
    pub fn submit(&self, request: RunRequest) -> Result<(), Refusal> {
        self.enqueue(Job { request, reply: None })
    }

    /// Queues a run and waits for its result.
    pub async fn run(&self, request: RunRequest) -> Result<RunResult, Refusal> {
        let (reply, result) = oneshot::channel();
        self.enqueue(Job { request, reply: Some(reply) })?;
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

    /// Refuses what comes, forgets what waits, and waits for what runs, at most `grace`.
    pub async fn close(&self, grace: Duration) {
        {
            let mut state = self.shared.state();
            state.closed = true;
            state.waiting.clear();
        }
        let deadline = Instant::now() + grace;
        // Once, at the end of the process: a tick is simpler than a signal that only this would wait for.
        while !self.shared.state().running.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn enqueue(&self, job: Job) -> Result<(), Refusal> {
        let admitted = self.admit(job);
        match admitted {
            Ok(()) => self.pump(),
            Err(refusal) => self.shared.counters.refused.with_label_values(&[refusal.as_str()]).inc(),
        }
        admitted
    }

    fn admit(&self, job: Job) -> Result<(), Refusal> {
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
        if job.reply.is_none() && state.waiting.iter().any(|waiting| waiting.is_same(&job.request)) {
            return Err(Refusal::AlreadyQueued);
        }
        state.forget_abandoned();
        if state.waiting.len() >= limits.queued_runs {
            return Err(Refusal::QueueFull);
        }
        state.waiting.push_back(job);
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
                pool.finish(job).await;
                pool.shared.state().running.retain(|busy| !Arc::ptr_eq(busy, &container));
                pool.pump();
            });
        }
        self.shared.show(&state);
    }

    async fn finish(&self, job: Job) {
        let result = self.shared.execute(job.request).await;
        self.shared.account(&result);
        (self.shared.publish)(&result);
        if let Some(reply) = job.reply {
            // Whoever asked may have left; the result is published all the same.
            let _ = reply.send(result);
        }
    }
}

impl State {
    /// The oldest job whose pid namespace is free; those whose asker has left are forgotten.
    fn next(&mut self) -> Option<Job> {
        self.forget_abandoned();
        let is_free =
            |job: &Job| !self.running.iter().any(|busy| busy.pid_ns == job.request.container.pid_ns);
        let place = self.waiting.iter().position(is_free)?;
        self.waiting.remove(place)
    }

    fn forget_abandoned(&mut self) {
        self.waiting.retain(|job| job.reply.as_ref().is_none_or(|reply| !reply.is_closed()));
    }
}

impl Job {
    fn is_same(&self, request: &RunRequest) -> bool {
        self.reply.is_none()
            && self.request.probe == request.probe
            && self.request.trigger == request.trigger
            && Arc::ptr_eq(&self.request.container, &request.container)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, state: &State) {
        let whole = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.counters.running.set(whole(state.running.len()));
        self.counters.queued.set(whole(state.waiting.len()));
        self.counters.stuck.set(whole(self.launcher.stuck()));
    }

    async fn execute(&self, request: RunRequest) -> RunResult {
        let started_at = SystemTime::now();
        let started = Instant::now();
        let config = self.config.load_full();
        let probe = config.probes.get(&request.probe).cloned();
        let output = match &probe {
            None => Err(format!("no probe named {} in the configuration", request.probe)),
            Some(probe) => Ok(self.launcher.run(&request, probe).await),
        };
        let (outcome, output, parsed) = match (probe, output) {
            (Some(probe), Ok(Ok(output))) => {
                // Parsing is bounded but not short for megabytes of output, and must not hold up a runtime thread.
                let judged = tokio::task::spawn_blocking(move || judge(&probe, output)).await;
                judged.map_or_else(
                    |_| (parser_died(), nothing(started), None),
                    |Judged { outcome, output, parsed }| (outcome, output, parsed),
                )
            }
            (_, Ok(Err(error))) => (enter_failed(&error), nothing(started), None),
            (_, Err(reason)) => (Outcome::Refused { reason }, nothing(started), None),
            (None, Ok(Ok(output))) => (parser_died(), output, None),
        };
        let parsed = parsed.unwrap_or_default();
        let (families, parse_errors, series_dropped) = (parsed.families, parsed.errors, parsed.dropped);
        RunResult { request, started_at, outcome, output, families, parse_errors, series_dropped }
    }

    fn account(&self, result: &RunResult) {
        let (probe, trigger) = (result.request.probe.as_str(), result.request.trigger.as_str());
        let c = &self.counters;
        c.runs.with_label_values(&[probe, trigger]).inc();
        c.duration.with_label_values(&[probe]).observe(result.output.duration.as_secs_f64());
        c.parse_errors.with_label_values(&[probe]).inc_by(result.parse_errors);
        c.series_dropped.with_label_values(&[probe]).inc_by(result.series_dropped);
        if let Outcome::EnterFailed { step, .. } = &result.outcome {
            c.enter_errors.with_label_values(&[step]).inc();
        }
        if let Some(way) = result.output.way {
            c.ways.with_label_values(&[way.as_str()]).inc();
        }
        let RunRequest { probe: name, container, .. } = &result.request;
        let at_limit = matches!(result.outcome, Outcome::LimitReached { .. });
        if let Some(length) = self.state().quarantine.note(name, container, at_limit, Instant::now()) {
            tracing::warn!(probe, %container, ?length, "the probe has reached its limits again and again and is in quarantine there");
        }
        let labels = result.request.container.labels();
        let (namespace, pod, container) = (&labels.namespace, &labels.pod, &labels.container);
        let duration = result.output.duration;
        if result.outcome.is_ok() {
            let series: usize = result.families.iter().map(|f| f.samples.len()).sum();
            tracing::debug!(probe, trigger, namespace, pod, container, ?duration, series, "run ok");
        } else {
            c.failures.with_label_values(&[probe, trigger, result.outcome.as_str()]).inc();
            let outcome = &result.outcome;
            tracing::warn!(probe, trigger, namespace, pod, container, ?duration, %outcome, "run failed");
        }
    }
}

fn enter_failed(error: &EnterError) -> Outcome {
    Outcome::EnterFailed { step: "launcher".to_owned(), errno: 0, message: error.to_string() }
}

/// Parsers do not panic: this is here so that a mistake in one costs a run and not the agent.
fn parser_died() -> Outcome {
    Outcome::ParseFailed { message: "the parser died on this output; please report it".to_owned() }
}

fn nothing(started: Instant) -> Output {
    let end = End::Refused { reason: "nothing was run".to_owned() };
    Output {
        stdout: Vec::new(),
        stderr: Vec::new(),
        truncated: false,
        end,
        way: None,
        limit: None,
        duration: started.elapsed(),
    }
}
