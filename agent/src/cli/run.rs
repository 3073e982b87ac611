//! `parachute run PROBE --container NAME`: what the agent does on a trigger, once, for a person: by the running
//! agent if it has the same configuration, else by itself. With `--explain` it also says how the output was parsed.

mod process;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;

use super::ConfigFile;
use super::ask;
use super::explain;
use super::run_directory::RunDirectory;
use super::survey::{self, Survey};
use crate::app;
use crate::config::{Config, Probe, Source};
use crate::enter::LauncherOptions;
use crate::http::{ByHand, Format, Printed};
use crate::model::{Container, ProbeName, RunRequest, TriggerName};
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
        required_unless_present_any = ["from", "pid"],
        help = "[NS/][POD/]NAME, or the first six or more characters of an id"
    )]
    container: Option<String>,
    /// Run beside this process, whatever it is, in place of a container.
    #[arg(long, value_name = "PID", conflicts_with_all = ["container", "from"])]
    pid: Option<u32>,
    /// What is printed: samples in the text format, everything as JSON, or the command's own output.
    #[arg(short, long, value_name = "FORMAT", default_value = "metrics")]
    output: Format,
    /// For who writes a probe: each line of the output, and what was made of it by which of the probe's metrics.
    #[arg(long, conflicts_with = "output")]
    explain: bool,
    /// Explain an output that is there already, and run nothing: a file, or - for standard input, such as of
    /// `parachute captures save last --to -`.
    #[arg(long, value_name = "FILE", requires = "explain", conflicts_with = "container")]
    from: Option<PathBuf>,
    /// Also run in a container that could take over a process beside it (SYS_PTRACE, SYS_ADMIN, PERFMON).
    #[arg(long)]
    allow_unsafe_joined: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    run_directory: RunDirectory,
}

/// The agent gives a run up before.
const AGENT_WITHIN: Duration = Duration::from_mins(11);

/// Exit status: 0 for `ok`, the command's own for `nonzero`, 1 for any other outcome.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let source = Source::of(args.config.config_file.clone());
    if let Some(path) = &args.from {
        let output = saved(path).with_context(|| format!("reading {}", path.display()))?;
        let stdout = explained(args, &source.load()?, &source, &output)?;
        print(&Printed { stdout, stderr: Vec::new(), status: 0 }).context("writing the result")?;
        return Ok(ExitCode::SUCCESS);
    }
    let format = if args.explain { Format::Raw } else { args.output };
    let by_agent = args.container.as_deref().map(|container| by_agent(args, container, format, &source));
    let mut printed = match by_agent.transpose()?.flatten() {
        Some(printed) => printed,
        None => alone(args, format, &source)?,
    };
    if args.explain {
        printed.stdout = explained(args, &source.load()?, &source, &printed.stdout)?;
        if printed.status != 0 {
            printed.stdout.extend(b"the run did not end well: of such a one nothing is published\n");
        }
    }
    print(&printed).context("writing the result")?;
    Ok(ExitCode::from(printed.status))
}

/// By the running agent, which has found the containers and prepared all already, if it has this very configuration. None
/// if there is none or it cannot do it; then this process does it, and says what is wrong.
fn by_agent(
    args: &Args,
    container: &str,
    format: Format,
    source: &Source,
) -> anyhow::Result<Option<Printed>> {
    let Some(config) = source.digest().filter(|_| !args.allow_unsafe_joined) else { return Ok(None) };
    let ask = serde_json::json!({
        "probe": args.probe,
        "target": Target::parse(container),
        "by_hand": ByHand { config, output: format },
    });
    let answer = ask::post(&args.run_directory.agent(), "/api/v1/run", &ask.to_string(), AGENT_WITHIN);
    match answer? {
        Some((200, body)) => Ok(Some(Printed::read(&body).context("the agent's answer is no run's")?)),
        // It may still run, and is not to be run twice.
        Some((504, body)) => bail!("the agent answers: {}", body.trim()),
        Some(_) | None => Ok(None),
    }
}

fn alone(args: &Args, format: Format, source: &Source) -> anyhow::Result<Printed> {
    let options =
        LauncherOptions { allow_unsafe_joined: args.allow_unsafe_joined, ..LauncherOptions::default() };
    let config = source.load()?;
    let result = survey::with(source, config, &options, async |survey: Survey| {
        let probe = probe(args, &survey.config, source)?;
        let container = match (args.pid, &args.container) {
            (Some(pid), _) => process::by_number(pid, &survey.launcher).await?,
            (None, Some(container)) => find(&survey.registry.containers(), container)?,
            (None, None) => bail!("no container is named; write --container NAME"),
        };
        let request = RunRequest::new(probe.name.clone(), TriggerName::new(TriggerName::CLI), container);
        let counters = app::pool_counters(&survey.metrics);
        let config = Arc::new(ArcSwap::from_pointee(survey.config));
        Ok(Pool::new(survey.launcher, config, counters, Box::new(|_| {}), None)
            .run(request, Terms::default())
            .await?)
    })?;
    Printed::of(&result, format).context("writing the result")
}

fn probe<'c>(args: &Args, config: &'c Config, source: &Source) -> anyhow::Result<&'c Probe> {
    let names = || config.probes.keys().map(ProbeName::as_str).collect::<Vec<_>>().join(", ");
    let probe = config.probes.get(args.probe.as_str());
    Ok(probe.with_context(|| format!("no probe named {} in {source}; there are {}", args.probe, names()))?)
}

fn explained(args: &Args, config: &Config, source: &Source, output: &[u8]) -> anyhow::Result<Vec<u8>> {
    Ok(explain::explain(probe(args, config, source)?, output).into_bytes())
}

/// As much of it as a probe may print.
fn saved(path: &Path) -> std::io::Result<Vec<u8>> {
    const MOST: u64 = 64 << 20;
    let mut output = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(MOST).read_to_end(&mut output)?;
    } else {
        File::open(path)?.take(MOST).read_to_end(&mut output)?;
    }
    Ok(output)
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

fn print(printed: &Printed) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&printed.stdout)?;
    stdout.flush()?;
    std::io::stderr().write_all(&printed.stderr)?;
    Ok(())
}
