//! `parachute run PROBE --container NAME`: what the agent does on a trigger, once, for a person.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use clap::ValueEnum;

use super::ConfigFile;
use super::survey::{self, Survey};
use crate::app;
use crate::config::Source;
use crate::enter::LauncherOptions;
use crate::http::RunView;
use crate::metrics::encode::{Encoder, label_text};
use crate::model::{Container, Outcome, ProbeName, RunRequest, RunResult, TriggerName};
use crate::probes::{Pool, Terms};
use crate::triggers::{Resolved, Target, resolve};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of a probe in the configuration.
    probe: String,
    // Not a doc comment: rustdoc would take the brackets for links.
    #[arg(
        add = clap_complete::ArgValueCompleter::new(super::complete::containers),
        long,
        value_name = "CONTAINER",
        help = "[NS/][POD/]NAME, or the first six or more characters of an id"
    )]
    container: String,
    /// What is printed: samples in the text format, everything as JSON, or the command's own output.
    #[arg(short, long, value_name = "FORMAT", default_value = "metrics")]
    output: Format,
    /// Also run in a container that could take over a process beside it (SYS_PTRACE, SYS_ADMIN, PERFMON).
    #[arg(long)]
    allow_unsafe_joined: bool,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Metrics,
    Json,
    Raw,
}

/// Exit status: 0 for `ok`, the command's own for `nonzero`, 1 for any other outcome.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let source = Source::of(args.config.config_file);
    let options =
        LauncherOptions { allow_unsafe_joined: args.allow_unsafe_joined, ..LauncherOptions::default() };
    let config = source.load()?;
    let result = survey::with(&source, config, &options, async |survey: Survey| {
        let Some(probe) = survey.config.probes.get(args.probe.as_str()) else {
            let names: Vec<_> = survey.config.probes.keys().map(ProbeName::as_str).collect();
            bail!("no probe named {} in {source}; there are {}", args.probe, names.join(", "));
        };
        let container = find(&survey.registry.containers(), &args.container)?;
        let request = RunRequest::new(probe.name.clone(), TriggerName::new(TriggerName::CLI), container);
        let counters = app::pool_counters(&survey.metrics);
        let config = Arc::new(ArcSwap::from_pointee(survey.config));
        Ok(Pool::new(survey.launcher, config, counters, Box::new(|_| {}), None)
            .run(request, Terms::default())
            .await?)
    })?;
    print(&result, args.output).context("writing the result")?;
    Ok(match &result.outcome {
        Outcome::Ok => ExitCode::SUCCESS,
        Outcome::Nonzero { status } => u8::try_from(*status).map_or(ExitCode::FAILURE, ExitCode::from),
        _ => ExitCode::FAILURE,
    })
}

fn find(live: &[Arc<Container>], wanted: &str) -> anyhow::Result<Arc<Container>> {
    match resolve(live, &Target::parse(wanted)) {
        Resolved::One(container) => Ok(container),
        Resolved::None if live.is_empty() => bail!("no container {wanted}: no container runs here at all"),
        Resolved::None => {
            let named = live.iter().filter(|container| !container.is_sandbox()).count();
            bail!("no container {wanted}; `parachute ps` lists the {named} there are")
        }
        Resolved::Several(all) => {
            let names: Vec<_> = all.iter().map(|container| format!("  {container}")).collect();
            bail!("{wanted} may be one of {}; name one of\n{}", all.len(), names.join("\n"))
        }
    }
}

fn print(result: &RunResult, format: Format) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match format {
        Format::Metrics => stdout.write_all(exposition(result).as_bytes())?,
        Format::Json => writeln!(stdout, "{}", serde_json::to_string_pretty(&RunView::from(result))?)?,
        Format::Raw => stdout.write_all(&result.output.stdout)?,
    }
    stdout.flush()?;
    if !matches!(format, Format::Json) {
        std::io::stderr().write_all(&result.output.stderr)?;
        if !result.outcome.is_ok() {
            eprintln!(
                "parachute: {} in {}: {}",
                result.request.probe, result.request.container, result.outcome
            );
        } else if matches!(format, Format::Metrics) && result.families.is_empty() {
            eprintln!(
                "parachute: {}: ok, and no metrics came of it; -o raw shows what it printed",
                result.request.probe
            );
        }
    }
    Ok(())
}

fn exposition(result: &RunResult) -> String {
    let labels = result.request.container.labels();
    let prefix = label_text(&[
        ("namespace", &labels.namespace),
        ("pod", &labels.pod),
        ("container", &labels.container),
    ]);
    let mut encoder = Encoder::default();
    for family in &result.families {
        encoder.family(&family.name, family.kind, &family.help);
        for sample in &family.samples {
            let labels = sample.labels.iter().map(|(name, value)| (name.as_ref(), value.as_str()));
            encoder.sample(&family.name, sample.suffix, &prefix, labels, sample.value);
        }
    }
    encoder.finish()
}
