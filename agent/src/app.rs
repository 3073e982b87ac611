//! The only wiring: which room speaks to which, what starts in which order, and the one way down.

mod alerted;
mod counters;
mod declared;
mod scrape;
#[cfg(feature = "object-store")]
mod uploads;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::captures::Captures;
use crate::config::parse::Table;
use crate::config::{Config, Source, node_name};
use crate::containers::{self, Hook, Registry};
use crate::detect::{DetectError, Reason};
use crate::enter::{self, EnterError, Launcher, LauncherProcess, Restart};
use crate::http::{self, Backend, Bound, ProbeAnswer, ProbeAsk, ProbeRefusal, RunAsk, RunRefusal};
use crate::metrics::samples::LastRun;
use crate::metrics::{self, AgentMetrics, AlertWords, Samples, Words};
use crate::model::{Container, ContainerEvent, Delivery, RunRequest, RunResult, TriggerName, Way};
use crate::peers;
use crate::probes::{Keeper, Pool, Quarantined, Record, Refusal, Terms};
use crate::triggers::alerts::{self, Alerts};
use crate::triggers::{self, Resolved};

#[cfg(feature = "object-store")]
pub use self::counters::upload_counters;
pub use self::counters::{alert_counters, capture_counters, peer_counters, pool_counters, registry_counters};

