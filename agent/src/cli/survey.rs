//! A look around without a running agent: a launcher, one scan, one list from each runtime. For the verbs that look and
//! leave.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::app;
use crate::config::{Config, Source};
use crate::containers::{Registry, Start};
use crate::enter::{Launcher, LauncherOptions, LauncherProcess};
use crate::metrics::AgentMetrics;

/// A runtime that has not answered by then leaves its containers without names.
const DESCRIBED_WITHIN: Duration = Duration::from_secs(5);

/// What a look around found, and what is needed to run something there.
pub(super) struct Survey {
    pub(super) config: Config,
    pub(super) launcher: Launcher,
    pub(super) registry: Registry,
    pub(super) metrics: AgentMetrics,
}

/// Looks around, then does `then` with what was found.
pub(super) fn with<T>(
    source: &Source,
    config: Config,
    options: &LauncherOptions,
    then: impl AsyncFnOnce(Survey) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    super::logging::start_plain();
    ensure!(
        rustix::process::geteuid().is_root(),
        "looking into containers is for root alone: run this with sudo"
    );
    let process = LauncherProcess::start(source, options, &[])?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    runtime.block_on(async {
        let launcher = process.attach()?;
        let metrics = AgentMetrics::new()?;
        let registry = Registry::start(Start {
            hook: None,
            launcher: launcher.clone(),
            runtimes: &config.runtimes,
            counters: app::registry_counters(&metrics),
            tell: Arc::new(|_| {}),
        })?;
        if tokio::time::timeout(DESCRIBED_WITHIN, registry.described()).await.is_err() {
            eprintln!("parachute: a runtime has not answered within {} s", DESCRIBED_WITHIN.as_secs());
        }
        let done = then(Survey { config, launcher: launcher.clone(), registry, metrics }).await;
        launcher.close(DESCRIBED_WITHIN).await;
        done
    })
}
