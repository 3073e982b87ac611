//! `parachute captures`: what runs have printed, from the folder in which the agent keeps it. With a running agent or
//! without one, and without a change to the folder but by `rm`: what is damaged is said here, and set aside by the agent alone.

mod list;
mod rm;
mod save;
mod show;
#[cfg(test)]
mod tests;
mod text;
mod which;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Subcommand;

pub(super) use self::text::visible;
use super::storage::Storage;
use crate::captures::{Fault, Folder, FolderError};
use crate::model::RunId;

const EXAMPLES: &str = "\
Examples:
  parachute captures list --since 2h --outcome failed
  parachute captures list --namespace shop --alert TcpRetransmits -o wide
  parachute captures show last
  parachute captures save 20261126T030412 --directory /root/incident
  parachute captures save last --probe tcpdump-10s --to - | tshark -r -
  parachute captures rm 20261126T030412.123Z-4f1c9a02

ID is the beginning of a capture's id that no other one has, or `last` for the newest; the filters say of which ones.";

/// List, read, save and remove what runs have printed and the agent has kept.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List captures, the newest first.
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show one: why, where and when it ran, what came of it, and its text with control characters made visible.
    Show(show::Args),
    /// Write what one has printed, byte for byte, and its record to files or to standard output.
    Save(save::Args),
    /// Remove captures, by the running agent where there is one.
    Rm(rm::Args),
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::List(args) => list::run(&args),
        Verb::Show(args) => show::run(&args),
        Verb::Save(args) => save::run(&args),
        Verb::Rm(args) => rm::run(&args),
    }
}

/// The folder, if it can be read and trusted.
fn open(storage: &Storage) -> anyhow::Result<Folder> {
    let path = storage.captures();
    ensure!(
        rustix::process::geteuid().is_root(),
        "the captures in {} are for root alone: run this with sudo",
        path.display()
    );
    let folder = Folder::new(&path);
    match folder.check() {
        Err(FolderError::Look { source, .. }) if source.kind() == io::ErrorKind::NotFound => bail!(
            "there are no captures: there is no folder {}; if the agent has another one, name it by --storage.path",
            path.display()
        ),
        checked => checked?,
    }
    Ok(folder)
}

/// The ids of all, newest first.
fn ids(folder: &Folder) -> anyhow::Result<Vec<RunId>> {
    folder.ids().with_context(|| format!("reading the captures' folder {}", folder.path().display()))
}

/// What is wrong with a capture, and what can be done.
fn faulty(folder: &Path, id: &RunId, fault: &Fault) -> anyhow::Error {
    let help = match fault {
        Fault::Missing => "; `parachute captures list` shows those there are".to_owned(),
        Fault::Corrupt(_) | Fault::Foreign(_) => format!("; to remove it: parachute captures rm {id}"),
        Fault::FutureVersion(_) | Fault::Io(_) => String::new(),
    };
    anyhow!("capture {id} in {}: {fault}{help}", folder.display())
}
