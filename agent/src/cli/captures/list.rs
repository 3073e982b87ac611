//! `parachute captures list`: one line for each.

use std::process::ExitCode;
use std::time::SystemTime;

use bytesize::ByteSize;
use clap::ValueEnum;

use super::which::{self, Filters};
use crate::captures::Summary;
use crate::cli::rows::{age, aligned, shown};
use crate::cli::storage::Storage;
use crate::cli::{print, say};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A table, one with everything, all that is known as JSON, or ids that the other verbs take.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// List at most so many, the newest; 0 for all.
    #[arg(long, value_name = "NUMBER", default_value_t = crate::captures::USUAL_LIMIT)]
    limit: usize,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    storage: Storage,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Wide,
    Json,
    Name,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = super::open(&args.storage)?;
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let chosen = which::choose(&folder, &args.filters.filter(), limit)?;
    let captures = chosen.captures;
    let text = match args.output {
        Format::Table => table(&captures),
        Format::Wide => wide(&captures),
        Format::Json => serde_json::to_string_pretty(&serde_json::json!({ "captures": captures }))? + "\n",
        Format::Name => captures.iter().flat_map(|capture| [capture.id.as_str(), "\n"]).collect(),
    };
    print(&text)?;
    if chosen.more {
        say(&format!("only the newest {limit} are shown; --limit 0 shows all"));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn table(captures: &[Summary]) -> String {
    let head = ["ID", "AGE", "NAMESPACE", "POD", "CONTAINER", "PROBE", "ALERT/TRIGGER", "OUTCOME", "SIZE"];
    lines(&head, captures, |capture| {
        vec![
            capture.id.to_string(),
            since(&capture.started_at),
            capture.namespace.to_string(),
            capture.pod.to_string(),
            capture.container.to_string(),
            capture.probe.to_string(),
            capture.alert.as_ref().unwrap_or(&capture.trigger).to_string(),
            capture.outcome.to_owned(),
            size(capture.stdout_bytes + capture.stderr_bytes),
        ]
    })
}

fn wide(captures: &[Summary]) -> String {
    let head = [
        "ID",
        "AGE",
        "NAMESPACE",
        "POD",
        "CONTAINER",
        "PROBE",
        "ALERT",
        "TRIGGER",
        "OUTCOME",
        "SIZE",
        "STARTED",
        "SECONDS",
        "STDOUT",
        "STDERR",
        "ON DISK",
    ];
    lines(&head, captures, |capture| {
        vec![
            capture.id.to_string(),
            since(&capture.started_at),
            capture.namespace.to_string(),
            capture.pod.to_string(),
            capture.container.to_string(),
            capture.probe.to_string(),
            capture.alert.as_deref().unwrap_or_default().to_owned(),
            capture.trigger.to_string(),
            capture.outcome.to_owned(),
            size(capture.stdout_bytes + capture.stderr_bytes),
            capture.started_at.clone(),
            format!("{:.3}", capture.duration_seconds),
            capture.stdout_bytes.to_string(),
            capture.stderr_bytes.to_string(),
            capture.disk_bytes.to_string(),
        ]
    })
}

fn lines(head: &[&str], captures: &[Summary], cells: impl Fn(&Summary) -> Vec<String>) -> String {
    let mut lines = vec![head.iter().map(|&name| name.to_owned()).collect()];
    lines.extend(captures.iter().map(|capture| cells(capture).iter().map(|cell| shown(cell)).collect()));
    aligned(&lines)
}

pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// How long ago; a moment to come, by another clock, is now.
pub(super) fn since(started_at: &str) -> String {
    let started = humantime::parse_rfc3339(started_at).unwrap_or(SystemTime::UNIX_EPOCH);
    age(SystemTime::now().duration_since(started).unwrap_or_default())
}
