//! `parachute launcher`: started by the agent with its end of the socket as standard input.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use nix::sys::signal::SigSet;
use rustix::process::DumpableBehavior;

use super::{LogFormat, Logging, logging};
use crate::config::Source;
use crate::enter::{self, LauncherOptions};

#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct Args {
    /// Be the keeper of launchers with these arguments instead.
    #[arg(long)]
    keep: bool,
    #[arg(long = "config.file")]
    config_file: Option<PathBuf>,
    #[arg(long)]
    bare: bool,
    #[arg(long)]
    allow_unsafe_joined: bool,
    #[arg(long)]
    run_directory: Option<PathBuf>,
    #[arg(long)]
    mounted_procfs: bool,
    #[arg(long)]
    realtime: bool,
    #[arg(long)]
    isolation: Option<enter::Word>,
    /// Without it: warnings only, as plain lines.
    #[arg(long = "log.level")]
    log_level: Option<String>,
    #[arg(long = "log.format", default_value = "logfmt")]
    log_format: LogFormat,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.log_level {
        Some(level) => logging::start(&Logging { level, format: args.log_format })?,
        None => logging::start_plain(),
    }
    // Everything below 4 is taken, so that no pipe of a run gets a number that a command's standard streams need.
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)
        .context("standard input is not the agent's socket; this verb is not for people")?;
    let null = std::fs::File::open("/dev/null").context("/dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("replacing standard input")?;
    let name = if args.keep { c"parachute-keep" } else { c"parachute-launc" };
    rustix::thread::set_name(name).context("naming the process")?;
    // The end of the agent is told by the socket. A signal to the whole group or service (Ctrl-C, systemd's stop) must
    // not end the launcher before it has ended its runs; the stub unblocks signals for commands.
    let _ = rustix::process::setsid();
    SigSet::all().thread_block().context("blocking signals")?;
    // What it has read of the configuration is nobody else's. Everything that it starts inherits the limit.
    agent_stub::forbid_core().map_err(std::io::Error::from_raw_os_error).context("forbidding core dumps")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).context("forbidding core dumps")?;
    if args.keep {
        let rest: Vec<_> = std::env::args_os().skip(2).filter(|word| word != "--keep").collect();
        enter::keep(&socket, &rest).context("the keeper ended early")?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = LauncherOptions {
        allow_unsafe_joined: args.allow_unsafe_joined,
        run_directory: args.run_directory,
        mounted_procfs: args.mounted_procfs,
        realtime: args.realtime,
        isolation: args.isolation,
    };
    let without = if args.bare { Source::Bare } else { Source::BuiltIn };
    let source = args.config_file.map_or(without, Source::File);
    enter::serve(&socket, source, options).context("the launcher ended early")?;
    Ok(ExitCode::SUCCESS)
}
