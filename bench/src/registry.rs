//! What an agent has of containers, on one thread as the agent's: the real program in the kernel, the real launcher, the real
//! registry; and when it knew what of each container. For the section `starts`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use parachute::app::registry_counters;
use parachute::config::Source;
use parachute::containers::{Registry, Start};
use parachute::enter::{LauncherOptions, LauncherProcess};
use parachute::metrics::AgentMetrics;
use parachute::model::ContainerEvent;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::processes::{family, goes_first};

const READY_WITHIN: Duration = Duration::from_secs(10);
/// As the kernel names it: a name has 15 characters at most.
const LAUNCHER: &str = "parachute-launc";

/// What became known of a container.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// From its exec until it could be looked up. Nothing for one that was found in another way.
    pub found: Duration,
    pub up: Option<Instant>,
    /// With its names, which its bundle on disk has.
    pub named: Option<Instant>,
    /// With what only the runtime has: its labels.
    pub labelled: Option<Instant>,
}

/// By the container's id.
type Seen = Arc<Mutex<HashMap<String, Known>>>;

#[derive(Debug)]
pub(crate) struct Watched {
    seen: Seen,
    metrics: AgentMetrics,
    /// The thread ends when this does.
    stop: DropGuard,
    agent: JoinHandle<anyhow::Result<()>>,
}

impl Watched {
    /// Returns when all that is there has been found and described, with the ids of whoever is up, as it comes up.
    pub(crate) async fn start(
        configuration: PathBuf,
        realtime: bool,
    ) -> anyhow::Result<(Self, mpsc::UnboundedReceiver<String>)> {
        let (seen, stop, metrics) = (Seen::default(), CancellationToken::new(), AgentMetrics::new()?);
        let (tell_up, ups) = mpsc::unbounded_channel();
        let (tell_ready, ready) = oneshot::channel();
        let watch = watch(
            configuration,
            realtime,
            metrics.clone(),
            Arc::clone(&seen),
            tell_up,
            tell_ready,
            stop.clone(),
        );
        // Of its own, as what it is given would stay with one of tokio's.
        let agent = std::thread::Builder::new().name("agent".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(watch)
        })?;
        let watched = Self { seen, metrics, stop: stop.drop_guard(), agent };
        if ready.await.is_err() {
            return Err(watched.stop().await.err().context("the registry has ended")?);
        }
        Ok((watched, ups))
    }

    /// How many questions the runtime was asked so far, of all kinds that there are.
    pub(crate) fn questions(&self) -> u64 {
        let asked = |call| self.metrics.runtime_requests.with_label_values(&["containerd", call]).get();
        ["ListContainers", "ListPodSandbox"].into_iter().map(asked).sum()
    }

    /// What it knew of each container, after its end.
    pub(crate) async fn stop(self) -> anyhow::Result<HashMap<String, Known>> {
        drop(self.stop);
        let joined = tokio::task::spawn_blocking(|| self.agent.join()).await?;
        joined.unwrap_or_else(|_| bail!("the registry's thread has panicked"))?;
        Ok(std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

async fn watch(
    configuration: PathBuf,
    realtime: bool,
    metrics: AgentMetrics,
    seen: Seen,
    ups: mpsc::UnboundedSender<String>,
    ready: oneshot::Sender<()>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let source = Source::File(configuration);
    let config = source.load()?;
    let options = LauncherOptions { realtime, ..LauncherOptions::default() };
    let launcher = LauncherProcess::start(&source, &options, &[], true)?.attach(drop)?;
    if realtime {
        parachute::enter::go_first().context("--realtime")?;
    }
    let counters = registry_counters(&metrics);
    let detection = counters.detection.clone();
    let before = Mutex::new(0.0);
    let registry = Registry::start(Start {
        hook: Some(parachute::detect::attach()?),
        launcher: launcher.clone(),
        runtimes: &config.runtimes,
        targets: Arc::clone(&config.targets),
        counters,
        tell: Arc::new(move |event| {
            let now = Instant::now();
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                ContainerEvent::Up(container) => {
                    // One container at a time comes up, so that what the sum has grown by is this one's.
                    let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
                    let sum = detection.get_sample_sum();
                    let found = Duration::from_secs_f64((sum - *before).max(0.0));
                    *before = sum;
                    let known = Known { found, up: Some(now), ..Known::default() };
                    seen.insert(container.id.as_str().to_owned(), known);
                    let _ = ups.send(container.id.as_str().to_owned());
                }
                ContainerEvent::Described(container) => {
                    let Some(known) = seen.get_mut(container.id.as_str()) else { return };
                    let metadata = container.metadata.load_full();
                    known.named.get_or_insert(now);
                    if metadata.is_some_and(|metadata| !metadata.labels.is_empty()) {
                        known.labelled.get_or_insert(now);
                    }
                }
                ContainerEvent::Moved(_) | ContainerEvent::Down(_) => {}
            }
        }),
    })?;
    tokio::time::timeout(READY_WITHIN, registry.described()).await.context("the first scan is not done")?;
    if realtime {
        // A launcher goes on without, where it may not.
        let launchers = launchers();
        let go_first = !launchers.is_empty() && launchers.into_iter().all(goes_first);
        ensure!(go_first, "the launcher has no real-time priority");
    }
    // An error means that nobody waits any more.
    let _ = ready.send(());
    stop.cancelled().await;
    launcher.close(READY_WITHIN).await;
    Ok(())
}

fn launchers() -> Vec<u32> {
    let name = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    family(std::process::id()).into_iter().filter(|pid| name(pid).trim_end() == LAUNCHER).collect()
}
