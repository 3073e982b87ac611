//! `parachute doctor`: what this host offers, and whether each configured command gives the same answer in both isolations.
//! The output is made to be pasted into an issue: nothing of any real container is in it.

mod host;
mod kernel;
mod probes;
mod scratch;
mod targets;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use serde::Serialize;

use super::ConfigFile;
use crate::config::{Runtimes, Source};

pub(super) use scratch::{Args as ScratchArgs, run as scratch};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How it is printed.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// It works, but not as well as it could.
    Warn,
    /// Something will not work.
    Fail,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One line.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { name, verdict, found: found.into() }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    host: Vec<Check>,
    /// Everything that the agent could use of a kernel.
    capabilities: Vec<kernel::Tried>,
    /// Absent if the configuration has mistakes, which is a check of its own.
    probes: Vec<probes::Compared>,
}

/// Exit status 1 if anything will not work.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    super::logging::start_plain();
    ensure!(
        rustix::process::geteuid().is_root(),
        "most of what is looked at is for root alone: run this with sudo"
    );
    let source = Source::of(args.config.config_file);
    let kernel = kernel::Kernel::try_all();
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        host: host::checks(&kernel),
        capabilities: kernel.tried(),
        probes: Vec::new(),
    };
    match source.load() {
        Ok(config) => {
            let probes = config.probes.len();
            report.host.push(host::runtimes(&config.runtimes));
            report.host.push(Check::new("configuration", Verdict::Ok, format!("{source}: {probes} probes")));
            report.host.extend(targets::check(&config.targets));
            match probes::compare(&source, &config) {
                Ok((ways, compared)) => {
                    report.host.extend(ways);
                    report.probes = compared;
                }
                Err(error) => report.host.push(Check::new("ways in", Verdict::Fail, format!("{error:#}"))),
            }
        }
        Err(error) => {
            report.host.push(host::runtimes(&Runtimes::Auto));
            report.host.push(Check::new("configuration", Verdict::Fail, error.to_string()));
        }
    }
    let failed = report.host.iter().any(|check| check.verdict == Verdict::Fail)
        || report.probes.iter().any(|probe| probe.verdict == Verdict::Fail);
    print(&report, args.output).context("writing the report")?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(report: &Report, format: Format) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if matches!(format, Format::Json) {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
        return Ok(());
    }
    writeln!(out, "parachute {}", report.version)?;
    for Check { name, verdict, found } in &report.host {
        let found = found.replace('\n', "\n                     ");
        writeln!(out, "{:4}  {name:13}  {found}", verdict.as_str())?;
    }
    if report.probes.is_empty() {
        return Ok(());
    }
    let width = report.probes.iter().map(|probe| probe.name.len()).max().unwrap_or(0).max(5);
    writeln!(out, "\neach probe once in a container of its own, as an observer and joined:")?;
    writeln!(out, "      {:width$}  {:36}  {:36}  difference", "probe", "observer", "joined")?;
    for probe in &report.probes {
        let [observer, joined] = [&probe.observer, &probe.joined].map(ToString::to_string);
        let verdict = probe.verdict.as_str();
        let difference = probe.differences.join("; ");
        writeln!(
            out,
            "{}",
            format!("{verdict:4}  {:width$}  {observer:36}  {joined:36}  {difference}", probe.name)
                .trim_end()
        )?;
    }
    Ok(())
}
