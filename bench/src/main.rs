//! Every figure of docs/benchmarks.md, measured in one run beside what it is compared with. `cargo xtask bench` starts this
//! program; a section is a file that returns the rows of the table. Nothing is tested here but the figures.

mod alerts;
mod binary;
mod cli;
mod crowded;
mod floor;
mod herd;
mod idle;
mod kernel;
mod mounts;
mod processes;
mod ready;
mod registry;
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
use clap::builder::PossibleValuesParser;
use tokio::signal::unix::{SignalKind, signal};

use self::row::{Figure, Row};

/// A quick run is part of every change's way in.
const QUICK: Duration = Duration::from_mins(3);
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Targets that are known to be missed, and the figure with which that was accepted: a quick run fails where a row is worse than
/// this by more than twice. By hand, so that no row gets worse from one kept table to the next without anybody's saying so.
const MISSED: &[(&str, f64)] = &[
    ("warm run of /bin/true, joined", 1.56),
    ("`parachute exec NAME /usr/bin/true`, against the seed's workflow", 9.7),
    ("`parachute run` of the same as an observer, against the seed's workflow", 12.5),
    ("sustained runs per second (joined)", 0.6),
    ("sustained runs per second (observer)", 0.54),
    ("an alert for 100 containers × 3 probes, to the last sample (joined)", 1.73),
    ("an alert for 100 containers × 3 probes, to the last sample (observer)", 1.87),
    ("from there to its labels, which the runtime alone has, in the same", 1.3),
    ("from there to its labels, which the runtime alone has, in the same (`--realtime`)", 1.1),
];

#[derive(Debug, Parser)]
struct Asked {
    /// Few rounds, under 3 minutes in all; prints the table and writes nothing
    #[arg(long)]
    quick: bool,
    /// Only sections of these names; prints the table and writes nothing
    #[arg(long, value_parser = PossibleValuesParser::new(SECTIONS))]
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

    /// The program of `bench/NAME.c`.
    fn compiled(&self, name: &str, flags: &[&str]) -> anyhow::Result<PathBuf> {
        let (program, source) =
            (self.path(name), Path::new(ROOT).join("bench").join(name).with_extension("c"));
        let mut compiler = Command::new("cc");
        let status = compiler.arg("-O2").args(flags).arg("-o").arg(&program).arg(&source).status()?;
        ensure!(status.success(), "cc cannot compile {}", source.display());
        Ok(program)
    }
}

/// What came of the sections that were asked for.
#[derive(Debug, Default)]
struct Found {
    rows: Vec<Row>,
    /// Whatever speaks against it, each in a line.
    wrong: Vec<String>,
}

/// The sections in the order of the table, each a file with a `measure`. One that fails does not take the others' rows with it.
macro_rules! sections {
    ($($name:ident),+) => {
        const SECTIONS: [&str; [$(stringify!($name)),+].len()] = [$(stringify!($name)),+];

        async fn measure(bench: &Bench, only: &[String]) -> Found {
            let mut found = Found::default();
            $(
                if only.is_empty() || only.iter().any(|name| name == stringify!($name)) {
                    eprint!("measuring {} ...", stringify!($name));
                    let begun = Instant::now();
                    match $name::measure(bench).await {
                        Ok(rows) => found.rows.extend(rows),
                        Err(error) => found.wrong.push(format!("{}: {error:#}", stringify!($name))),
                    }
                    eprintln!(" {} s", begun.elapsed().as_secs());
                }
            )+
            found
        }
    };
}

sections!(runs, cli, sustained, alerts, kernel, starts, scrape, resident, resident_full, idle, binary, ready);

