//! `parachute captures rm`: by the running agent, whose list of captures it then leaves as well; without one, by itself.

use std::process::ExitCode;

use anyhow::Context as _;
use clap_complete::ArgValueCompleter;

use super::{faulty, open, which};
use crate::captures::{Fault, Filter, Folder};
use crate::cli::run_directory::RunDirectory;
use crate::cli::storage::Storage;
use crate::cli::{ask, complete, say, told};
use crate::http::ListenAddress;
use crate::model::RunId;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The beginnings of their ids, or `last`.
    #[arg(value_name = "ID", required = true, add = ArgValueCompleter::new(complete::captures))]
    ids: Vec<String>,
    #[command(flatten)]
    run_directory: RunDirectory,
    #[command(flatten)]
    storage: Storage,
}

/// Exit status 1 if one of them was not there or could not be removed; the others go all the same.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = open(&args.storage)?;
    let agent = args.run_directory.agent();
    let mut failed = false;
    // All are found before the first one goes: `last` is the last of those that the person has seen.
    let mut found = Vec::new();
    for wanted in &args.ids {
        match which::one(&folder, wanted, &Filter::default()) {
            Ok(id) if found.contains(&id) => {}
            Ok(id) => found.push(id),
            Err(error) => {
                say(&told(&error));
                failed = true;
            }
        }
    }
    for id in found {
        if let Err(error) = remove(&folder, &agent, &id) {
            say(&told(&error));
            failed = true;
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub(super) fn remove(folder: &Folder, agent: &ListenAddress, id: &RunId) -> anyhow::Result<()> {
    let shown = folder.path().display();
    match ask::delete(agent, &format!("/api/v1/captures/{id}")) {
        Ok(Some(true)) => return Ok(()),
        // An agent that does not know it has another folder.
        Ok(Some(false) | None) => {}
        Err(error) => {
            return Err(error.context(format!(
                "capture {id} in {shown} is not removed; try again, or stop the agent first"
            )));
        }
    }
    match folder.remove(id) {
        Ok(true) => Ok(()),
        Ok(false) => Err(faulty(folder.path(), id, &Fault::Missing)),
        Err(error) => Err(error).with_context(|| format!("removing capture {id} in {shown}")),
    }
}
