//! The actor that owns the live set. It hears of new cgroups, finds their inits, declares containers up, and takes them
//! away when their pidfd says that they have ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use agent_ebpf::ExecSeen;
use arc_swap::ArcSwap;
use futures_util::stream::{self, StreamExt as _};
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::init::{Init, Look, look};
use super::metadata::{self, Describer};
use crate::config::Runtimes;
use crate::detect::{self, Batch, Cgroup, DetectError, Hierarchies, Kernel, Reason, Seen};
use crate::enter::{EnterError, Launcher};
use crate::model::{Container, ContainerEvent, ContainerId, Runtime};

/// A node runs some hundreds of containers; what is over this is counted in a log line and not watched.
const MAX_CONTAINERS: usize = 4096;
/// A cgroup in which only a runtime's helpers were seen is believed to have no init yet this often.
const MAX_LOOKS: u32 = 3;
/// Cgroups whose processes are looked at together in a scan.
const LOOKS_AT_ONCE: usize = 16;
/// Cgroups of which that is remembered.
const MAX_UNSETTLED: usize = 1024;
/// An init that ends sooner than this may have been a helper that passed through: its cgroup is looked at again.
const SHORT_LIFE: Duration = Duration::from_secs(5);

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
    describer: Describer,
}

impl Registry {
    /// Starts the actor on the running tokio runtime.
    pub fn start(start: Start<'_>) -> Result<Self, DetectError> {
        let hierarchies = Arc::new(Hierarchies::find()?);
        let live: Live = Arc::default();
        let (tell_ready, ready) = watch::channel(false);
        let tell = Arc::clone(&start.tell);
        let describer = metadata::start(
            start.runtimes,
            start.counters.metadata.clone(),
            Box::new(move |container| tell(&ContainerEvent::Described(Arc::clone(container)))),
        );
        let (kernel, seen) = start.hook.unzip();
        let actor = Actor {
            hierarchies,
            seen,
            launcher: start.launcher,
            describer: describer.clone(),
            counters: start.counters,
            tell: start.tell,
            live: Arc::clone(&live),
            known: HashMap::new(),
            unsettled: HashMap::new(),
            ends: JoinSet::new(),
        };
        tokio::spawn(actor.work(kernel, tell_ready));
        Ok(Self { live, ready, describer })
    }

