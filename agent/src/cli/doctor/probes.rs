//! Each configured command once as an observer and once joined, in the same container, and what differs.

use std::fmt;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use serde::Serialize;

use super::scratch::Scratch;
use super::{Check, Verdict};
use crate::app;
use crate::config::{Config, Isolation, Probe, Source};
use crate::containers::lone;
use crate::enter::{Launcher, LauncherOptions, LauncherProcess, Word};
use crate::metrics::AgentMetrics;
use crate::model::{Container, ContainerId, RunRequest, RunResult, Runtime, TriggerName, Way};
use crate::probes::{Pool, Terms};

/// A probe in both isolations.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    pub(super) name: String,
    pub(super) program: String,
    /// What the configuration asks for.
    pub(super) isolation: &'static str,
    pub(super) verdict: Verdict,
    pub(super) observer: Came,
    pub(super) joined: Came,
    pub(super) differences: Vec<String>,
}

/// What came of one run.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Came {
    outcome: String,
    way: Option<Way>,
    lines: usize,
    series: usize,
    milliseconds: f64,
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outcome, lines, series, milliseconds, .. } = self;
        let word = outcome.split(':').next().unwrap_or_default();
        f.pad(&format!("{word}, {lines} lines, {series} series, {milliseconds:.0} ms"))
    }
}

/// Also says which ways in there are.
pub(super) fn compare(source: &Source, config: &Config) -> anyhow::Result<(Vec<Check>, Vec<Compared>)> {
    let start = |isolation, mounted_procfs| {
        let options =
            LauncherOptions { isolation: Some(isolation), mounted_procfs, ..LauncherOptions::default() };
        LauncherProcess::start(source, &options, &[], false)
    };
    // Before there are threads.
    let processes =
        [start(Word::Observer, false)?, start(Word::Joined, false)?, start(Word::Observer, true)?];
    let scratch = Scratch::start()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    runtime.block_on(async {
        let [observer, joined, mounted] = processes;
        let [observer, joined, mounted] =
            [observer.attach(|_| {})?, joined.attach(|_| {})?, mounted.attach(|_| {})?];
        let container = container(&scratch, &joined).await?;
        let mut compared = Vec::new();
        let mut newest = None;
        for probe in config.probes.values() {
            let observed = once(&observer, config, probe, &container).await?;
            newest = newest.or(observed.output.way);
            let joined = once(&joined, config, probe, &container).await?;
            compared.push(judge(probe, &observed, &joined));
        }
        let mut ways = Vec::new();
        if let Some(probe) = config.probes.values().next() {
            let result = once(&mounted, config, probe, &container).await?;
            ways.push(ways_in(newest, &result));
        }
        for launcher in [observer, joined, mounted] {
            launcher.close(std::time::Duration::from_secs(5)).await;
        }
        Ok((ways, compared))
    })
}

fn ways_in(newest: Option<Way>, mounted: &RunResult) -> Check {
    let pidns = newest == Some(Way::ObserverPidns);
    let works = mounted.output.way.is_some();
    let found = match (pidns, works) {
        (true, true) => "observer_pidns, observer_mount, joined",
        (true, false) => "observer_pidns, joined",
        (false, true) => "observer_mount, joined",
        (false, false) => "joined alone",
    };
    Check::new("ways in", if pidns || works { Verdict::Ok } else { Verdict::Fail }, found)
}

async fn container(scratch: &Scratch, launcher: &Launcher) -> anyhow::Result<Arc<Container>> {
    let about = launcher.inspect(scratch.pidfd.as_fd()).await.context("looking at the doctor's container")?;
    let id = ContainerId::new(&"0".repeat(64));
    Ok(Arc::new(lone(id, scratch.pidfd.try_clone()?, &about, Runtime::Unknown, "scratch")))
}

async fn once(
    launcher: &Launcher,
    config: &Config,
    probe: &Probe,
    container: &Arc<Container>,
) -> anyhow::Result<RunResult> {
    let counters = app::pool_counters(&AgentMetrics::new()?);
    let config = Arc::new(ArcSwap::from_pointee(config.clone()));
    let request =
        RunRequest::new(probe.name.clone(), TriggerName::new(TriggerName::CLI), Arc::clone(container));
    Ok(Pool::new(launcher.clone(), config, counters, Box::new(|_| {}), None)
        .run(request, Terms::default())
        .await?)
}

fn judge(probe: &Probe, observer: &RunResult, joined: &RunResult) -> Compared {
    let configured = match probe.isolation {
        Isolation::Observer(_) => observer,
        Isolation::Joined => joined,
    };
    let (observer, joined) = (came(observer), came(joined));
    let differences = differences(&observer, &joined);
    let verdict = match (configured.outcome.is_ok(), differences.is_empty()) {
        // A shipped probe that this host has no tool for.
        _ if probe.missing.is_some() => Verdict::Warn,
        (false, _) => Verdict::Fail,
        (true, true) => Verdict::Ok,
        (true, false) => Verdict::Warn,
    };
    Compared {
        name: probe.name.to_string(),
        program: probe.program.display().to_string(),
        isolation: probe.isolation.as_str(),
        verdict,
        observer,
        joined,
        differences,
    }
}

fn came(result: &RunResult) -> Came {
    Came {
        outcome: result.outcome.to_string(),
        way: result.output.way,
        lines: result.output.stdout.split(|byte| *byte == b'\n').count() - 1,
        series: result.families.iter().map(|family| family.samples.len()).sum(),
        milliseconds: result.output.duration.as_secs_f64() * 1000.0,
    }
}

/// Not the time, and not the texts: two looks at a living system are never equal.
fn differences(observer: &Came, joined: &Came) -> Vec<String> {
    let mut all = Vec::new();
    if observer.outcome != joined.outcome {
        all.push(format!("{} / {}", observer.outcome, joined.outcome));
    }
    for (what, a, b) in [("lines", observer.lines, joined.lines), ("series", observer.series, joined.series)]
    {
        if a != b {
            all.push(format!("{what} {a} / {b}"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let came = |outcome: &str, lines, series| Came {
            outcome: outcome.into(),
            way: Some(Way::Joined),
            lines,
            series,
            milliseconds: 1.0,
        };
        assert_eq!(differences(&came("ok", 2, 1), &came("ok", 2, 1)), [""; 0]);
        assert_eq!(differences(&came("ok", 1, 1), &came("ok", 2, 1)), ["lines 1 / 2"]);
        let failed = came("nonzero: exit status 1", 0, 0);
        assert_eq!(
            differences(&failed, &came("ok", 1, 1)),
            ["nonzero: exit status 1 / ok", "lines 0 / 1", "series 0 / 1"]
        );
        assert_eq!(came("ok", 2, 1).to_string(), "ok, 2 lines, 1 series, 1 ms");
    }
}
