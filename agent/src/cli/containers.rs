//! `parachute containers`: what the running agent knows, or what a look of its own finds.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::Deserialize;

use super::survey::{self, Survey};
use super::{ConfigFile, ask};
use crate::config::Source;
use crate::enter::LauncherOptions;
use crate::http::{ContainerView, ListenAddress};

/// Where an agent listens unless told otherwise.
const USUAL_AGENT: &str = "127.0.0.1:10068";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A table for people, or all that is known as JSON.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Ask the agent at ADDRESS:PORT or unix:PATH; without this the one at 127.0.0.1:10068, or a look of its own if there
    /// is none.
    #[arg(long, value_name = "ADDRESS")]
    agent: Option<ListenAddress>,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// The JSON that both ways give.
#[derive(Deserialize)]
struct List {
    containers: Vec<Row>,
}

/// The columns of the table.
#[derive(Deserialize)]
struct Row {
    id: String,
    namespace: String,
    pod: String,
    container: String,
    image: String,
    runtime: String,
    pid: u32,
    sandbox: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let usual: ListenAddress = USUAL_AGENT.parse()?;
    let asked = args.agent.is_some();
    let agent = args.agent.unwrap_or(usual);
    let json = match ask::get(&agent, "/api/v1/containers")? {
        Some(answer) => answer,
        // Who names an agent wants to hear what that one knows.
        None if asked => bail!("nobody listens at {agent}; is the agent running?"),
        None => look(&Source::of(args.config.config_file))
            .with_context(|| format!("no agent answers at {agent}, and its own look fails"))?,
    };
    match args.output {
        Format::Json => super::print(&format!("{}\n", json.trim_end()))?,
        Format::Table => super::print(&table(&json)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn look(source: &Source) -> anyhow::Result<String> {
    survey::with(source, &LauncherOptions::default(), async |survey: Survey| {
        let containers = survey.registry.containers();
        let containers: Vec<_> =
            containers.iter().map(|container| ContainerView::from(&**container)).collect();
        Ok(serde_json::to_string_pretty(&serde_json::json!({ "containers": containers }))?)
    })
}

fn table(json: &str) -> anyhow::Result<String> {
    let Ok(List { containers: mut rows }) = serde_json::from_str(json) else {
        bail!("the answer is no list of containers; is it a parachute agent that listens there?")
    };
    rows.sort_by(|a, b| (&a.namespace, &a.pod, &a.container).cmp(&(&b.namespace, &b.pod, &b.container)));
    let head = ["ID", "NAMESPACE", "POD", "CONTAINER", "IMAGE", "RUNTIME", "PID"].map(str::to_owned);
    let lines: Vec<[String; 7]> = std::iter::once(head)
        .chain(rows.into_iter().map(|row| {
            let name = if row.sandbox { "(sandbox)".to_owned() } else { row.container };
            let id = row.id.chars().take(12).collect();
            [id, row.namespace, row.pod, name, row.image, row.runtime, row.pid.to_string()].map(
                |cell: String| {
                    // The runtime's texts are others' choice, and this goes to a terminal.
                    let cell: String = cell.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
                    if cell.is_empty() { "-".to_owned() } else { cell }
                },
            )
        }))
        .collect();
    let mut widths = [0; 7];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    Ok(lines.iter().fold(String::new(), |table, line| {
        let cells: Vec<_> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        table + cells.join("  ").trim_end() + "\n"
    }))
}
