//! What a run costs beside a bare spawn of the same command, warm and for the first time, and what it does not depend on:
//! the host's mounts and the agent's own memory.
//!
//! This process is the agent here: it has the real launcher and the real pool of runs, on one thread as the agent's. A run is
//! timed from its request to its result, which comes after all of it has been reaped and its output has been read.

use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::ensure;
use arc_swap::{ArcSwap, ArcSwapOption};
use nix::fcntl::OFlag;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::waitpid;
use parachute::app::pool_counters;
use parachute::config::Source;
use parachute::enter::{Launcher, LauncherOptions, LauncherProcess};
use parachute::metrics::AgentMetrics;
use parachute::model::{
    Container, ContainerId, Outcome, ProbeName, RunRequest, Runtime, Shares, TriggerName,
};
use parachute::probes::{Pool, Terms};
use testbed::{Containerd, Pod, WORKLOAD_IMAGE};

use crate::Bench;
use crate::floor::{self, Floor, How};
use crate::mounts::{Mounts, Shared};
use crate::processes::{Resident, pidfd};
use crate::row::{Figure, Row, Target, Times, shown};

const CONFIGURATION: &str = "\
probes:
  joined: { command: [/bin/true], parse: none, isolation: joined }
  observer: { command: [/bin/true], parse: none }
";
const WAYS: [&str; 2] = ["joined", "observer"];
/// A run of each way, the floor plain (2) and guarded (3) and a bare spawn (4), in all orders alike: each follows each other as often. What
/// a run leaves to be ended behind its answer falls on a bare spawn that is not counted, which goes before each of them.
const ORDERS: [[usize; 5]; 4] = [[0, 1, 2, 3, 4], [0, 2, 1, 4, 3], [0, 3, 2, 4, 1], [3, 1, 0, 4, 2]];
/// Containers of a pod that were never entered, half of them for each way.
const FRESH: usize = 8;
const MANY_MOUNTS: usize = 5_000;
const MEMORY: usize = 500 << 20;
/// Runs after which everything that is made once has been made.
const WARMING: usize = 20;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let _shared = Shared::make()?;
    let bed = Containerd::start(&bench.path("runs")).await?;
    let warm = bed.pod("bench", "runs").container("warm", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    let warm = warm.start().await?;
    let (configuration, mounts) = (bench.path("runs.yml"), bench.path("runs-mounts"));
    std::fs::write(&configuration, CONFIGURATION)?;
    let (few, some) = (bench.rounds(3_000), bench.rounds(1_500));
    let launchers = if bench.quick { 6 } else { 36 };
    let mut fresh = Vec::new();
    for number in 0..launchers {
        let mut pod = bed.pod("bench", &format!("fresh-{number}"));
        for container in 0..FRESH {
            pod = pod.container(&format!("c{container}"), WORKLOAD_IMAGE, &["/workload", "sleep"]);
        }
        fresh.push(pod.start().await?);
    }
    let floor = Floor::with_launcher(bench)?;
    let work = move || {
        // One thread, as the agent has.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(rows(&configuration, &mounts, &warm, &fresh, &floor, [few, some]))
    };
    tokio::task::spawn_blocking(work).await?
}

async fn rows(
    configuration: &Path,
    mounts: &Path,
    pod: &Pod,
    fresh: &[Pod],
    floor: &Floor,
    [few, some]: [usize; 2],
) -> anyhow::Result<Vec<Row>> {
    let stand = Stand::start(configuration, pod).await?;
    let warm = stand.warm(few, Some(floor)).await?;
    let with_mounts = warm_beside(&stand, some, mounts).await?;
    let (large, resident) = large_beside(&stand, some).await?;
    let grown = [
        ("the host's mounts, 5,000 more", with_mounts, String::new()),
        (
            "the agent's memory, 10 MB to 500 MB",
            large,
            format!("; {:.0} MB to {:.0} MB here", resident[0], resident[1]),
        ),
    ];
    stand.close().await;
    let mut first: [[Firsts; 2]; 2] = Default::default();
    for (turn, fresh) in fresh.iter().enumerate() {
        // Every second one with the mounts.
        let many = turn % 2 == 1;
        let _mounts = many.then(|| Mounts::make(mounts, MANY_MOUNTS)).transpose()?;
        let more = firsts(configuration, pod, fresh).await?;
        first[usize::from(many)].iter_mut().zip(more).for_each(|(all, more)| all.extend(more));
    }

    let floor = floor::told(warm.least.each_ref().map(|least| least.ratio(&warm.spawn)));
    let mut rows = Vec::new();
    for (n, (way, limit)) in WAYS.into_iter().zip([1.3, 2.0]).enumerate() {
        rows.push(Row {
            what: format!("warm run of /bin/true, {way}"),
            measured: format!(
                "{}: {} above the spawn",
                warm.ways[n].shown(),
                shown(warm.ways[n].median().saturating_sub(warm.spawn.median()))
            ),
            beside: format!("posix_spawn and wait: {}{}", warm.spawn.shown(), [floor.as_str(), ""][n]),
            value: warm.ways[n].ratio(&warm.spawn),
            figure: Figure::Ratio,
            target: Target::AtMost(limit),
        });
    }
    let [few_mounts, many_mounts] = &first;
    for (way, firsts) in WAYS.into_iter().zip(few_mounts) {
        rows.push(Row {
            what: format!("first run in a container, {way}"),
            measured: firsts.first.shown(),
            beside: format!("the warm one: {}", firsts.warm.shown()),
            value: firsts.first.ratio(&firsts.warm),
            figure: Figure::Ratio,
            target: Target::AtMost(2.0),
        });
    }
    for (what, [small, large], besides) in &grown {
        for (n, way) in WAYS.into_iter().enumerate() {
            let mut row = growth(
                format!("warm run, {way}: {what}"),
                [&large.ways[n], &large.spawn],
                [&small.ways[n], &small.spawn],
            );
            row.measured += besides;
            rows.push(row);
        }
    }
    for ((way, few), many) in WAYS.into_iter().zip(few_mounts).zip(many_mounts) {
        let mut row = growth(
            format!("first run, {way}: the host's mounts, 5,000 more"),
            [&many.first, &many.spawn],
            [&few.first, &few.spawn],
        );
        let next = [many, few].map(|firsts| shown(firsts.warm.median()));
        row.beside = format!("{}; the run after it: {}, before {}", row.beside, next[0], next[1]);
        rows.push(row);
    }
    Ok(rows)
}

