//! `parachute exec --all`: the same command in every container that is meant.

use anyhow::{Context as _, ensure};

use super::What;
use super::args::{Args, Format};
use super::target::{self, Selector, Where};
use crate::cli::rows;
use crate::enter::session::{Session, Stdio, Stream};
use crate::exec::many::{self, Start};
use crate::exec::relay::Signals;
use crate::exec::report::{Label, Report, Style};

/// 0 if every command ended with 0, else 1.
pub(super) fn run(args: &Args, what: &What, place: &Where<'_>) -> anyhow::Result<u8> {
    let selector = args.selector.as_deref().map(Selector::parse).transpose()?.unwrap_or_default();
    let found = target::all(&selector, place)?;
    ensure!(!found.is_empty(), "every container that matched has just gone");
    let label = |found: &target::Found| Label {
        namespace: found.row.namespace.clone(),
        pod: found.row.pod.clone(),
        container: found.row.container.clone(),
        id: found.row.id.clone(),
        name: rows::shown(&found.row.name()),
    };
    let style = match args.output {
        Some(Format::Json) => Style::Json,
        _ => Style::Lines,
    };
    let command = what.argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut report =
        Report::new(style, command, found.iter().map(label).collect()).context("preparing the output")?;
    let jobs = found
        .into_iter()
        .map(|found| {
            let start = || {
                let stdio = Stdio::Streams([Stream::Null, Stream::Relayed, Stream::Relayed]);
                Session::start(what.plan(args, found, stdio, None))
            };
            Box::new(start) as Start<'_>
        })
        .collect();
    let signals = Signals::block().context("taking signals")?;
    Ok(u8::from(!many::run(jobs, &signals, &mut report)))
}
