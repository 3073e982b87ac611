//! `parachute agent`: a list of promises, in the order in which they must be kept.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::run_directory::RunDirectory;
use super::storage::Storage;
use super::{ConfigFile, Logging, check_config, logging};
use crate::app::{self, Setup};
use crate::config::Source;
use crate::enter::{self, LauncherOptions, LauncherProcess};
use crate::http::{Access, Bound, ListenAddress};
use crate::metrics::AgentMetrics;
use crate::{detect, privileges};

const NO_REALTIME: &str = "--realtime needs CAP_SYS_NICE or RLIMIT_RTPRIO, in a unit also RestrictRealtime=no, and on a kernel with \
    CONFIG_RT_GROUP_SCHED a cgroup without the cpu controller or with a share of cpu.rt_runtime_us; leave it out, or give what is missing";

#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Only check the configuration: exit status 0 if it is right, 1 if not.
    #[arg(long = "config.check")]
    config_check: bool,
    /// Where to serve: ADDRESS:PORT, :PORT or unix:PATH; may be given several times.
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = "127.0.0.1:10068")]
    listen: Vec<ListenAddress>,
    /// TLS, users and tokens with roles for TCP, in the format of Prometheus' exporters; read anew when it has changed.
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config: Option<PathBuf>,
    /// Over TCP answer nothing but health and readiness without `Authorization: Bearer TOKEN`; the token is the file's
    /// first line, and has all roles.
    #[arg(long = "web.token-file", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Let everybody who can connect over TCP see everything and start runs, on any address. Containers on the host's network
    /// can connect to a loopback address, too.
    #[arg(long = "web.allow-unauthenticated", conflicts_with = "token_file")]
    allow_unauthenticated: bool,
    /// Allow POST /-/reload.
    #[arg(long = "web.enable-lifecycle")]
    enable_lifecycle: bool,
    /// Let observers take the procfs that the container has mounted, after a check, as they must before Linux 6.18.
    #[arg(long = "observer.mounted-procfs")]
    mounted_procfs: bool,
    /// Give agent and launcher real-time priority (SCHED_RR, 1), so that on busy processors too a container is known at once.
    #[arg(long)]
    realtime: bool,
    /// Seconds by which the answer to GET /probe comes before the scrape's own timeout, which Prometheus tells.
    #[arg(long = "probe.timeout-offset", value_name = "SECONDS", default_value = "0.5", value_parser = offset)]
    timeout_offset: Duration,
    #[command(flatten)]
    run_directory: RunDirectory,
    #[command(flatten)]
    storage: Storage,
    #[command(flatten)]
    logging: Logging,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let source = Source::of(args.config.config_file);
    if args.config_check {
        Access::new(args.web_config.as_deref(), args.token_file.as_deref(), args.allow_unauthenticated)?;
        return check_config::check(&source);
    }
    logging::start(&args.logging)?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "the agent needs root, to load an eBPF program and to enter containers: run it with sudo"
    );
    let config = source.load()?;
    // Before there is a second thread, and with all capabilities.
    let log = ["--log.level", &args.logging.level, "--log.format", args.logging.format.as_str()];
    let held = args.run_directory.hold()?;
    let storage = args.storage.hold()?;
    let options = LauncherOptions {
        run_directory: held.as_ref().map(|held| held.folder().to_owned()),
        mounted_procfs: args.mounted_procfs,
        realtime: args.realtime,
        ..LauncherOptions::default()
    };
    let launcher = LauncherProcess::start(&source, &options, &log, true)?;
    ensure!(launcher.digest == config.digest, "{source} changed while it was read; start again");
    if args.realtime {
        enter::go_first().context(NO_REALTIME)?;
    }
    let access =
        Access::new(args.web_config.as_deref(), args.token_file.as_deref(), args.allow_unauthenticated)?;
    access.suits(&args.listen)?;
    raise_open_files();
    // One thread: it only moves bytes. Parsing and rendering go to others, which are made after the privileges are gone.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let ended = runtime.block_on(async {
        let lacks = [launcher.lacks.as_slice(), &detect::lacking()].concat();
        if let Some(reason) = enter::capabilities::stopping(&lacks) {
            bail!("{reason}");
        }
        let hook = detect::attach()?;
        let mut bound = Vec::new();
        let own = held.is_some().then(|| args.run_directory.agent());
        for address in args.listen.iter().chain(&own) {
            bound.push(Bound::new(address).await?);
        }
        privileges::drop_unneeded().context("dropping capabilities")?;
        enter::confine_agent().context("installing the filter of system calls")?;
        for bound in &bound {
            tracing::info!(address = %bound.address()?, "listening");
        }
        let (probes, triggers) = (config.probes.len(), config.triggers.len());
        for about in lacks.iter().map(|capability| capability.about()) {
            tracing::info!(capability = about.name, without = about.without.as_str(), "this kernel lacks something");
        }
        tracing::info!(version = env!("CARGO_PKG_VERSION"), %source, probes, triggers, "parachute agent started");
        let metrics = AgentMetrics::new()?;
        metrics.declare_kernel(&lacks);
        let setup = Setup {
            source,
            config,
            metrics,
            launcher,
            hook,
            bound,
            enable_lifecycle: args.enable_lifecycle,
            access,
            timeout_offset: args.timeout_offset,
            storage: storage.folder.clone(),
        };
        app::run(setup).await?;
        // After the launcher has left, and its socket with it.
        drop((held, storage));
        Ok(ExitCode::SUCCESS)
    });
    // A thread may still wait for a disk that does not answer; nothing that it could bring is wanted any more.
    runtime.shutdown_background();
    ended
}

/// As blackbox_exporter's `--timeout-offset`.
fn offset(text: &str) -> Result<Duration, String> {
    let offset = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    offset
        .filter(|offset| *offset <= Duration::from_mins(1))
        .ok_or("must be seconds from 0 to 60, as in 0.5".to_owned())
}

/// Two descriptors hold a container, so that the usual soft limit of 1,024 ends at some 500. It is there for select(2)
/// (`systemd.exec(5)`), which is not used here. Not for the launcher: its commands would inherit it.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised: some hundred containers may be too many");
    }
}