/// Of a time between two moments, each beside the bare spawns of its moment: the machine has others at work. What it is without
/// those stands beside it.
fn growth(what: String, [after, spawn_after]: [&Times; 2], [before, spawn_before]: [&Times; 2]) -> Row {
    Row {
        what,
        measured: format!(
            "{}, spawn {}; {:.2} × and {:.2} × before",
            after.shown(),
            shown(spawn_after.median()),
            after.ratio(before),
            spawn_after.ratio(spawn_before)
        ),
        beside: format!("before: {}, spawn {}", before.shown(), shown(spawn_before.median())),
        value: after.ratio(spawn_after) / before.ratio(spawn_before),
        figure: Figure::Ratio,
        target: Target::AtMost(1.05),
    }
}

/// How often the measurement changes between few and many: what the machine does besides falls on both.
const TURNS: usize = 4;

/// Without and with, so that each is as often the first of the two.
fn by_turns() -> impl Iterator<Item = bool> {
    [false, true, true, false].into_iter().cycle().take(2 * TURNS)
}

async fn warm_beside(stand: &Stand, rounds: usize, mounts: &Path) -> anyhow::Result<[Warm; 2]> {
    let mut both = [Warm::default(), Warm::default()];
    for many in by_turns() {
        let made = many.then(|| Mounts::make(mounts, MANY_MOUNTS)).transpose()?;
        settle().await;
        both[usize::from(many)].extend(stand.warm(rounds / TURNS, None).await?);
        drop(made);
    }
    Ok(both)
}

/// And how many megabytes it had, without and with.
async fn large_beside(stand: &Stand, rounds: usize) -> anyhow::Result<([Warm; 2], [f64; 2])> {
    let mut both = [Warm::default(), Warm::default()];
    let mut resident = [0.0; 2];
    for large in by_turns() {
        // Not zeroes, which would be no memory before they are written to.
        let memory = large.then(|| vec![1_u8; MEMORY]);
        let had = Resident::of(std::process::id())?;
        resident[usize::from(large)] = had.now;
        both[usize::from(large)].extend(stand.warm(rounds / TURNS, None).await?);
        drop(std::hint::black_box(memory));
    }
    Ok((both, resident))
}

/// After a change of the host's mounts the launcher looks at them, at most once a second.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1_500)).await;
}

#[derive(Debug, Default)]
struct Warm {
    spawn: Times,
    ways: [Times; 2],
    /// The floor, plain and guarded, where it was asked for.
    least: [Times; 2],
}

impl Warm {
    fn extend(&mut self, more: Self) {
        self.spawn.0.extend(more.spawn.0);
        for (all, more) in self.ways.iter_mut().zip(more.ways) {
            all.0.extend(more.0);
        }
    }
}

/// Runs in containers that nobody had ever entered, and then the next ones in the same.
#[derive(Debug, Default)]
struct Firsts {
    spawn: Times,
    first: Times,
    warm: Times,
}

impl Firsts {
    fn extend(&mut self, more: Self) {
        self.spawn.0.extend(more.spawn.0);
        self.first.0.extend(more.first.0);
        self.warm.0.extend(more.warm.0);
    }
}

/// A new launcher has looked at no container; it is itself warmed up in another pod's.
async fn firsts(configuration: &Path, pod: &Pod, fresh: &Pod) -> anyhow::Result<[Firsts; 2]> {
    let mut stand = Stand::start(configuration, pod).await?;
    stand.know(fresh).await?;
    let mut all: [Firsts; 2] = Default::default();
    let (one, other) = stand.containers[1..].split_at(FRESH / 2);
    for ((way, firsts), containers) in WAYS.into_iter().zip(&mut all).zip([one, other]) {
        for container in containers {
            // Both after a bare spawn: what follows a run has the end of its mounts in its time.
            for times in [&mut firsts.first, &mut firsts.warm] {
                firsts.spawn.0.push(spawn()?);
                times.0.push(stand.run(way, container).await?);
            }
        }
    }
    stand.close().await;
    Ok(all)
}

