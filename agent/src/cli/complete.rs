//! `parachute completions SHELL`, and what a shell is told when a person presses Tab: it asks this program, and this
//! program asks the running agent, so that containers' names are those of this moment. Whatever goes wrong, nothing is said:
//! somebody is typing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, CompletionCandidate};

use super::run_directory::RunDirectory;
use super::storage::Storage;
use super::{Cli, Verb, ask, rows};
use crate::captures::Folder;

/// Longer than this nobody waits after a Tab.
const WITHIN: Duration = Duration::from_secs(1);
/// The variable by which the script in a shell says that it asks.
const VARIABLE: &str = "COMPLETE";
/// Set by the scripts of bash and zsh: which word the cursor is in. fish leaves out what is behind it.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";
/// More are no help to anybody.
const MAX_COMMANDS: usize = 500;
/// Of captures' ids, the newest.
const MAX_IDS: usize = 100;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose script is printed; for bash: source <(parachute completions bash).
    shell: Shell,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let name = match args.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let shell = shells.completer(name).context("this shell is not known")?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "parachute", "parachute", "parachute", &mut script)?;
    super::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Answers and ends the process if it is a shell that asks. To be called first.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// For CONTAINER: the names that the running agent knows.
pub(super) fn containers(typed: &OsStr) -> Vec<CompletionCandidate> {
    let agent = RunDirectory::from_environment().agent();
    let Ok(Some(answer)) = ask::get_within(&agent, "/api/v1/containers", WITHIN) else { return Vec::new() };
    let Ok(rows) = rows::parse(&answer) else { return Vec::new() };
    let rows: Vec<_> = rows.into_iter().filter(|row| !row.sandbox).collect();
    let alone = |name: &str| rows.iter().filter(|row| row.container == name).count() == 1;
    let mut names: Vec<String> = rows
        .iter()
        // The short name where it means one alone; the whole one always works.
        .flat_map(|row| [alone(&row.container).then(|| row.container.clone()), Some(row.name())])
        .flatten()
        .filter(|name| name.as_bytes().starts_with(typed.as_bytes()) && !name.chars().any(char::is_control))
        .collect();
    names.sort();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// For ID: the captures' ids, the newest first, and `last`.
pub(super) fn captures(typed: &OsStr) -> Vec<CompletionCandidate> {
    let folder = Folder::new(&Storage::from_environment().captures());
    let ids = folder.check().ok().and_then(|()| folder.ids().ok()).unwrap_or_default();
    let last = (!ids.is_empty()).then(|| "last".to_owned());
    last.into_iter()
        .chain(ids.iter().map(ToString::to_string))
        .filter(|id| id.as_bytes().starts_with(typed.as_bytes()))
        .take(MAX_IDS)
        // In this order: a shell sorts by itself what it shows.
        .enumerate()
        .map(|(place, id)| CompletionCandidate::new(id).display_order(Some(place)))
        .collect()
}

/// For the words of exec: first a container, then a command of this host.
pub(super) fn words(typed: &OsStr) -> Vec<CompletionCandidate> {
    let line: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let at = std::env::var(INDEX).ok().and_then(|index| index.parse().ok());
    let before = line.get(..at.unwrap_or(line.len().saturating_sub(1))).unwrap_or_default();
    match Cli::try_parse_from(before).map(|cli| cli.verb) {
        Ok(Verb::Exec(args)) if args.wants_container() => containers(typed),
        Ok(Verb::Exec(args)) if args.wants_command() => commands(typed),
        _ => Vec::new(),
    }
}

fn commands(typed: &OsStr) -> Vec<CompletionCandidate> {
    let is_executable = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut names: Vec<OsString> = std::env::split_paths(&path)
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .filter(|entry| {
            entry.file_name().as_bytes().starts_with(typed.as_bytes()) && is_executable(&entry.path())
        })
        .map(|entry| entry.file_name())
        .collect();
    names.sort();
    names.dedup();
    names.into_iter().take(MAX_COMMANDS).map(CompletionCandidate::new).collect()
}
