//! How soon a container is in the registry after its first exec, and how soon it has its names and labels.
//!
//! This process is the agent here (`registry.rs`). The first moment is the kernel's own, written by the program at the exec; the
//! second is when the container can be looked up, on the same clock. The agent counts that by itself, in
//! `parachute_container_detection_seconds`. An agent with `--realtime` and one without take turns.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use testbed::{Containerd, CriClient, WORKLOAD_IMAGE, cri};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::Bench;
use crate::registry::Watched;
use crate::row::{Figure, Row, Target, Times, shown};

const CONTAINERS_PER_POD: usize = 15;
/// What follows a container's start has followed by then.
const SETTLING: Duration = Duration::from_millis(500);
/// As the agent waits.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
const REALTIME: &str = " (`--realtime`)";

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let bed = Containerd::start(&bench.path("starts")).await?;
    let configuration = bench.path("starts.yml");
    let socket = bed.socket();
    std::fs::write(
        &configuration,
        format!(
            "runtimes: [cri: {}]\nprobes: {{ sockets: {{ command: [ss, -s], parse: none }} }}\n",
            socket.display()
        ),
    )?;
    // On a thread of its own, which it would stay with.
    let refused = std::thread::spawn(parachute::enter::go_first).join().ok().context("a panic")?.err();
    let (mut plain, mut first) = (Starts::default(), Starts::default());
    let turns: &[bool] = if bench.quick { &[false, true] } else { &[false, true, true, false] };
    for (turn, realtime) in turns.iter().enumerate() {
        if !realtime {
            plain.measure(&bed, &configuration, turn, bench.rounds(20), false).await?;
        } else if refused.is_none() {
            first.measure(&bed, &configuration, turn, bench.rounds(20), true).await?;
        }
    }
    let mut rows = plain.rows("");
    match refused {
        None => rows.extend(first.rows(REALTIME)),
        Some(error) => {
            let not_here = rows
                .iter()
                .map(|row| Row::not_here(&format!("{}{REALTIME}", row.what), &error.to_string(), row.target));
            rows.extend(not_here.collect::<Vec<_>>());
        }
    }
    Ok(rows)
}

/// Of all turns of one kind; each time is one container's.
#[derive(Debug, Default)]
struct Starts {
    found: Times,
    named: Times,
    labelled: Times,
    /// What the runtime takes to tell of one container while it has nothing else to do.
    idle: Times,
    /// What it takes to tell somebody else of the same container at the same moment, while it is starting it.
    beside: Times,
    questions: u64,
    /// Containers and sandboxes: a sandbox is one as well for the agent.
    started: usize,
}

impl Starts {
    async fn measure(
        &mut self,
        bed: &Containerd,
        configuration: &Path,
        turn: usize,
        pods: usize,
        realtime: bool,
    ) -> anyhow::Result<()> {
        let (agent, ups) = Watched::start(configuration.to_owned(), realtime).await?;
        let beside = ask_beside(bed.socket(), ups, realtime);
        let asked = agent.questions();
        let mut ids = Vec::new();
        for number in 0..pods {
            let mut pod = bed.pod("bench", &format!("starts-{turn}-{number}")).label("app", "starts");
            for container in 0..CONTAINERS_PER_POD {
                pod = pod.container(&format!("c{container}"), WORKLOAD_IMAGE, &["/workload", "sleep"]);
            }
            let pod = pod.start().await?;
            for container in &pod.containers {
                ids.push(container.id.clone());
                let trip = ask(&mut bed.runtime(), container.id.clone()).await?;
                self.idle.0.push(trip.context("the runtime has not told of a container")?);
            }
            tokio::time::sleep(SETTLING).await;
            pod.remove().await?;
        }
        self.questions += agent.questions() - asked;
        self.started += ids.len() + pods;
        // The other ends with the agent.
        let seen = agent.stop().await?;
        let beside = tokio::task::spawn_blocking(|| beside.join()).await?;
        let beside = beside.unwrap_or_else(|_| bail!("who asks beside the agent has panicked"))?;
        ensure!(self.questions > 0, "the agent has not asked the runtime, or not as it is counted here");
        for id in &ids {
            let known = seen.get(id).with_context(|| format!("{id} was never seen"))?;
            ensure!(!known.found.is_zero(), "{id} was not found by its exec");
            let up = known.up.context("described before it was up")?;
            self.found.0.push(known.found);
            self.named.0.push(known.named.with_context(|| format!("{id} has no names"))? - up);
            self.labelled.0.push(known.labelled.with_context(|| format!("{id} has no labels"))? - up);
            self.beside
                .0
                .push(*beside.get(id).with_context(|| format!("the runtime did not tell another of {id}"))?);
        }
        Ok(())
    }

    fn rows(&self, how: &str) -> Vec<Row> {
        let Self { found, named, labelled, idle, beside, questions, started } = self;
        vec![
            Row {
                what: format!("container's first exec to known by its id, p99{how}"),
                measured: found.shown(),
                beside: format!("least {}", shown(found.quantile(0))),
                value: found.quantile(99).as_secs_f64() * 1e3,
                figure: Figure::Time("ms"),
                target: Target::AtMost(1.0),
            },
            Row {
                what: format!("from there to its names, in runtime round trips{how}"),
                measured: format!("{}, from its bundle on disk", named.shown()),
                beside: format!("the same question while the runtime is idle: {}", idle.shown()),
                value: named.ratio(idle),
                figure: Figure::Ratio,
                target: Target::AtMost(1.0),
            },
            Row {
                what: format!("from there to its labels, which the runtime alone has, in the same{how}"),
                measured: format!(
                    "{}, asked once while the runtime starts it; of an idle runtime's: {:.1} ×",
                    labelled.shown(),
                    labelled.ratio(idle)
                ),
                beside: format!(
                    "the same question, asked at that moment by another of the same priority: {}",
                    beside.shown()
                ),
                value: labelled.ratio(beside),
                figure: Figure::Ratio,
                target: Target::AtMost(1.0),
            },
            Row {
                what: format!("questions to the runtime for each container or sandbox that starts{how}"),
                measured: format!("{questions} for {started}"),
                beside: "each names all that the runtime has of it".to_owned(),
                value: *questions as f64 / *started as f64,
                figure: Figure::Size("questions"),
                target: Target::AtMost(1.0),
            },
        ]
    }
}

/// With the agent's own priority, on a thread of its own.
fn ask_beside(
    socket: PathBuf,
    mut ups: UnboundedReceiver<String>,
    realtime: bool,
) -> JoinHandle<anyhow::Result<HashMap<String, Duration>>> {
    std::thread::spawn(move || {
        if realtime {
            parachute::enter::go_first()?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut runtime = Containerd::connect(&socket)?;
            let mut trips = HashMap::new();
            while let Some(id) = ups.recv().await {
                // A sandbox is no container for this call.
                if let Some(trip) = ask(&mut runtime, id.clone()).await? {
                    trips.insert(id, trip);
                }
            }
            Ok(trips)
        })
    })
}

/// What the agent asks, of a container; nothing where the runtime has none with this id.
async fn ask(runtime: &mut CriClient, id: String) -> anyhow::Result<Option<Duration>> {
    let filter = Some(cri::ContainerFilter { id });
    let since = Instant::now();
    let answer = runtime.list_containers(cri::ListContainersRequest { filter });
    let answer =
        tokio::time::timeout(ANSWERED_WITHIN, answer).await.context("the runtime does not answer")??;
    let took = since.elapsed();
    Ok((answer.into_inner().containers.len() == 1).then_some(took))
}
