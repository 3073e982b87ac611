//! `parachute ps`: what the running agent knows, or what a look of its own finds.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use super::run_directory::RunDirectory;
use super::survey::{self, Survey};
use super::{ConfigFile, ask, rows};
use crate::http::{ContainerView, ListenAddress};

/// Where an agent listens besides its run directory, unless told otherwise.
const USUAL_AGENT: &str = "127.0.0.1:10068";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A table, one with everything, all that is known as JSON, or names that exec takes.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Show the pods' sandboxes, too; JSON always has them.
    #[arg(short, long)]
    all: bool,
    /// Ask the agent at ADDRESS:PORT or unix:PATH; without this the one of the run directory, then the one at
    /// 127.0.0.1:10068, or a look of its own if there is none.
    #[arg(long, value_name = "ADDRESS")]
    agent: Option<ListenAddress>,
    #[command(flatten)]
    run_directory: RunDirectory,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Wide,
    Json,
    Name,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let json = list(args)?;
    if matches!(args.output, Format::Json) {
        super::print(&format!("{}\n", json.trim_end()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = rows::parse(&json)?;
    rows.retain(|row| args.all || !row.sandbox);
    let text = match args.output {
        Format::Name => {
            let mut names: Vec<_> = rows.iter().map(|row| rows::shown(&row.name()) + "\n").collect();
            names.sort();
            names.concat()
        }
        format => rows::table(rows, matches!(format, Format::Wide)),
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn list(args: &Args) -> anyhow::Result<String> {
    let path = "/api/v1/containers";
    if let Some(agent) = &args.agent {
        // Who names an agent wants to hear what that one knows.
        return match ask::get(agent, path)? {
            Some(answer) => Ok(answer),
            None => bail!("nobody listens at {agent}; is the agent running?"),
        };
    }
    let usual: ListenAddress = USUAL_AGENT.parse()?;
    for agent in [&args.run_directory.agent(), &usual] {
        match ask::get(agent, path) {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            // Not everybody may open root's socket, and something else may listen there.
            Err(error) => super::say(&super::told(&error)),
        }
    }
    survey::look(args.config.config_file.clone(), async |survey: Survey| {
        let containers = survey.registry.containers();
        let containers: Vec<_> =
            containers.iter().map(|container| ContainerView::from(&**container)).collect();
        Ok(serde_json::to_string_pretty(&serde_json::json!({ "containers": containers }))?)
    })
    .with_context(|| {
        format!(
            "no agent gives its list at {} or {usual}, and its own look fails",
            args.run_directory.agent()
        )
    })
}
