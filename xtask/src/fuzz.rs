//! `cargo xtask fuzz`: libFuzzer on the parsers, the store and the encoder, the terminal's filter and what else reads a
//! container's bytes. The targets are in `fuzz/`, a workspace of its own; they are built by the project's own rustc, as
//! the passes that count what an input reaches are in every one. What it learns stays in `target/fuzz/`.

mod seeds;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::progress;

/// What cargo-fuzz gives to rustc, without the address sanitizer: that one finds mistakes of `unsafe` code, needs an
/// unstable flag and halves the speed.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// One target's turn, where all share a time.
const TURN: Duration = Duration::from_mins(1);

/// Most pages that promtool is asked about; it takes some 20 ms for each.
const PAGES: usize = 5_000;

pub(crate) struct Asked {
    pub(crate) target: Option<String>,
    pub(crate) runs: u64,
    pub(crate) minutes: Option<u64>,
    pub(crate) promtool: bool,
}

/// What came of one target.
#[derive(Default)]
struct Tally {
    executions: u64,
    seconds: u64,
    failed: bool,
}

pub(crate) fn run(asked: &Asked) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let programs = build(&root)?;
    let state = root.join("target/fuzz");
    let targets: Vec<String> = seeds::targets(&root.join("fuzz/targets"))?
        .into_iter()
        .filter(|target| asked.target.as_ref().is_none_or(|wanted| wanted == target))
        .collect();
    if targets.is_empty() {
        bail!("there is no such target in fuzz/targets");
    }
    for target in &targets {
        seeds::write(&root, target, &state.join("corpus").join(target))?;
    }
    fs::create_dir_all(state.join("findings"))?;

    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let end = asked.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    loop {
        for target in &targets {
            let bound = match end {
                Some(end) if end <= Instant::now() => break,
                Some(end) => {
                    let turn = TURN.min(end.saturating_duration_since(Instant::now())).as_secs().max(1);
                    format!("-max_total_time={turn}")
                }
                None => format!("-runs={}", asked.runs),
            };
            turn(&programs, &state, target, &bound, tallies.entry(target).or_default())?;
        }
        if end.is_none_or(|end| end <= Instant::now()) {
            break;
        }
    }
    let all: u64 = tallies.values().map(|tally| tally.executions).sum();
    for (target, Tally { executions, seconds, failed }) in &tallies {
        let verdict = if *failed { "FAILED" } else { "ok" };
        println!("{target:<12} {executions:>12} executions in {seconds:>5} s  {verdict}");
    }
    println!("{:<12} {all:>12} executions", "all");
    if asked.promtool {
        for target in &targets {
            pages(&programs, &state, target)?;
        }
    }
    if tallies.values().any(|tally| tally.failed) {
        bail!(
            "the inputs are in {}; give one to the target's program to see it again",
            state.join("findings").display()
        );
    }
    Ok(())
}

/// The folder with the targets' programs.
fn build(root: &Path) -> anyhow::Result<PathBuf> {
    // With a target named, cargo keeps the flags from build scripts, which would not link with them.
    let host = "x86_64-unknown-linux-gnu";
    let mut cargo = progress::cargo();
    cargo.current_dir(root.join("fuzz")).args(["build", "--locked", "--release", "--target", host]);
    cargo.env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", root.join("target/fuzz/build"));
    // No target needs the kernel's half.
    cargo.env("PARACHUTE_SKIP_EBPF", "1");
    progress::openly("building the fuzz targets", &mut cargo)?;
    Ok(root.join("target/fuzz/build").join(host).join("release"))
}

/// Runs one target's program up to a bound of libFuzzer's.
fn turn(programs: &Path, state: &Path, target: &str, bound: &str, tally: &mut Tally) -> anyhow::Result<()> {
    let log = state.join(format!("{target}.log"));
    let mut program = Command::new(programs.join(target));
    program.arg(bound).args(["-print_final_stats=1", "-max_len=4096", "-timeout=20", "-rss_limit_mb=1024"]);
    program.arg(format!("-artifact_prefix={}/{target}-", state.join("findings").display()));
    program.arg(format!("-dict={}", concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/words.dict")));
    program.arg(state.join("corpus").join(target));
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
    let start = Instant::now();
    let status = program.status().with_context(|| progress::starting(&program))?;
    // An input that fails may be printed as it is.
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let executed = said.lines().rev().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let executed: u64 = executed.and_then(|number| number.trim().parse().ok()).unwrap_or(0);
    tally.executions += executed;
    tally.seconds += start.elapsed().as_secs();
    println!("{target}: {executed} executions in {:.0?}, {status}", start.elapsed());
    if !status.success() {
        tally.failed = true;
        let panic: Vec<&str> =
            said.lines().skip_while(|line| !line.contains("panicked at")).take(3).collect();
        println!("{}", panic.join("\n"));
    }
    Ok(())
}

/// Has promtool read the pages of what a target has found worth keeping.
fn pages(programs: &Path, state: &Path, target: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut program = Command::new(programs.join(target));
    program.arg("-runs=0").arg(state.join("corpus").join(target)).env("PARACHUTE_FUZZ_PAGES", folder.path());
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !program.status().with_context(|| progress::starting(&program))?.success() {
        bail!("{target} fails on its own corpus");
    }
    let (mut good, mut linted) = (0, 0);
    for page in fs::read_dir(folder.path())?.take(PAGES) {
        let page = page?.path();
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]).stdin(File::open(&page)?).stdout(Stdio::null());
        let output = promtool.output().with_context(|| progress::starting(&promtool))?;
        match output.status.code() {
            Some(0) => good += 1,
            // Valid, and named or described against the customs: the names come from the input.
            Some(3) => linted += 1,
            _ => bail!(
                "promtool refuses a page of {target}: {}\n{}",
                String::from_utf8_lossy(&output.stderr),
                fs::read_to_string(&page)?
            ),
        }
    }
    println!("{target}: promtool reads all {} pages, {linted} of them with advice", good + linted);
    Ok(())
}
