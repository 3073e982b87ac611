//! The actor that owns the live set. It hears of new cgroups, finds their inits, declares containers up, and takes them
//! away when their pidfd says that they have ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::later::Later;
use self::origin::Origin;
use super::init::Init;
use super::metadata::{self, Describer};
use crate::config::{Runtimes, Targets};
use crate::detect::{Batch, DetectError, Hierarchies, Kernel, PidFiles, Reason, Seen};
use crate::enter::Launcher;
use crate::model::{Container, ContainerEvent, ContainerId};

/// A node runs some hundreds of containers; what is over this is counted in a log line and not watched.
const MAX_CONTAINERS: usize = 4096;
/// An init that ends sooner than this may have been a helper that passed through: its cgroup is looked at again.
const SHORT_LIFE: Duration = Duration::from_secs(5);

mod arrivals;
mod later;
mod origin;
mod processes;
mod succession;
#[cfg(test)]
mod tests;

/// The metrics that this room moves.
#[derive(Clone, Debug)]
pub struct Counters {
    pub containers: IntGauge,
    pub exec_events: IntCounter,
    pub exec_events_lost: IntCounter,
    /// `reason`.
    pub resyncs: IntCounterVec,
    /// Seconds from the exec in the kernel to Up.
    pub detection: Histogram,
    pub metadata: metadata::Counters,
}

/// The attached kernel half.
pub type Hook = (Kernel, Seen);
/// Told of everything that happens to the live set, before anybody else.
pub(super) type Tell = Arc<dyn Fn(&ContainerEvent) + Send + Sync>;

/// What the registry needs to start.
pub struct Start<'a> {
    /// `None` only scans once: for the verbs that look and leave.
    pub hook: Option<Hook>,
    pub launcher: Launcher,
    pub runtimes: &'a Runtimes,
    pub targets: Arc<Targets>,
    pub counters: Counters,
    pub tell: Tell,
}

impl std::fmt::Debug for Start<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start").field("runtimes", self.runtimes).finish_non_exhaustive()
    }
}

type Live = Arc<ArcSwap<Vec<Arc<Container>>>>;

/// Handle to the live set; cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    live: Live,
    ready: watch::Receiver<bool>,
    targets: watch::Sender<Arc<Targets>>,
    describer: Describer,
}

impl Registry {
    /// Starts the actor on the running tokio runtime.
    pub fn start(start: Start<'_>) -> Result<Self, DetectError> {
        let hierarchies = Arc::new(Hierarchies::find()?);
        let live: Live = Arc::default();
        let (tell_ready, ready) = watch::channel(false);
        let (targets, aimed_at) = watch::channel(start.targets);
        let tell = Arc::clone(&start.tell);
        let describer = metadata::start(
            start.runtimes,
            start.counters.metadata.clone(),
            Box::new(move |container| tell(&ContainerEvent::Described(Arc::clone(container)))),
        );
        let (kernel, seen) = start.hook.unzip();
        let actor = Actor {
            hierarchies,
            targets: aimed_at,
            pid_files: None,
            seen,
            launcher: start.launcher,
            describer: describer.clone(),
            counters: start.counters,
            tell: start.tell,
            live: Arc::clone(&live),
            known: HashMap::new(),
            unsettled: HashMap::new(),
            later: Later::default(),
            ends: JoinSet::new(),
        };
        tokio::spawn(actor.work(kernel, tell_ready));
        Ok(Self { live, ready, targets, describer })
    }

    /// The containers that run now, in no order.
    pub fn containers(&self) -> Arc<Vec<Arc<Container>>> {
        self.live.load_full()
    }

    /// Takes other targets than before: those that are none any more go, and others that run already are found.
    pub fn aim(&self, targets: &Arc<Targets>) {
        self.targets.send_if_modified(|before| {
            let differs = before.written() != targets.written();
            *before = Arc::clone(targets);
            differs
        });
    }

    /// True once the first scan is done.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Returns when what ran before has been found, and described by every runtime that answers.
    pub async fn described(&self) {
        // An error means that the actor has ended, and then nothing more will come.
        let _ = self.ready.clone().wait_for(|ready| *ready).await;
        self.describer.listed().await;
    }
}

/// A live container and where it was found.
struct Known {
    container: Arc<Container>,
    origin: Origin,
    up: Instant,
}

struct Actor {
    hierarchies: Arc<Hierarchies>,
    targets: watch::Receiver<Arc<Targets>>,
    pid_files: Option<PidFiles>,
    seen: Option<Seen>,
    launcher: Launcher,
    describer: Describer,
    counters: Counters,
    tell: Tell,
    live: Live,
    known: HashMap<ContainerId, Known>,
    /// How often a cgroup was looked at in which no init was found.
    unsettled: HashMap<u64, u32>,
    later: Later,
    /// One waiting task per container; it ends with the container, or some time after that.
    ends: JoinSet<Ended>,
}

/// An init has ended, and perhaps the container with it.
struct Ended {
    container: Arc<Container>,
    /// What may have taken its place was waited for.
    waited: bool,
}

