//! `parachute captures save`: what a run has printed, byte for byte, in files of one's own or on standard output.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::ValueEnum;
use clap_complete::ArgValueCompleter;
use tempfile::NamedTempFile;

use super::which::{self, Filters};
use super::{faulty, open};
use crate::captures::{Folder, Record};
use crate::cli::storage::Storage;
use crate::cli::{complete, print};
use crate::model::{RunId, Stream};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The beginning of its id, or `last`.
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::captures))]
    id: String,
    /// Write the files PROBE-ID.EXTENSION, PROBE-ID.stderr.EXTENSION and PROBE-ID.record.json into this folder.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Write one stream alone to this file; - is standard output.
    #[arg(long, value_name = "FILE", conflicts_with = "directory")]
    to: Option<PathBuf>,
    /// Which one --to writes.
    #[arg(long, value_name = "STREAM", default_value = "stdout", requires = "to")]
    stream: Name,
    /// Replace files that are there already.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    storage: Storage,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    Stdout,
    Stderr,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = open(&args.storage)?;
    let id = which::one(&folder, &args.id, &args.filters.filter())?;
    let stream = match args.stream {
        Name::Stdout => Stream::Stdout,
        Name::Stderr => Stream::Stderr,
    };
    let saved = match &args.to {
        Some(path) if path.as_os_str() == "-" => {
            ensure!(
                !io::stdout().is_terminal(),
                "what a container has printed is not sent to a terminal as it is: \
                 pipe it, or see it by parachute captures show {id}"
            );
            let mut out = io::stdout().lock();
            copy(&folder, &id, stream, &mut out)?;
            out.flush()?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(path) => one_file(&folder, &id, stream, path, args.force)?,
        None => files(&folder, &id, &args.directory, args.force)?,
    };
    let lines: Vec<String> = saved.iter().map(|path| format!("{}\n", path.display())).collect();
    print(&lines.concat())?;
    Ok(ExitCode::SUCCESS)
}

fn one_file(
    folder: &Folder,
    id: &RunId,
    stream: Stream,
    path: &Path,
    force: bool,
) -> anyhow::Result<Vec<PathBuf>> {
    free(path, force)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary(parent)?;
    copy(folder, id, stream, &mut file)?;
    place(vec![(file, path.to_owned())], force)
}

/// All of it, or nothing.
pub(super) fn files(folder: &Folder, id: &RunId, into: &Path, force: bool) -> anyhow::Result<Vec<PathBuf>> {
    let record = folder.look(id).map_err(|fault| faulty(folder.path(), id, &fault))?.record;
    let streams = Stream::BOTH.map(|stream| (stream, into.join(record.file_name(stream))));
    let of_record = into.join(record_name(&record));
    for path in streams.iter().map(|(_, path)| path).chain([&of_record]) {
        free(path, force)?;
    }
    let mut ready = Vec::new();
    for (stream, path) in streams {
        let mut file = temporary(into)?;
        copy(folder, id, stream, &mut file)?;
        ready.push((file, path));
    }
    let mut file = temporary(into)?;
    writeln!(file, "{}", serde_json::to_string_pretty(&record)?)
        .with_context(|| format!("writing into {}", into.display()))?;
    ready.push((file, of_record));
    place(ready, force)
}

/// Beside the output's name.
fn record_name(record: &Record) -> String {
    let output = record.file_name(Stream::Stdout);
    let end = record.part(Stream::Stdout).kind.extension();
    format!("{}record.json", output.strip_suffix(end).unwrap_or(&output))
}

/// Whether the name may be used; that is made sure of at the end, and is known sooner by this.
fn free(path: &Path, force: bool) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => bail!("{} is a folder; name another place", path.display()),
        Ok(_) if !force => {
            bail!("{} is there already; --force replaces it, --directory names another place", path.display())
        }
        _ => Ok(()),
    }
}

/// With mode 0600, and gone if it is not moved to its place.
fn temporary(into: &Path) -> anyhow::Result<NamedTempFile> {
    NamedTempFile::new_in(into).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return anyhow!("there is no folder {}", into.display());
        }
        anyhow!("a file in {} cannot be made: {}; name another folder", into.display(), cause(&error))
    })
}

/// What the system said: tempfile adds the name of a file that nobody has heard of.
fn cause(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.kind().to_string(), |number| io::Error::from_raw_os_error(number).to_string())
}

fn copy(folder: &Folder, id: &RunId, stream: Stream, to: &mut impl io::Write) -> anyhow::Result<()> {
    let (_, mut reader) = folder.read(id, stream).map_err(|fault| faulty(folder.path(), id, &fault))?;
    io::copy(&mut reader, to)
        .map(drop)
        .with_context(|| format!("saving {} of capture {id} in {}", stream.as_str(), folder.path().display()))
}

/// Moves all to their places; where one cannot be, those before it go again.
fn place(ready: Vec<(NamedTempFile, PathBuf)>, force: bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut placed = Vec::new();
    for (file, path) in ready {
        let synced = file.as_file().sync_all();
        let moved = synced.and_then(|()| {
            let moved = if force { file.persist(&path) } else { file.persist_noclobber(&path) };
            moved.map_err(|error| error.error)
        });
        if let Err(error) = moved {
            // What --force has replaced cannot be brought back: better half of it than nothing.
            if !force {
                for path in &placed {
                    let _ = fs::remove_file(path);
                }
            }
            return Err(error).with_context(|| format!("writing {}", path.display()));
        }
        placed.push(path);
    }
    Ok(placed)
}