    /// The containers that run now, in no order.
    pub fn containers(&self) -> Arc<Vec<Arc<Container>>> {
        self.live.load_full()
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

/// A live container and its cgroup.
struct Known {
    container: Arc<Container>,
    cgroup: Cgroup,
    up: Instant,
}

struct Actor {
    hierarchies: Arc<Hierarchies>,
    seen: Option<Seen>,
    launcher: Launcher,
    describer: Describer,
    counters: Counters,
    tell: Tell,
    live: Live,
    known: HashMap<ContainerId, Known>,
    /// How often a cgroup was looked at in which no init was found.
    unsettled: HashMap<u64, u32>,
    /// One waiting task per container; it ends with the container.
    ends: JoinSet<Arc<Container>>,
}

impl Actor {
    async fn work(mut self, mut kernel: Option<Kernel>, ready: watch::Sender<bool>) {
        self.scan(Reason::Start).await;
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
                Some(ended) = self.ends.join_next() => if let Ok(ended) = ended { self.down(&ended).await },
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

    async fn scan(&mut self, reason: Reason) {
        self.counters.resyncs.with_label_values(&[reason.as_str()]).inc();
        let hierarchies = Arc::clone(&self.hierarchies);
        let Ok(scan) = tokio::task::spawn_blocking(move || detect::walk(&hierarchies)).await else { return };
        if scan.truncated {
            tracing::warn!(
                "the cgroup tree is too large to be scanned whole: containers that ran before may be missed"
            );
        }
        let mut unknown = Vec::new();
        for cgroup in scan.cgroups {
            if !self.is_up(&cgroup.named.id).await {
                unknown.push(cgroup);
            }
        }
        // Several at once, so that launcher and agent do not wait for each other by turns.
        let launcher = self.launcher.clone();
        let looks = unknown.into_iter().map(|cgroup| {
            let launcher = &launcher;
            async move { (look(&cgroup, launcher, true).await, cgroup) }
        });
        let mut looks = stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE);
        while let Some((looked, cgroup)) = looks.next().await {
            // What is not found yet writes a record at its next exec.
            if let Ok(Look::Found(init)) = looked {
                self.up(cgroup, init, None).await;
            }
        }
    }

    /// Whether this container is known and has not ended. One that was started again under its id may be seen before the
    /// end of its first life is: that is taken note of here.
    async fn is_up(&mut self, id: &ContainerId) -> bool {
        let Some(known) = self.known.get(id) else { return false };
        let container = Arc::clone(&known.container);
        if !has_ended(&container) {
            return true;
        }
        self.down(&container).await;
        // A short life has been looked into again.
        self.known.contains_key(id)
    }

    /// A cgroup has been seen for the first time: is it a container's, and which process is its init?
    async fn first_exec(&mut self, record: ExecSeen) {
        let Some(cgroup) = self.hierarchies.resolve(record.cgroup_id) else { return };
        if self.is_up(&cgroup.named.id).await {
            return;
        }
        match self.settle(&cgroup, record.cgroup_id).await {
            Ok(Look::Found(init)) => {
                self.unsettled.remove(&record.cgroup_id);
                self.up(cgroup, init, Some(record.at_ns)).await;
            }
            Ok(Look::NotYet) => {
                // Most of them have gone without another word.
                if self.unsettled.len() >= MAX_UNSETTLED {
                    self.unsettled.clear();
                }
                *self.unsettled.entry(record.cgroup_id).or_default() += 1;
            }
            Ok(Look::Empty) => {
                self.unsettled.remove(&record.cgroup_id);
                tracing::debug!(id = %cgroup.named.id, "a container came and went before it could be held");
            }
            Err(error) => tracing::error!(id = %cgroup.named.id, %error, "a container cannot be looked at"),
        }
    }

    /// If only the runtime's helpers are there, the next exec in the cgroup must write a record again. The init may have
    /// exec'd just before that is arranged, so there is a second look after it.
    async fn settle(&mut self, cgroup: &Cgroup, cgroup_id: u64) -> Result<Look, EnterError> {
        let strict = self.unsettled.get(&cgroup_id).is_none_or(|looks| *looks < MAX_LOOKS);
        let first = look(cgroup, &self.launcher, strict).await?;
        if !matches!(first, Look::NotYet) {
            return Ok(first);
        }
        if let Some(seen) = &mut self.seen {
            seen.forget(cgroup_id);
        }
        let second = look(cgroup, &self.launcher, strict).await?;
        if let (Look::Found(_), Some(seen)) = (&second, &mut self.seen) {
            seen.remember(cgroup_id);
        }
        Ok(second)
    }

    async fn up(&mut self, cgroup: Cgroup, init: Init, exec_at_ns: Option<u64>) {
        if self.known.len() >= MAX_CONTAINERS {
            tracing::error!(id = %cgroup.named.id, "more than {MAX_CONTAINERS} containers: this one is not watched");
            return;
        }
        let Init { pidfd, about } = init;
        let end = match pidfd.try_clone().and_then(crate::enter::watch) {
            Ok(end) => end,
            Err(error) => {
                tracing::error!(id = %cgroup.named.id, %error, "a container's end cannot be watched: it is left out");
                return;
            }
        };
        let container = Arc::new(Container {
            id: cgroup.named.id.clone(),
            pidfd,
            pid: about.pid,
            start_ticks: about.start_ticks,
            cgroup_id: cgroup.id,
            cgroup_path: cgroup.named.path.clone(),
            pid_ns: about.pid_ns,
            net_ns: about.net_ns,
            runtime: runtime(cgroup.named.runtime, about.parent_cwd.as_deref()),
            cgroup_pod_uid: cgroup.named.pod_uid.clone(),
            up_at: SystemTime::now(),
            metadata: arc_swap::ArcSwapOption::empty(),
        });
        let ends = Arc::clone(&container);
        self.ends.spawn(async move {
            // An error would mean that the runtime is shutting down.
            let _ = end.readable().await;
            ends
        });
        if let Some(seen) = &mut self.seen
            && exec_at_ns.is_none()
        {
            seen.remember(cgroup.id);
        }
        let known = Known { container: Arc::clone(&container), cgroup, up: Instant::now() };
        self.known.insert(container.id.clone(), known);
        self.publish();
        // From here on everybody who looks finds it.
        if let Some(at) = exec_at_ns {
            self.counters.detection.observe(seconds_since(at));
        }
        (self.tell)(&ContainerEvent::Up(Arc::clone(&container)));
        self.describer.up(&container, about.parent_cwd.as_deref()).await;
        let labels = container.labels();
        let (namespace, pod, name) = (&labels.namespace, &labels.pod, &labels.container);
        tracing::info!(namespace, pod, container = name, sandbox = container.is_sandbox(), id = %container.id, pid = container.pid, "container up");
    }

    async fn down(&mut self, ended: &Arc<Container>) {
        let id = &ended.id;
        // Another with its id may be up already.
        if self.known.get(id).is_none_or(|known| !Arc::ptr_eq(&known.container, ended)) {
            return;
        }
        let Some(known) = self.known.remove(id) else { return };
        self.publish();
        if let Some(seen) = &mut self.seen {
            seen.forget(known.container.cgroup_id);
        }
        self.describer.down(&known.container).await;
        let labels = known.container.labels();
        let (namespace, pod, name) = (&labels.namespace, &labels.pod, &labels.container);
        tracing::info!(namespace, pod, container = name, %id, "container down");
        (self.tell)(&ContainerEvent::Down(known.container));
        if known.up.elapsed() < SHORT_LIFE
            && let Ok(Look::Found(init)) = look(&known.cgroup, &self.launcher, true).await
        {
            self.up(known.cgroup, init, None).await;
        }
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

/// The cgroup's path tells, or the folder that the init's parent stands in: a containerd shim's bundle.
fn runtime(by_path: Runtime, parent_cwd: Option<&std::path::Path>) -> Runtime {
    let in_bundle = |word: &str| parent_cwd.is_some_and(|cwd| cwd.to_string_lossy().contains(word));
    match by_path {
        Runtime::Unknown if in_bundle("/io.containerd.runtime.v2.task/moby/") => Runtime::Docker,
        Runtime::Unknown if in_bundle("/io.containerd.runtime.v2.task/") => Runtime::Containerd,
        known => known,
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