/// The agent's part that runs something, with the containers that it knows; the first one is warmed up in.
#[derive(Debug)]
struct Stand {
    launcher: Launcher,
    pool: Pool,
    containers: Vec<Arc<Container>>,
}

impl Stand {
    async fn start(configuration: &Path, pod: &Pod) -> anyhow::Result<Self> {
        let source = Source::File(configuration.to_owned());
        let launcher =
            LauncherProcess::start(&source, &LauncherOptions::default(), &[], false)?.attach(drop)?;
        let config = Arc::new(ArcSwap::from_pointee(source.load()?));
        let counters = pool_counters(&AgentMetrics::new()?);
        let pool = Pool::new(launcher.clone(), config, counters, Box::new(|_| {}), None);
        let mut stand = Self { launcher, pool, containers: Vec::new() };
        stand.know(pod).await?;
        stand.warm(WARMING, None).await?;
        Ok(stand)
    }

    async fn know(&mut self, pod: &Pod) -> anyhow::Result<()> {
        for container in &pod.containers {
            self.containers.push(known(&self.launcher, &container.id, container.pid).await?);
        }
        Ok(())
    }

    /// A bare spawn, a run of each way and, with a `floor`, that by turns, all in the same container.
    async fn warm(&self, rounds: usize, floor: Option<&Floor>) -> anyhow::Result<Warm> {
        let mut warm = Warm::default();
        let container = &self.containers[0];
        let measured = |what: &usize| floor.is_some() || ![2, 3].contains(what);
        for what in ORDERS.into_iter().cycle().take(rounds).flatten().filter(measured) {
            spawn()?;
            match (what, floor) {
                (0 | 1, _) => warm.ways[what].0.push(self.run(WAYS[what], container).await?),
                (2 | 3, Some(floor)) => {
                    let how = How { alone: true, guarded: what == 3 };
                    warm.least[what - 2].0.push(floor.run(container.pidfd.as_fd(), &["/bin/true"], how)?);
                }
                _ => warm.spawn.0.push(spawn()?),
            }
        }
        Ok(warm)
    }

    async fn run(&self, probe: &str, container: &Arc<Container>) -> anyhow::Result<Duration> {
        let trigger = TriggerName::new(TriggerName::CLI);
        let started = Instant::now();
        let request = RunRequest::new(ProbeName::new(probe), trigger, Arc::clone(container));
        let result = self.pool.run(request, Terms::default()).await?;
        let took = started.elapsed();
        ensure!(result.outcome == Outcome::Ok, "a run ended with {}", result.outcome);
        Ok(took)
    }

    async fn close(self) {
        self.pool.close(Duration::from_secs(5)).await;
        self.launcher.close(Duration::from_secs(5)).await;
    }
}

async fn known(launcher: &Launcher, id: &str, pid: i32) -> anyhow::Result<Arc<Container>> {
    let pidfd = pidfd(pid)?;
    let about = launcher.inspect(pidfd.as_fd()).await?;
    Ok(Arc::new(Container {
        id: ContainerId::new(id),
        pidfd,
        pid: about.pid,
        start_ticks: about.start_ticks,
        pid_start_ticks: about.start_ticks,
        cgroup_id: 0,
        cgroup_path: String::new(),
        pid_ns: about.pid_ns,
        net_ns: about.net_ns,
        shares: Shares::default(),
        runtime: Runtime::Containerd,
        cgroup_pod_uid: None,
        up_at: SystemTime::now(),
        metadata: ArcSwapOption::empty(),
    }))
}

/// What the kernel needs for the same command and no container: posix_spawn(3), its output read to the end, wait(2).
pub(crate) fn spawn() -> anyhow::Result<Duration> {
    let started = Instant::now();
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let mut actions = PosixSpawnFileActions::init()?;
    actions.add_open(0, "/dev/null", OFlag::O_RDONLY, nix::sys::stat::Mode::empty())?;
    actions.add_dup2(write.as_raw_fd(), 1)?;
    actions.add_dup2(write.as_raw_fd(), 2)?;
    let arguments = [c"/bin/true"];
    let environment = [c"PATH=/usr/sbin:/usr/bin", c"LC_ALL=C"];
    let pid = posix_spawn(c"/bin/true", &actions, &PosixSpawnAttr::init()?, &arguments, &environment)?;
    drop::<OwnedFd>(write);
    let mut output = Vec::new();
    std::fs::File::from(read).read_to_end(&mut output)?;
    let ended = waitpid(pid, None)?;
    let took = started.elapsed();
    ensure!(matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 0)), "a bare spawn ended with {ended:?}");
    Ok(took)
}
