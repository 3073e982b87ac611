//! `parachute man [VERB]`: the man pages, made from the definitions that `--help` is made from.

use std::process::ExitCode;

use anyhow::bail;
use clap::CommandFactory as _;

use super::Cli;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose page is printed, as in `exec` or `captures save`; without it that of parachute itself. To read it: parachute
    /// man exec | man -l -
    verb: Vec<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut program = Cli::command();
    program.build();
    let mut command = program;
    for verb in &args.verb {
        let known = || command.get_subcommands().filter(|one| !one.is_hide_set());
        let Some(found) = known().find(|one| one.get_name() == verb) else {
            let known: Vec<_> = known().map(clap::Command::get_name).collect();
            bail!("no page for {verb}; there are {}", known.join(", "));
        };
        command = found.clone();
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    super::print(&String::from_utf8_lossy(&page))?;
    Ok(ExitCode::SUCCESS)
}