fn main() -> anyhow::Result<ExitCode> {
    // A section that is the agent itself starts launchers, which are this same program (`parachute launcher`).
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "launcher") {
        return parachute::cli::Cli::parse().run();
    }
    let asked = Asked::parse();
    processes::keep_to_two_processors()?;
    mounts::keep_to_ourselves()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        // So that whatever a section has started ends with it; one that does not wait just now ends first.
        let mut term = signal(SignalKind::terminate())?;
        tokio::select! {
            done = all(asked) => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = term.recv() => bail!("terminated"),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn all(asked: Asked) -> anyhow::Result<()> {
    let bench = Bench {
        quick: asked.quick,
        dir: tempfile::Builder::new().prefix("parachute-").tempdir()?,
        parachute: Path::new(ROOT).join("dist/parachute"),
    };
    let path = Path::new(ROOT).join("docs/benchmarks.md");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let is_kept = !asked.quick && asked.only.is_empty();
    let mut report = head(bench.dir.path())?;
    if is_kept && !cli::is_on_path("crictl") {
        eprintln!(
            "no crictl on the path (docs/benchmarks/cli.md says where it is from): what is measured is not kept"
        );
    }
    let begun = Instant::now();
    let Found { rows, mut wrong } = measure(&bench, &asked.only).await;
    eprintln!("{} rows, {} s in all", rows.len(), begun.elapsed().as_secs());
    if asked.quick && begun.elapsed() > QUICK {
        eprintln!(
            "a quick run is to take {} s at most: this one is too slow for that, or the machine",
            QUICK.as_secs()
        );
    }
    for row in &rows {
        writeln!(report, "{}", row.line())?;
    }
    report += FOOT;
    println!("{report}");
    let all_ended = wrong.is_empty();
    wrong.extend(
        rows.iter()
            .filter(|row| row.far_off(missed(&row.what)))
            .map(|row| format!("off by more than twice: {}: {:.2}", row.what, row.value)),
    );
    if asked.only.is_empty() && all_ended {
        wrong.extend(not_measured(&rows, &kept));
    }
    if is_kept {
        if report.contains(&format!("- commit {UNKNOWN}")) {
            wrong.push("git does not say which commit this is".to_owned());
        }
        let had = |what: &str| Row::names(&kept).any(|row| row == what);
        let absent = rows.iter().filter(|row| row.figure == Figure::NotHere && had(&row.what));
        wrong.extend(
            absent
                .map(|row| format!("{}: {}, so that its kept figure would be lost", row.what, row.measured)),
        );
    }
    if !wrong.is_empty() {
        let untouched = if is_kept { "; docs/benchmarks.md is as it was" } else { "" };
        bail!("{}{untouched}", wrong.join("\n"));
    }
    if is_kept {
        std::fs::write(&path, &report).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn missed(what: &str) -> Option<f64> {
    MISSED.iter().find(|(row, _)| *row == what).map(|(_, figure)| *figure)
}

/// What the kept table and the list of what is missed have and these rows, which are all that there are, have not.
fn not_measured(rows: &[Row], kept: &str) -> Vec<String> {
    let is_row = |what: &str| rows.iter().any(|row| row.what == what);
    let kept = Row::names(kept).filter(|what| !is_row(what)).map(|what| {
        format!("not measured: {what}; where that is meant, take its line out of docs/benchmarks.md")
    });
    let missed = MISSED.iter().filter(|(what, _)| !is_row(what));
    kept.chain(missed.map(|(what, _)| format!("not measured, but among what is missed: {what}"))).collect()
}

const FOOT: &str = "
A quick run (`--quick`, in CI) fails where a ratio, a size or a count is off by more than twice: from its target or, where this is known to be \
missed (`MISSED` in bench/src/main.rs), from what it was then. A time is of one machine, and fails nothing that was measured. It fails as well \
where a section does, and where a row of this table is not measured any more.
";

const UNKNOWN: &str = "unknown";

/// The table's beginning: machine, kernel, commit.
fn head(dir: &Path) -> anyhow::Result<String> {
    let said = |program: &str, words: &[&str]| -> String {
        let output = Command::new(program).args(words).current_dir(ROOT).output().ok();
        let output = output.filter(|output| output.status.success());
        output.map_or(UNKNOWN.to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let processors = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(UNKNOWN);
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or(UNKNOWN);
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let kinds: BTreeSet<_> = mounts.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    let cgroups = match (kinds.contains("cgroup"), kinds.contains("cgroup2")) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, _) => "v2",
    };
    Ok(format!(
        "# Benchmarks\n\nMade by `cargo xtask bench`, everything in one run, what is compared interleaved. Ratios are what is \
         compared; times are of this machine on {}. The rows of runs, of first execs and of the eBPF program measure \
         launcher, spawner and hook as a release build for glibc has them; all others are of the shipped program \
         (`dist/parachute`, musl, built for size). In the rows of the release build the agent's part is a thread of the bench, with launcher, \
         queue and registry, and without the filter of system calls and the fewer rights that the program has.\n\n- {}, {} of its {} processors, {} of memory\n- Linux {}, cgroups {cgroups}, {} mounts, {} below {}\n- commit {}\n\n\
         | what | measured | beside | figure | target | holds |\n| --- | --- | --- | --- | --- | --- |\n",
        said("date", &["-u", "+%Y-%m-%d"]),
        model.trim_start_matches(['\t', ' ', ':']),
        std::thread::available_parallelism()?,
        processors.lines().filter(|line| line.starts_with("processor")).count(),
        memory.trim(),
        said("uname", &["-r"]),
        mounts.lines().count(),
        said("stat", &["--file-system", "--format=%T", &dir.display().to_string()]),
        dir.parent().unwrap_or(dir).display(),
        said("git", &["describe", "--always", "--dirty"]),
    ))
}
