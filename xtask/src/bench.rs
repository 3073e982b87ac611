//! `cargo xtask bench`: what a command in a container costs, beside what comes before it, in one run. Ratios are what
//! counts; times are of one machine on one day. Nothing is asserted.

mod mounts;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testbed::{Agent, Containerd, WORKLOAD_IMAGE};

use self::mounts::Mounts;
use crate::{progress, setup};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const PARACHUTE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/parachute");
/// Mounts that the host gets on top of its own.
const MOUNTS: [usize; 3] = [0, 1000, 5000];
/// The agent's launcher looks at a changed mount table once a second.
const SETTLE: Duration = Duration::from_millis(2500);

/// A line of the table: its name, and the command that is timed.
struct Subject {
    name: &'static str,
    words: Vec<String>,
    /// The seed's workflow takes tens of milliseconds: every tenth round is enough.
    slow: bool,
}

pub(crate) fn run(runs: usize) -> anyhow::Result<()> {
    setup::ensure("bench")?;
    let build = ["build", "--locked", "--release", "--package", "parachute"];
    progress::openly("building the agent", progress::cargo().args(build))?;
    let dir = tempfile::Builder::new().prefix("parachute-").tempdir()?;
    let seed = dir.path().join("seed");
    let compiled = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&seed)
        .arg(Path::new(ROOT).join("bench/seed.c"))
        .status()?;
    ensure!(compiled.success(), "cc cannot compile bench/seed.c");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(measure(dir.path(), &seed, runs))?;
    let path = Path::new(ROOT).join("docs/benchmarks.md");
    std::fs::write(&path, &report).with_context(|| path.display().to_string())?;
    println!("{report}");
    Ok(())
}

async fn measure(dir: &Path, seed: &Path, runs: usize) -> anyhow::Result<String> {
    let bed = Containerd::start(&dir.join("bed")).await?;
    let pod =
        bed.pod("shop", "cart-0").container("cart", WORKLOAD_IMAGE, &["/workload", "sleep"]).start().await?;
    let configuration = dir.join("parachute.yml");
    let socket = bed.socket();
    let text = format!(
        "runtimes: [{{cri: {}}}]\nprobes: {{ sockets: {{ command: [ss, -s], parse: none }} }}\n",
        socket.display()
    );
    std::fs::write(&configuration, text)?;
    let mut agent = Agent::start(Path::new(PARACHUTE), &configuration, |_| {})?;
    agent.ready(Duration::from_secs(20)).await?;
    let container = pod.container("cart").context("the pod has its container")?;
    let words = |text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let run_directory = agent.run_directory().display();
    let subjects = [
        ("spawn and wait for /bin/true, in no container", "/bin/true".to_owned()),
        (
            "`nsenter -t PID -p -n unshare -m true`",
            format!("nsenter -t {} -p -n unshare -m true", container.pid),
        ),
        (
            "`parachute exec NAME true`, agent running",
            format!("{PARACHUTE} exec --run-directory {run_directory} cart true"),
        ),
        (
            "the seed's workflow (bench/seed.c)",
            format!("{} {} {} true", seed.display(), socket.display(), container.id),
        ),
    ]
    .map(|(name, text)| Subject { name, slow: name.contains("seed"), words: words(text) });

    let mut report = heading(runs)?;
    for more in MOUNTS {
        println!("measuring with {more} more mounts");
        let mounts = Mounts::make(&dir.join("mounts"), more)?;
        tokio::time::sleep(SETTLE).await;
        let times = tokio::task::block_in_place(|| time(&subjects, runs))?;
        write!(report, "\n## {} mounts on the host\n\n", host_mounts()?)?;
        report.push_str("| what | median | p99 | against nsenter |\n| --- | --- | --- | --- |\n");
        let reference = quantile(&times[1], 50);
        for (subject, times) in subjects.iter().zip(&times) {
            let (median, high) = (quantile(times, 50), quantile(times, 99));
            let ratio = median.as_secs_f64() / reference.as_secs_f64();
            writeln!(report, "| {} | {} | {} | {ratio:.2} |", subject.name, shown(median), shown(high))?;
        }
        drop(mounts);
    }
    agent.check()?;
    Ok(report)
}

fn heading(runs: usize) -> anyhow::Result<String> {
    let said = |program: &str, words: &[&str]| -> anyhow::Result<String> {
        let output = Command::new(program).args(words).current_dir(ROOT).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let processors = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    Ok(format!(
        "# Benchmarks\n\nMade by `cargo xtask bench`: {runs} rounds, the lines of each table one after the other in every \
         round (the seed's in every tenth). Times are from before the spawn to after the wait, as a shell script would \
         see them. The seed's workflow asks containerd's `ctr` twice in place of `crictl`, which Debian does not \
         package.\n\n- {} × {}\n- Linux {}\n- commit {}\n",
        model.trim_start_matches(['\t', ' ', ':']),
        std::thread::available_parallelism()?,
        said("uname", &["-r"])?,
        said("git", &["describe", "--always", "--dirty"])?,
    ))
}

fn time(subjects: &[Subject], runs: usize) -> anyhow::Result<Vec<Vec<Duration>>> {
    let mut times = vec![Vec::new(); subjects.len()];
    for round in 0..runs {
        for (subject, times) in subjects.iter().zip(&mut times) {
            if subject.slow && !round.is_multiple_of(10) {
                continue;
            }
            let (program, words) = subject.words.split_first().context("no words")?;
            let mut command = Command::new(program);
            command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
            let since = Instant::now();
            let status = command.status()?;
            times.push(since.elapsed());
            ensure!(status.success(), "{}: {status}", subject.name);
        }
    }
    Ok(times)
}

fn quantile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

fn host_mounts() -> anyhow::Result<usize> {
    Ok(std::fs::read_to_string("/proc/self/mountinfo")?.lines().count())
}
