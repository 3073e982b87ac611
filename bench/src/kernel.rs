//! What the exec tracepoint costs: the program itself as the kernel counts it, a spawn with and without it, and the agent
//! while a container does nothing but exec.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testbed::{Agent, Containerd, WORKLOAD_IMAGE};

use crate::Bench;
use crate::processes::{family, processor};
use crate::row::{Figure, Row, Target, Times};
use crate::runs::spawn;

/// Spawns in a row with the program, and then without.
const TURN: usize = 100;
/// After them the cgroup is known in every place.
const WARMING: usize = 10;
/// What a user would count execs with.
const COUNT: &str = "tracepoint:sched:sched_process_exec { @ = count(); }";
/// The least that a program can do which asks for the cgroup: that, and one comparison.
const CGROUP: &str = "tracepoint:sched:sched_process_exec /cgroup == 0/ { exit(); }";
/// The file systems that it looks for are mounted for it alone.
const BPFTRACE: &str = "mount -t tracefs none /sys/kernel/tracing 2>/dev/null
mount -t debugfs none /sys/kernel/debug 2>/dev/null
exec bpftrace -e \"$0\"";
const BPFTRACE_STARTS_WITHIN: Duration = Duration::from_secs(10);
/// It takes a second to start.
const OTHERS_EVERY: usize = 10;
const CONFIGURATION: &str = "probes: { sockets: { command: [ss, -s], parse: none } }\n";
/// Another's cgroup may be made while the storm goes on, which is a record: of so many windows the worse of the better two counts there.
const WINDOWS: usize = 4;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let turns = bench.rounds(100);
    let mut rows = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The program's ring is awaited by a runtime; nothing else is.
        runtime.block_on(async { program(turns) })
    })
    .await??;
    rows.extend(storm(bench).await?);
    Ok(rows)
}

fn program(turns: usize) -> anyhow::Result<Vec<Row>> {
    let _counting = Counting::start()?;
    let (mut with, mut without) = (Times::default(), Times::default());
    let (mut ours, mut costs) = (Cost::default(), Vec::new());
    // By bpftrace, each alone: what runs beside another finds some of its way in the caches.
    let mut others = [COUNT, CGROUP].map(|program| (program, Ok(Cost::default())));
    for turn in 0..turns {
        let (kernel, _seen) = parachute::detect::attach()?;
        for _ in 0..WARMING {
            spawn()?;
        }
        let before = Cost::from(kernel.cost()?);
        for _ in 0..TURN {
            with.0.push(spawn()?);
        }
        let cost = Cost::from(kernel.cost()?).since(before);
        ours = ours.and(cost);
        costs.push(cost.per_run());
        drop(kernel);
        for _ in 0..TURN {
            without.0.push(spawn()?);
        }
        if turn % OTHERS_EVERY == 0 {
            for (program, cost) in &mut others {
                if let Ok(so_far) = cost {
                    *cost = of_bpftrace(program).map(|more| so_far.and(more));
                }
            }
        }
    }
    let (cost, count) = (ours.per_run(), ours.count);
    costs.sort_by(f64::total_cmp);
    let [counting, cgroup] = others.map(|(_, cost)| cost.map(Cost::per_run));
    let beside = match &cgroup {
        Ok(cgroup) => {
            format!("one of bpftrace's that asks for the cgroup and does nothing else: {cgroup:.0} ns")
        }
        Err(error) => format!("bpftrace does not run here: {error:#}").replace(['\n', '|'], " "),
    };
    let what = "the same, against bpftrace that counts the same tracepoint";
    let against = match counting {
        Err(error) => Row::not_here(what, &format!("{error:#}"), Target::AtMost(1.0)),
        Ok(counting) => Row {
            what: what.to_owned(),
            measured: format!("{cost:.0} ns"),
            beside: format!("@ = count(): {counting:.0} ns"),
            value: cost / counting,
            figure: Figure::Ratio,
            target: Target::AtMost(1.0),
        },
    };
    let share = cost / nanoseconds(without.median()) * 100.0;
    Ok(vec![
        Row {
            what: "eBPF program at an exec in a known cgroup".to_owned(),
            measured: format!(
                "{cost:.0} ns over {count} execs, of turns of {TURN}: median {:.0}, least {:.0}",
                costs[costs.len() / 2],
                costs[0]
            ),
            beside,
            value: cost,
            figure: Figure::Time("ns"),
            target: Target::AtMost(120.0),
        },
        against,
        Row {
            what: "its share of fork, exec, exit and wait".to_owned(),
            measured: format!("with it: {}", with.shown()),
            beside: format!("without any: {}", without.shown()),
            value: share,
            figure: Figure::Size("%"),
            target: Target::AtMost(0.3),
        },
    ])
}

