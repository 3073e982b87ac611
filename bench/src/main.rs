//! Every figure of docs/benchmarks.md, measured in one run beside what it is compared with. `cargo xtask bench` starts this
//! program; a section is a file that returns the rows of the table. Nothing is tested here but the figures.

mod alerts;
mod binary;
mod cli;
mod crowded;
mod herd;
mod idle;
mod kernel;
mod mounts;
mod processes;
mod ready;
mod resident;
mod resident_full;
mod row;
mod runs;
mod scrape;
mod starts;
mod sustained;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;

use self::row::Row;

/// A quick run is part of every change's way in.
const QUICK: Duration = Duration::from_mins(3);
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[derive(Debug, Parser)]
struct Asked {
    /// Few rounds, under 3 minutes in all; prints the table and writes nothing
    #[arg(long)]
    quick: bool,
    /// Only sections of these names; prints the table and writes nothing
    #[arg(long)]
    only: Vec<String>,
}

/// What every section is given.
#[derive(Debug)]
pub(crate) struct Bench {
    pub quick: bool,
    /// For the sections' files; it goes at the end.
    pub dir: tempfile::TempDir,
    /// The agent's program as it is shipped, which `cargo xtask dist` has made.
    pub parachute: PathBuf,
}

impl Bench {
    /// How often something is done: so often in a full run, and a tenth of it in a quick one.
    pub(crate) fn rounds(&self, full: usize) -> usize {
        if self.quick { (full / 10).max(1) } else { full }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn main() -> anyhow::Result<ExitCode> {
    // A section that is the agent itself starts launchers, which are this same program (`parachute launcher`).
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "launcher") {
        return parachute::cli::Cli::parse().run();
    }
    let asked = Asked::parse();
    mounts::keep_to_ourselves()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(all(asked)).map(|()| ExitCode::SUCCESS)
}

async fn all(asked: Asked) -> anyhow::Result<()> {
    let bench = Bench {
        quick: asked.quick,
        dir: tempfile::Builder::new().prefix("parachute-").tempdir()?,
        parachute: Path::new(ROOT).join("dist/parachute"),
    };
    let begun = Instant::now();
    let mut rows: Vec<Row> = Vec::new();
    // One line for each section, in the order of the table.
    macro_rules! section {
        ($name:ident) => {
            if asked.only.is_empty() || asked.only.iter().any(|name| name == stringify!($name)) {
                eprint!("measuring {} ...", stringify!($name));
                let begun = Instant::now();
                rows.extend($name::measure(&bench).await.context(stringify!($name))?);
                eprintln!(" {} s", begun.elapsed().as_secs());
            }
        };
    }
    section!(runs);
    section!(cli);
    section!(sustained);
    section!(alerts);
    section!(kernel);
    section!(starts);
    section!(scrape);
    section!(resident);
    section!(resident_full);
    section!(idle);
    section!(binary);
    section!(ready);
    ensure!(!rows.is_empty(), "no section is called {}", asked.only.join(" or "));
    eprintln!("{} rows, {} s in all", rows.len(), begun.elapsed().as_secs());
    if asked.quick && begun.elapsed() > QUICK {
        eprintln!(
            "a quick run is to take {} s at most: this one is too slow for that, or the machine",
            QUICK.as_secs()
        );
    }
    let path = Path::new(ROOT).join("docs/benchmarks.md");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let report = report(&rows, bench.dir.path())?;
    println!("{report}");
    if !asked.quick && asked.only.is_empty() {
        std::fs::write(&path, &report).with_context(|| path.display().to_string())?;
    }
    let far = rows.iter().filter(|row| row.far_off(Row::kept(&row.what, &kept)));
    let far: Vec<_> = far.map(|row| row.what.as_str()).collect();
    if far.is_empty() { Ok(()) } else { bail!("off by more than twice: {}", far.join("; ")) }
}

fn report(rows: &[Row], dir: &Path) -> anyhow::Result<String> {
    let said = |program: &str, words: &[&str]| -> anyhow::Result<String> {
        let output = Command::new(program).args(words).current_dir(ROOT).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let processors = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or("unknown");
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let kinds: BTreeSet<_> = mounts.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    let cgroups = match (kinds.contains("cgroup"), kinds.contains("cgroup2")) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, _) => "v2",
    };
    let mut text = format!(
        "# Benchmarks\n\nMade by `cargo xtask bench`, everything in one run, what is compared interleaved. Ratios are what is \
         compared; times are of this machine on {}. The rows of runs, of first execs and of the eBPF program measure \
         launcher, spawner and hook as a release build for glibc has them; all others are of the shipped program \
         (`dist/parachute`, musl, built for size).\n\n- {} × {}, {} of memory\n- Linux {}, cgroups {cgroups}, {} mounts, {} below {}\n- commit {}\n\n\
         | what | measured | beside | figure | target | holds |\n| --- | --- | --- | --- | --- | --- |\n",
        said("date", &["-u", "+%Y-%m-%d"])?,
        model.trim_start_matches(['\t', ' ', ':']),
        std::thread::available_parallelism()?,
        memory.trim(),
        said("uname", &["-r"])?,
        mounts.lines().count(),
        said("stat", &["--file-system", "--format=%T", &dir.display().to_string()])?,
        dir.parent().unwrap_or(dir).display(),
        said("git", &["describe", "--always", "--dirty"])?,
    );
    for row in rows {
        writeln!(text, "{}", row.line())?;
    }
    text += "\nA quick run (`--quick`, in CI) fails where a ratio, a size or a count is off by more than twice: from its target or, where \
             this table says that it is missed, from what it says. A time is of one machine, and fails nothing that was measured.\n";
    Ok(text)
}
