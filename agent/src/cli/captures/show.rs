//! `parachute captures show`: a capture for people.

use std::io::{Read as _, Write};
use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use clap_complete::ArgValueCompleter;

use super::list::{since, size};
use super::text::{Visible, visible};
use super::which::{self, Filters};
use super::{faulty, open};
use crate::captures::{Folder, Kind, Record};
use crate::cli::complete;
use crate::cli::storage::Storage;
use crate::model::{Alert, Outcome, RunId, Stream, Way};

/// So much is read at once, in bytes.
const PIECE: usize = 64 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The beginning of its id, or `last`.
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::captures))]
    id: String,
    /// For people, or the record alone as JSON.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    storage: Storage,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = open(&args.storage)?;
    let id = which::one(&folder, &args.id, &args.filters.filter())?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match args.output {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&look(&folder, &id)?)?)?,
        Format::Text => write(&folder, &id, &mut out)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn look(folder: &Folder, id: &RunId) -> anyhow::Result<Record> {
    let found = folder.look(id).map_err(|fault| faulty(folder.path(), id, &fault))?;
    Ok(found.record)
}

/// The record, then what was printed.
pub(super) fn write(folder: &Folder, id: &RunId, out: &mut impl Write) -> anyhow::Result<()> {
    let record = look(folder, id)?;
    out.write_all(about(&record).as_bytes())?;
    for stream in Stream::BOTH {
        print(folder, id, &record, stream, out)?;
    }
    Ok(())
}

/// A line for each thing that is known.
fn about(record: &Record) -> String {
    let place = &record.container;
    let container = [&place.namespace, &place.pod, &place.container]
        .map(String::as_str)
        .into_iter()
        .filter(|name| !name.is_empty())
        .collect::<Vec<_>>()
        .join("/");
    // The outcome `nonzero` says it already.
    let status = record.exit_status.filter(|_| !matches!(record.outcome, Outcome::Nonzero { .. }));
    let status = status.map(|status| format!(", exit status {status}")).unwrap_or_default();
    let cut = if record.truncated { ", output cut" } else { "" };
    let mut lines = vec![
        ("capture", record.id.to_string()),
        ("started", format!("{} ({} ago)", record.started_at, since(&record.started_at))),
        ("outcome", format!("{}{status}{cut}; took {:.3} s", record.outcome, record.duration_seconds)),
        ("probe", record.probe.clone()),
        ("command", record.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")),
        ("isolation", format!("{} {}", record.isolation, record.way.map(Way::as_str).unwrap_or_default())),
        ("trigger", record.trigger.clone()),
    ];
    if let Some(alert) = &record.alert {
        lines.extend(of_alert(alert));
    }
    lines.extend([
        ("node", record.node.clone()),
        ("container", container),
        ("id", place.id.clone()),
        ("runtime", place.runtime.clone()),
        ("image", place.image.clone()),
        ("pod uid", place.pod_uid.clone()),
        ("labels", labels(place.labels.iter())),
    ]);
    let known = lines.iter().filter(|(_, text)| !text.trim().is_empty());
    let lines = known.map(|(name, text)| format!("{name:12}{}\n", visible(text).trim_end()));
    lines.collect::<Vec<_>>().concat()
}

fn of_alert(alert: &Alert) -> Vec<(&'static str, String)> {
    vec![
        ("alert", labels(alert.labels.iter())),
        ("firing", alert.starts_at.clone()),
        ("fingerprint", alert.fingerprint.clone()),
        ("group", alert.group_key.clone()),
    ]
}

fn labels<'a>(labels: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    labels.map(|(name, value)| format!("{name}={}", quoted(value))).collect::<Vec<_>>().join(" ")
}

/// A word that can be told from its neighbours.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("{word:?}") }
}

fn print(
    folder: &Folder,
    id: &RunId,
    record: &Record,
    stream: Stream,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (part, name) = (record.part(stream), stream.as_str());
    let cut = if part.truncated { ", cut" } else { "" };
    if part.bytes == 0 {
        writeln!(out, "\n{name}: nothing")?;
        return Ok(());
    }
    let what = match part.kind {
        Kind::Text => {
            writeln!(out, "\n{name}: {} of text{cut}", size(part.bytes))?;
            return print_text(folder, id, stream, out);
        }
        Kind::Pcap => "pcap",
        Kind::Pcapng => "pcapng",
        Kind::Binary => "binary data",
    };
    writeln!(out, "\n{name}: {} bytes of {what}{cut}; parachute captures save {id}", part.bytes)?;
    Ok(())
}

fn print_text(folder: &Folder, id: &RunId, stream: Stream, out: &mut impl Write) -> anyhow::Result<()> {
    let (_, mut reader) = folder.read(id, stream).map_err(|fault| faulty(folder.path(), id, &fault))?;
    let (mut visible, mut piece, mut seen) = (Visible::default(), vec![0; PIECE], Vec::new());
    let ended = loop {
        match reader.read(&mut piece) {
            Ok(0) => break Ok(()),
            Ok(got) => visible.feed(piece.get(..got).unwrap_or_default(), &mut seen),
            Err(error) => break Err(error),
        }
        out.write_all(&seen)?;
        seen.clear();
    };
    visible.finish(&mut seen);
    out.write_all(&seen)?;
    out.flush()?;
    if let Err(error) = ended {
        bail!(
            "{} of capture {id} in {} is damaged, and not all of it could be shown: {error}",
            stream.as_str(),
            folder.path().display()
        );
    }
    Ok(())
}
