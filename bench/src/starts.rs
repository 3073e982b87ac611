//! How soon a container is in the registry after its first exec, and how soon it has its names.
//!
//! This process is the agent here: it has the real program in the kernel, the real launcher and the real registry, on one
//! thread as the agent's. The first moment is the kernel's own, written by the program at the exec; the second is when the
//! container can be looked up, on the same clock. The agent counts that by itself, in `parachute_container_detection_seconds`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use parachute::app::registry_counters;
use parachute::config::Source;
use parachute::containers::{Registry, Start};
use parachute::enter::{LauncherOptions, LauncherProcess};
use parachute::metrics::AgentMetrics;
use parachute::model::ContainerEvent;
use testbed::{Containerd, WORKLOAD_IMAGE, cri};
use tokio_util::sync::CancellationToken;

use crate::Bench;
use crate::row::{Figure, Row, Target, Times, shown};

const CONTAINERS_PER_POD: usize = 15;
/// What follows a container's start has followed by then.
const SETTLING: Duration = Duration::from_millis(500);
const READY_WITHIN: Duration = Duration::from_secs(10);

/// What became known of a container, by its id.
#[derive(Debug, Default)]
struct Known {
    /// From its exec until it could be looked up.
    found: Duration,
    up: Option<Instant>,
    /// With its names, which its bundle on disk has.
    named: Option<Instant>,
    /// With what only the runtime has: its labels.
    labelled: Option<Instant>,
}

type Seen = Arc<Mutex<HashMap<String, Known>>>;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let bed = Containerd::start(&bench.path("starts")).await?;
    let mut rows = started(bench, &bed, false).await?;
    rows.extend(started(bench, &bed, true).await?);
    Ok(rows)
}

/// With `--realtime` or without.
async fn started(bench: &Bench, bed: &Containerd, realtime: bool) -> anyhow::Result<Vec<Row>> {
    let configuration = bench.path("starts.yml");
    std::fs::write(
        &configuration,
        format!(
            "runtimes: [cri: {}]\nprobes: {{ sockets: {{ command: [ss, -s], parse: none }} }}\n",
            bed.socket().display()
        ),
    )?;
    let (seen, stop) = (Seen::default(), CancellationToken::new());
    let (tell_ready, ready) = tokio::sync::oneshot::channel();
    let (tell_up, mut ups) = tokio::sync::mpsc::unbounded_channel::<String>();
    // What the runtime takes to tell somebody else of the same container at the same moment, while it is starting it.
    let mut runtime = bed.runtime();
    let beside = tokio::spawn(async move {
        let mut trips = Times::default();
        while let Some(container_id) = ups.recv().await {
            let since = Instant::now();
            let request = cri::ContainerStatusRequest { container_id, verbose: false };
            // A sandbox is no container for this call.
            if runtime.container_status(request).await.is_ok() {
                trips.0.push(since.elapsed());
            }
        }
        trips
    });
    let agent = {
        let (seen, stop) = (Arc::clone(&seen), stop.clone());
        // Of its own, as what it is given would stay with one of tokio's.
        std::thread::Builder::new().name("agent".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(registry(configuration, realtime, seen, tell_ready, tell_up, stop))
        })?
    };
    if ready.await.is_err() {
        return Err(ended(agent).await.err().context("the registry has ended")?);
    }
    let (mut ids, mut trips) = (Vec::new(), Times::default());
    for number in 0..bench.rounds(20) {
        let mut pod = bed.pod("bench", &format!("starts-{number}")).label("app", "starts");
        for container in 0..CONTAINERS_PER_POD {
            pod = pod.container(&format!("c{container}"), WORKLOAD_IMAGE, &["/workload", "sleep"]);
        }
        let pod = pod.start().await?;
        // What the runtime takes to tell of one container while it has nothing else to do.
        for container in &pod.containers {
            ids.push(container.id.clone());
            let request = cri::ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
            let since = Instant::now();
            bed.runtime().container_status(request).await?;
            trips.0.push(since.elapsed());
        }
        tokio::time::sleep(SETTLING).await;
        pod.remove().await?;
    }
    stop.cancel();
    ended(agent).await?;
    rows(&ids, &seen, &trips, &beside.await?, realtime)
}

async fn ended(agent: std::thread::JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    let joined = tokio::task::spawn_blocking(|| agent.join()).await?;
    joined.unwrap_or_else(|_| bail!("the registry's thread has panicked"))
}

async fn registry(
    configuration: PathBuf,
    realtime: bool,
    seen: Seen,
    ready: tokio::sync::oneshot::Sender<()>,
    ups: tokio::sync::mpsc::UnboundedSender<String>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let source = Source::File(configuration);
    let config = source.load()?;
    let launcher = LauncherProcess::start(
        &source,
        &LauncherOptions { realtime, ..LauncherOptions::default() },
        &[],
        true,
    )?
    .attach(drop)?;
    if realtime {
        parachute::enter::go_first().context("--realtime")?;
    }
    let metrics = AgentMetrics::new()?;
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
    // An error means that nobody waits any more.
    let _ = ready.send(());
    stop.cancelled().await;
    launcher.close(READY_WITHIN).await;
    Ok(())
}

fn rows(
    ids: &[String],
    seen: &Seen,
    trips: &Times,
    beside: &Times,
    realtime: bool,
) -> anyhow::Result<Vec<Row>> {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut found, mut named, mut labelled) = (Times::default(), Times::default(), Times::default());
    for id in ids {
        let known = seen.get(id).with_context(|| format!("{id} was never seen"))?;
        let up = known.up.context("described before it was up")?;
        found.0.push(known.found);
        named.0.extend(known.named.map(|at| at - up));
        labelled.0.extend(known.labelled.map(|at| at - up));
    }
    ensure!(
        named.0.len() == ids.len(),
        "{} of {} containers have no names",
        ids.len() - named.0.len(),
        ids.len()
    );
    ensure!(
        labelled.0.len() == ids.len(),
        "{} of {} have no labels",
        ids.len() - labelled.0.len(),
        ids.len()
    );
    let trip = format!("ContainerStatus while the runtime is idle: {}", trips.shown());
    let how = if realtime { " (`--realtime`)" } else { "" };
    Ok(vec![
        Row {
            what: format!("container's first exec to known by its id, p99 of {}{how}", ids.len()),
            measured: found.shown(),
            beside: format!("least {}", shown(found.quantile(0))),
            value: found.quantile(99).as_secs_f64() * 1e3,
            figure: Figure::Time("ms"),
            target: Target::AtMost(1.0),
        },
        Row {
            what: format!("from there to its names, in runtime round trips{how}"),
            measured: format!("{}, from its bundle on disk", named.shown()),
            beside: trip,
            value: named.ratio(trips),
            figure: Figure::Ratio,
            target: Target::AtMost(1.0),
        },
        Row {
            what: format!("from there to its labels, which the runtime alone has, in the same{how}"),
            measured: format!("{}, asked once while the runtime starts it", labelled.shown()),
            beside: format!(
                "ContainerStatus, asked by another at that moment: {}; idle: {}",
                beside.shown(),
                shown(trips.median())
            ),
            value: labelled.ratio(beside),
            figure: Figure::Ratio,
            target: Target::AtMost(1.0),
        },
    ])
}