/// From a signal to the end: runs that are still going are ended by the launcher after this.
const GRACE: Duration = Duration::from_secs(5);
/// Events that a slow listener may be behind before it must look at the live set instead.
const EVENTS: usize = 1024;
/// What a client is told when the queue is full: a queue of short runs moves within a second.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Detect(#[from] DetectError),
    #[error(transparent)]
    Enter(#[from] EnterError),
    #[error("signals cannot be listened to: {0}")]
    Signal(std::io::Error),
    #[cfg(feature = "object-store")]
    #[error(transparent)]
    Store(#[from] crate::upload::StoreError),
}

/// What stands before the agent runs.
#[derive(Debug)]
pub struct Setup {
    pub source: Source,
    pub config: Config,
    pub metrics: AgentMetrics,
    pub launcher: LauncherProcess,
    pub hook: Hook,
    pub bound: Vec<Bound>,
    pub enable_lifecycle: bool,
    pub access: http::Access,
    /// What a scrape's timeout is shortened by, so that its answer comes in time.
    pub timeout_offset: Duration,
    /// What must outlive the agent is kept here; None if nothing can be.
    pub storage: Option<PathBuf>,
}

/// Runs the agent until SIGINT or SIGTERM, or until the keeper of its launcher dies.
pub async fn run(setup: Setup) -> Result<(), AppError> {
    let Setup {
        source,
        config,
        metrics,
        launcher,
        hook,
        bound,
        enable_lifecycle,
        access,
        timeout_offset,
        storage,
    } = setup;
    let listen = |kind| signal(kind).map_err(AppError::Signal);
    let (mut interrupt, mut terminate, mut hangup) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    let restarts = metrics.launcher_restarts.clone();
    let launcher = launcher.attach(move |why| restarts.with_label_values(&[why.as_str()]).inc())?;
    let mut successors = launcher.clone();
    #[cfg(feature = "object-store")]
    let kept = storage.as_deref().map(|storage| storage.join("captures"));
    let app = App::start(source, config, metrics, launcher.clone(), hook, storage.as_deref())?;

    let stop = CancellationToken::new();
    #[cfg(feature = "object-store")]
    let uploads = uploads::start(&app, kept, stop.clone())?;
    let options = http::Options {
        enable_lifecycle,
        requests: app.metrics.http_requests.clone(),
        access,
        timeout_offset,
        connections: counters::connections(&app.metrics),
        web_config_good: app.metrics.web_config_last_reload_successful.clone(),
    };
    let front = tokio::spawn(http::serve(bound, Arc::new(app.clone()), options, stop.clone(), GRACE));
    enter::give_program_back();
    let ended = loop {
        tokio::select! {
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            () = launcher.gone() => break Err(EnterError::LauncherGone.into()),
            digest = successors.successor() => {
                if digest != app.config.load().digest {
                    tracing::warn!("the next launcher has read a configuration that was not reloaded yet");
                    let _ = app.reload().await;
                }
            }
            _ = hangup.recv() => {
                // Said in the log by the reload itself.
                let _ = app.reload().await;
            }
        }
    };
    tracing::info!("shutting down");
    stop.cancel();
    // Together: what waits in the pool for an alert is given back by it.
    tokio::join!(app.alerts.close(GRACE), app.pool.close(GRACE));
    let _ = front.await;
    #[cfg(feature = "object-store")]
    if let Some(uploads) = uploads {
        let _ = uploads.await;
    }
    launcher.close(GRACE).await;
    ended
}

/// Handle to everything that the front door may ask for; cheap to clone.
#[derive(Clone, Debug)]
struct App {
    source: Source,
    config: Arc<ArcSwap<Config>>,
    metrics: AgentMetrics,
    samples: Arc<Samples>,
    launcher: Launcher,
    registry: Registry,
    pool: Pool,
    alerts: Alerts,
    captures: Captures,
    reloaded: watch::Sender<u64>,
    /// One reload at a time: agent and launcher must swap to the same configuration.
    reloading: Arc<Mutex<()>>,
}

impl App {
    fn start(
        source: Source,
        config: Config,
        metrics: AgentMetrics,
        launcher: Launcher,
        hook: Hook,
        storage: Option<&Path>,
    ) -> Result<Self, DetectError> {
        declared::declare(&metrics, &config);
        let steps: Vec<_> = enter::STEPS.iter().copied().chain(["launcher"]).collect();
        metrics.declare_words(&Words {
            steps: &steps,
            refusals: &Refusal::REASONS,
            resyncs: &Reason::ALL.map(Reason::as_str),
            ways: &Way::ALL.map(Way::as_str),
            restarts: &Restart::ALL.map(Restart::as_str),
            alerts: AlertWords {
                codes: &alerts::ANSWERS,
                statuses: &alerts::Status::ALL.map(alerts::Status::as_str),
                dropped: &alerts::Reason::ALL.map(alerts::Reason::as_str),
                runs_dropped: &alerts::Dropped::ALL.map(alerts::Dropped::as_str),
                forwarded: &Delivery::OUTCOMES,
                peer_requests: &peers::RESULTS,
                peer_failures: &peers::FAILURES,
            },
            closed: &http::seats::CLOSED,
        });
        loaded(&metrics, true);
        let samples = Arc::new(Samples::new(config.limits.results_grace, metrics.series_dropped.clone()));
        let config = Arc::new(ArcSwap::from_pointee(config));

        let publish = {
            let samples = Arc::clone(&samples);
            Box::new(move |result: &RunResult| samples.publish(result))
        };
        // Without a folder that is safe there is none in this place either, and that is counted.
        let kept = storage.unwrap_or(Path::new("/dev/null")).join("captures");
        let captures = Captures::open(&kept, &config.load().captures, capture_counters(&metrics));
        let keeper = {
            let samples = Arc::clone(&samples);
            let kept = Box::new(move |result: &RunResult| samples.mark_capture(result));
            Keeper { captures: captures.clone(), node: node_name(), kept }
        };
        let counters = pool_counters(&metrics);
        let pool = Pool::new(launcher.clone(), Arc::clone(&config), counters, publish, Some(keeper));

        let (events, _) = broadcast::channel(EVENTS);
        let registry = Registry::start(containers::Start {
            hook: Some(hook),
            launcher: launcher.clone(),
            runtimes: &config.load().runtimes,
            targets: Arc::clone(&config.load().targets),
            counters: registry_counters(&metrics),
            tell: {
                let (samples, events, pool) = (Arc::clone(&samples), events.clone(), pool.clone());
                Arc::new(move |event| {
                    // The results' store knows a container before anything can run in it.
                    match event {
                        ContainerEvent::Up(container) => samples.container_up(container),
                        ContainerEvent::Down(container) => {
                            samples.container_gone(container);
                            pool.container_gone(container);
                        }
                        ContainerEvent::Moved(container) => samples.container_moved(container),
                        ContainerEvent::Described(_) => {}
                    }
                    // An error only means that nobody listens.
                    let _ = events.send(event.clone());
                })
            },
        })?;

        let (reloaded, watch_reloaded) = watch::channel(0);
        tokio::spawn(triggers::watch(triggers::Wiring {
            config: Arc::clone(&config),
            reloaded: watch_reloaded,
            live: {
                let registry = registry.clone();
                Box::new(move || registry.containers())
            },
            events: events.subscribe(),
            submit: {
                let pool = pool.clone();
                // What is refused is counted there.
                Box::new(move |request| _ = pool.submit(request))
            },
            node: node_name(),
        }));
        let alerts = alerted::open(storage, &config, &registry, &pool, captures.clone(), &metrics);
        let reloading = Arc::default();
        Ok(Self {
            source,
            config,
            metrics,
            samples,
            launcher,
            registry,
            pool,
            alerts,
            captures,
            reloaded,
            reloading,
        })
    }

    /// Swaps agent and launcher to the configuration as it is on disk now, if all of it is right.
    async fn reload(&self) -> Result<(), String> {
        let _one = self.reloading.lock().await;
        let swapped = self.swap().await;
        loaded(&self.metrics, swapped.is_ok());
        match &swapped {
            Ok(()) => tracing::info!(source = %self.source, "configuration reloaded"),
            Err(error) => {
                tracing::error!(source = %self.source, %error, "the old configuration stays in use");
            }
        }
        swapped
    }

    async fn swap(&self) -> Result<(), String> {
        let source = self.source.clone();
        let config = tokio::task::spawn_blocking(move || source.load()).await.map_err(|e| e.to_string())?;
        let config = config.map_err(|error| error.to_string())?;
        self.launcher.reload(config.digest).await.map_err(|error| error.to_string())?;
        let old = self.config.load_full();
        if old.runtimes != config.runtimes {
            tracing::warn!("a change of `runtimes` takes effect at the agent's next start");
        }
        declared::declare(&self.metrics, &config);
        self.captures.bound(&config.captures);
        if old.store != config.store {
            tracing::warn!("a change of `captures.store` takes effect at the agent's next start");
        }
        self.registry.aim(&config.targets);
        self.samples.set_grace(config.limits.results_grace);
        let gone = old.probes.keys().filter(|probe| !config.probes.contains_key(*probe));
        gone.for_each(|probe| self.samples.forget_probe(probe));
        self.config.store(Arc::new(config));
        self.reloaded.send_modify(|times| *times += 1);
        Ok(())
    }

    async fn run_on_request(&self, ask: RunAsk) -> Result<RunResult, RunRefusal> {
        let config = self.config.load_full();
        if ask.by_hand.as_ref().is_some_and(|by_hand| by_hand.config != Source::hex(&config.digest)) {
            return Err(RunRefusal::OtherConfig);
        }
        let Some(probe) = config.probes.get(ask.probe.as_str()) else {
            return Err(RunRefusal::UnknownProbe(ask.probe));
        };
        let container = match triggers::resolve(&self.registry.containers(), &ask.target) {
            Resolved::One(container) => container,
            Resolved::None => return Err(RunRefusal::NoContainer),
            Resolved::Several(all) => {
                return Err(RunRefusal::Ambiguous(all.iter().map(ToString::to_string).collect()));
            }
        };
        // By hand every probe may be run; what a trigger would allow in unsafe containers is not allowed then.
        let by_hand = ask.by_hand.is_some();
        let trigger = match triggers::http_trigger(&config, &ask.probe, &container) {
            _ if by_hand => TriggerName::new(TriggerName::CLI),
            Some(trigger) => trigger.clone(),
            None => return Err(RunRefusal::NotByRequest(ask.probe)),
        };
        let request = RunRequest::new(probe.name.clone(), trigger, container);
        let terms = Terms { publish: !by_hand, ..Terms::default() };
        self.pool.run(request, terms).await.map_err(|refusal| match refusal {
            Refusal::QueueFull | Refusal::AlreadyQueued => RunRefusal::Full { retry_after: RETRY_AFTER },
            _ => RunRefusal::Unavailable(refusal.to_string()),
        })
    }
}

impl Backend for App {
    fn metrics(&self, room: String) -> String {
        self.pool.refresh();
        metrics::render_within(room, &self.metrics, &self.samples)
    }

    fn containers(&self) -> Vec<Arc<Container>> {
        self.registry.containers().to_vec()
    }

    fn last_runs(&self, limit: usize) -> Vec<LastRun> {
        self.samples.last_runs(limit)
    }

    fn history(&self) -> Vec<Arc<Record>> {
        self.pool.history()
    }

    fn quarantined(&self) -> Vec<Quarantined> {
        self.pool.quarantined()
    }

    fn targets(&self, module: Option<&str>) -> Option<Vec<Arc<Container>>> {
        Self::targets(self, module)
    }

    fn probe(&self, ask: ProbeAsk) -> BoxFuture<'static, Result<ProbeAnswer, ProbeRefusal>> {
        let app = self.clone();
        async move { app.probe_for_scrape(ask).await }.boxed()
    }

    fn not_ready(&self) -> Option<String> {
        (!self.registry.is_ready()).then(|| "the first scan for containers is not done yet".to_owned())
    }

    fn reload(&self) -> BoxFuture<'static, Result<(), String>> {
        let app = self.clone();
        async move { Self::reload(&app).await }.boxed()
    }

    fn run(&self, ask: RunAsk) -> BoxFuture<'static, Result<RunResult, RunRefusal>> {
        let app = self.clone();
        async move { app.run_on_request(ask).await }.boxed()
    }

    fn captures(&self) -> Captures {
        self.captures.clone()
    }

    fn table(&self, probe: &str) -> Option<Table> {
        Self::table(self, probe)
    }

    fn alerts(&self) -> &Alerts {
        &self.alerts
    }
}

fn loaded(metrics: &AgentMetrics, well: bool) {
    metrics.config_last_reload_successful.set(well.into());
    if well {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        metrics.config_last_reload_success_timestamp_seconds.set(now.as_secs_f64());
    }
}