/// The real agent while a container that it knows execs as fast as it can.
async fn storm(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let bed = Containerd::start(&bench.path("kernel")).await?;
    let configuration = bench.path("kernel.yml");
    fs::write(&configuration, CONFIGURATION)?;
    let mut agent = Agent::start(&bench.parachute, &configuration, |_| {})?;
    agent.ready(Duration::from_secs(30)).await?;
    let pod = bed.pod("bench", "storm").container("main", WORKLOAD_IMAGE, &["/workload", "execs"]);
    let pod = pod.start().await?;
    let init = pod.containers.first().context("no container")?.pid;
    // Until the agent has done what there is to do for two new containers.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let agents = family(agent.pid());
    ensure!(
        execs(&agent).await? > 0.0,
        "the storm's own first exec is no record, so that records are not counted"
    );
    let storms = family(u32::try_from(init)?);
    let window = Duration::from_millis(if bench.quick { 1_000 } else { 5_000 });
    let (mut shares, mut records, mut storm) = (Vec::new(), Vec::new(), Duration::ZERO);
    let mut storm_processes = 0;
    for _ in 0..WINDOWS {
        let (written, used, forked) = (execs(&agent).await?, processor(&agents), forks()?);
        let since = Instant::now();
        tokio::time::sleep(window).await;
        let seconds = since.elapsed().as_secs_f64();
        shares.push(processor(&agents).saturating_sub(used).as_secs_f64() / seconds * 100.0);
        let forked = forks()? - forked;
        records.push(execs(&agent).await? - written);
        storm += window;
        storm_processes += forked;
        ensure!(forked > 100 * window.as_secs(), "there was no storm: {forked} processes in {window:?}");
    }
    let used = processor(&storms).as_secs_f64();
    shares.sort_by(f64::total_cmp);
    records.sort_by(f64::total_cmp);
    let window = window.as_secs();
    Ok(vec![
        Row {
            what: "agent, launcher and helpers during an exec storm in a known container".to_owned(),
            measured: format!(
                "{:.3} % of a core at most, in {WINDOWS} windows of {window} s",
                shares[WINDOWS - 1]
            ),
            beside: format!("the storm's own init: {:.0} %", used / storm.as_secs_f64() * 100.0),
            value: shares[WINDOWS - 1],
            figure: Figure::Size("% of a core"),
            target: Target::AtMost(1.0),
        },
        Row {
            what: "ring records of an exec storm in a known container".to_owned(),
            measured: format!(
                "{} in {WINDOWS} windows of {window} s, {} at most in one; {storm_processes} processes and threads of the machine began meanwhile",
                records.iter().sum::<f64>(),
                records[WINDOWS - 1]
            ),
            beside: "whatever else was started for the first time on this machine is among them".to_owned(),
            value: records[(WINDOWS - 1) / 2],
            figure: Figure::Size("records"),
            target: Target::AtMost(0.0),
        },
    ])
}

async fn execs(agent: &Agent) -> anyhow::Result<f64> {
    let samples = agent.scrape().await?;
    Ok(samples
        .iter()
        .filter(|sample| sample.name.starts_with("parachute_exec_events"))
        .map(|s| s.value)
        .sum())
}

/// Processes and threads made since the machine's start (`/proc/stat`).
fn forks() -> anyhow::Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let forks = stat
        .lines()
        .find_map(|line| line.strip_prefix("processes "))
        .context("no processes in /proc/stat")?;
    Ok(forks.trim().parse()?)
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

/// The kernel counts what programs cost as long as this lives.
struct Counting {
    before: String,
}

const COUNTS: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl Counting {
    fn start() -> anyhow::Result<Self> {
        let before = fs::read_to_string(COUNTS).context(COUNTS)?;
        fs::write(COUNTS, "1").context(COUNTS)?;
        Ok(Self { before })
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Err(error) = fs::write(COUNTS, self.before.trim()) {
            eprintln!("{COUNTS}: {error}");
        }
    }
}

/// bpftrace at work on the same tracepoint.
struct Bpftrace(Child);

impl Bpftrace {
    fn start(program: &str) -> anyhow::Result<Self> {
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", BPFTRACE, program])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let deadline = Instant::now() + BPFTRACE_STARTS_WITHIN;
        loop {
            // One run is the first exec that it has seen.
            if run_by(child.id()).is_some_and(|(count, _)| count > 0) {
                return Ok(Self(child));
            }
            let late = Instant::now() > deadline;
            if late {
                child.kill()?;
            }
            if late || child.try_wait()?.is_some() {
                let output = child.wait_with_output()?;
                let said = String::from_utf8_lossy(&output.stderr);
                anyhow::bail!("{}: {}", output.status, said.trim());
            }
            spawn()?;
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn cost(&self) -> anyhow::Result<Cost> {
        run_by(self.0.id()).map(Cost::from).context("bpftrace has ended")
    }
}

/// Of some execs, of which bpftrace sees each by this program.
fn of_bpftrace(program: &str) -> anyhow::Result<Cost> {
    let bpftrace = Bpftrace::start(program)?;
    for _ in 0..WARMING {
        spawn()?;
    }
    let before = bpftrace.cost()?;
    for _ in 0..TURN * OTHERS_EVERY / 4 {
        spawn()?;
    }
    Ok(bpftrace.cost()?.since(before))
}

/// How often a program has run, and how long in all.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    count: u64,
    time: Duration,
}

impl From<(u64, Duration)> for Cost {
    fn from((count, time): (u64, Duration)) -> Self {
        Self { count, time }
    }
}

impl Cost {
    fn and(self, more: Self) -> Self {
        Self { count: self.count + more.count, time: self.time + more.time }
    }

    fn since(self, before: Self) -> Self {
        Self { count: self.count - before.count, time: self.time.saturating_sub(before.time) }
    }

    /// In nanoseconds.
    #[allow(clippy::cast_precision_loss, reason = "nanoseconds and counts of some minutes")]
    fn per_run(self) -> f64 {
        nanoseconds(self.time) / self.count.max(1) as f64
    }
}

/// How often a process's eBPF programs have run, and for how long: what the kernel tells of their descriptors.
fn run_by(pid: u32) -> Option<(u64, Duration)> {
    let folder = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?;
    folder.flatten().find_map(|entry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        field("prog_id:")?;
        Some((field("run_cnt:")?, Duration::from_nanos(field("run_time_ns:")?)))
    })
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        // Its probes and its mounts go with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
