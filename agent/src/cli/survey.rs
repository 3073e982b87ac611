//! A look around without a running agent: a launcher, one scan, one list from each runtime. For the verbs that look and
//! leave.

use std::path::PathBuf;
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

/// Looks around for who wants containers and no probes: the configuration says where runtimes are, and no more of it is
/// needed.
pub(super) fn look<T>(
    config_file: Option<PathBuf>,
    then: impl AsyncFnOnce(Survey) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut config = Source::Bare.load()?;
    let named = config_file.is_some();
    match Source::of(config_file) {
        Source::BuiltIn | Source::Bare => {}
        source @ Source::File(_) => match source.load() {
            Ok(loaded) => (config.runtimes, config.targets) = (loaded.runtimes, loaded.targets),
            Err(error) if named => return Err(error.into()),
            // At 3 a.m. a mistake in a file that nobody named must not keep anybody from a container.
            Err(error) => {
                let first = error.to_string();
                let first = first.lines().next().unwrap_or_default();
                super::say(&format!("{first}; going on with the usual runtime sockets"));
            }
        },
    }
    with(&Source::Bare, config, &LauncherOptions::default(), then)
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
    let process = LauncherProcess::start(source, options, &[], false)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let done = runtime.block_on(async {
        let launcher = process.attach(|_| {})?;
        let metrics = AgentMetrics::new()?;
        let registry = Registry::start(Start {
            hook: None,
            launcher: launcher.clone(),
            runtimes: &config.runtimes,
            targets: Arc::clone(&config.targets),
            counters: app::registry_counters(&metrics),
            tell: Arc::new(|_| {}),
        })?;
        if tokio::time::timeout(DESCRIBED_WITHIN, registry.described()).await.is_err() {
            super::say(&format!("a runtime has not answered within {} s", DESCRIBED_WITHIN.as_secs()));
        }
        let done = then(Survey { config, launcher: launcher.clone(), registry, metrics }).await;
        launcher.close(DESCRIBED_WITHIN).await;
        done
    });
    // A thread may still wait for a disk that does not answer.
    runtime.shutdown_background();
    done
}