impl Actor {
    async fn work(mut self, mut kernel: Option<Kernel>, ready: watch::Sender<bool>) {
        self.watch_pid_files();
        self.scan(Reason::Start).await;
        self.look_at_pid_files().await;
        self.describer.scanned().await;
        ready.send_replace(true);
        loop {
            tokio::select! {
                batch = next(&mut kernel) => match batch {
                    Ok(batch) => self.take(batch).await,
                    Err(error) => {
                        tracing::error!(%error, "container starts are not noticed any more");
                        kernel = None;
                    }
                },
                Some(ended) = self.ends.join_next() => if let Ok(ended) = ended { self.ended(&ended).await },
                // An error would mean that the registry's last handle has gone, and then the runtime is shutting down.
                Ok(()) = self.targets.changed() => self.aim_anew().await,
                () = processes::changed(&mut self.pid_files) => self.look_at_pid_files().await,
                due = self.later.due(&self.launcher) => self.come_due(due).await,
            }
        }
    }

    async fn take(&mut self, batch: Batch) {
        self.counters.exec_events.inc_by(batch.submitted);
        self.counters.exec_events_lost.inc_by(batch.lost);
        for record in batch.records {
            self.first_exec(record).await;
        }
        if batch.lost > 0 {
            tracing::warn!(lost = batch.lost, "exec records were lost: the cgroup tree is scanned");
            self.scan(Reason::Loss).await;
        }
    }

    async fn up(&mut self, origin: Origin, init: Init, exec_at_ns: Option<u64>) {
        let id = origin.id();
        if self.known.len() >= MAX_CONTAINERS {
            tracing::error!(%id, "more than {MAX_CONTAINERS} containers: this one is not watched");
            return;
        }
        if let Some(former) = self.former(&origin) {
            self.let_go(&former).await;
        }
        let parent_cwd = init.about.parent_cwd.clone();
        let Some(container) = self.hold(origin.container(init, None)) else { return };
        if let (Some(seen), Origin::Cgroup(cgroup), None) = (&mut self.seen, &origin, exec_at_ns) {
            seen.remember(cgroup.id);
        }
        let is_own = origin.is_own();
        let known = Known { container: Arc::clone(&container), origin, up: Instant::now() };
        self.known.insert(container.id.clone(), known);
        self.publish();
        // From here on everybody who looks finds it.
        if let Some(at) = exec_at_ns {
            self.counters.detection.observe(seconds_since(at));
        }
        (self.tell)(&ContainerEvent::Up(Arc::clone(&container)));
        if !is_own {
            self.describer.up(&container, parent_cwd.as_deref()).await;
        }
        let labels = container.labels();
        let (namespace, pod, name) = (&labels.namespace, &labels.pod, &labels.container);
        tracing::info!(namespace, pod, container = name, sandbox = container.is_sandbox(), id = %container.id, pid = container.pid, "container up");
    }

    async fn down(&mut self, ended: &Arc<Container>) {
        let Some(Known { origin: Origin::Cgroup(cgroup), up, .. }) = self.let_go(ended).await else { return };
        let is_over = up.elapsed() >= SHORT_LIFE && cgroup.named.runtime.is_container();
        self.look_again(&cgroup, is_over).await;
    }

    /// Takes it out of the live set, if it is in it: another with its id may be up already.
    async fn let_go(&mut self, ended: &Arc<Container>) -> Option<Known> {
        let id = &ended.id;
        self.known.get(id).filter(|known| Arc::ptr_eq(&known.container, ended))?;
        let known = self.known.remove(id)?;
        self.publish();
        if let Origin::Cgroup(cgroup) = &known.origin {
            self.forget(cgroup);
        }
        self.describer.down(&known.container).await;
        let labels = known.container.labels();
        let (namespace, pod, name) = (&labels.namespace, &labels.pod, &labels.container);
        tracing::info!(namespace, pod, container = name, %id, "container down");
        (self.tell)(&ContainerEvent::Down(Arc::clone(&known.container)));
        Some(known)
    }

    fn targets(&self) -> Arc<Targets> {
        Arc::clone(&self.targets.borrow())
    }

    /// Copies the live set for its readers: starts and ends are rare, reads are not.
    fn publish(&self) {
        self.counters.containers.set(i64::try_from(self.known.len()).unwrap_or(i64::MAX));
        self.live.store(Arc::new(self.known.values().map(|known| Arc::clone(&known.container)).collect()));
    }
}

async fn next(kernel: &mut Option<Kernel>) -> Result<Batch, DetectError> {
    match kernel {
        Some(kernel) => kernel.next().await,
        None => std::future::pending().await,
    }
}

/// A pidfd is readable once its process has ended.
fn has_ended(container: &Container) -> bool {
    let mut fds = [PollFd::new(&container.pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
}

/// `at` is in nanoseconds of CLOCK_MONOTONIC, as bpf_ktime_get_ns gives them.
fn seconds_since(at: u64) -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0));
    now.saturating_sub(Duration::from_nanos(at)).as_secs_f64()
}
