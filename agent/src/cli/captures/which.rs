//! Which captures are meant: the filters, and the one that an ID on the command line names.

use std::time::SystemTime;

use anyhow::{bail, ensure};
use clap::builder::PossibleValuesParser;

use super::{faulty, ids};
use crate::captures::{Fault, Filter, Folder, Index, Summary, moment};
use crate::cli::say;
use crate::model::RunId;

/// The newest one.
pub(super) const LAST: &str = "last";
/// So many damaged ones are told of one by one, and so many ids where several are meant.
const TOLD: usize = 5;

/// What is not said fits all.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Filters {
    /// Of containers in this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Of containers in this pod.
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// Of containers of this name.
    #[arg(long, value_name = "CONTAINER")]
    container: Option<String>,
    /// Of this probe's runs.
    #[arg(long, value_name = "PROBE")]
    probe: Option<String>,
    /// Of runs that an alert of this name asked for.
    #[arg(long, value_name = "ALERTNAME")]
    alert: Option<String>,
    /// Of this trigger's runs.
    #[arg(long, value_name = "TRIGGER")]
    trigger: Option<String>,
    /// Of runs that came to this; `failed` is all but `ok`.
    #[arg(long, value_name = "OUTCOME", value_parser = PossibleValuesParser::new(Filter::outcomes()))]
    outcome: Option<String>,
    /// Started then or later: a moment such as 2026-11-26T03:00:00Z, or how long ago, such as 2h.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<SystemTime>,
    /// Started then or earlier.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<SystemTime>,
}

impl Filters {
    pub(super) fn filter(&self) -> Filter {
        let Self { namespace, pod, container, probe, alert, trigger, outcome, since, until } = self.clone();
        Filter { namespace, pod, container, probe, trigger, alert, outcome, since, until }
    }
}

fn time(text: &str) -> Result<SystemTime, String> {
    moment(text, SystemTime::now())
}

/// What was found, newest first.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) captures: Vec<Summary>,
    /// There are older ones that nobody has looked at.
    pub(super) more: bool,
}

/// The newest `limit` of those that fit. What is damaged is left out, and said.
pub(super) fn choose(folder: &Folder, filter: &Filter, limit: usize) -> anyhow::Result<Chosen> {
    let (mut chosen, mut damaged) = (Chosen::default(), 0);
    for id in ids(folder)? {
        if chosen.captures.len() >= limit {
            chosen.more = true;
            break;
        }
        match folder.look(&id) {
            Ok(found) => {
                let mut index = Index::default();
                index.insert(&found.record, found.size, SystemTime::now());
                chosen.captures.extend(index.list(filter, 1, None).0);
            }
            // Somebody has just removed it.
            Err(Fault::Missing) => {}
            Err(fault) => {
                damaged += 1;
                if damaged <= TOLD {
                    say(&format!("left out: {}", faulty(folder.path(), &id, &fault)));
                }
            }
        }
    }
    if damaged > TOLD {
        say(&format!("left out: {} more that cannot be read", damaged - TOLD));
    }
    Ok(chosen)
}

/// The one that is meant by `wanted`: `last`, or the beginning of an id.
pub(super) fn one(folder: &Folder, wanted: &str, filter: &Filter) -> anyhow::Result<RunId> {
    let shown = folder.path().display();
    if wanted == LAST {
        let newest = choose(folder, filter, 1)?.captures.pop();
        match newest {
            Some(newest) => return Ok(newest.id),
            None if *filter == Filter::default() => bail!("there is no capture in {shown}"),
            None => bail!("no capture in {shown} fits; `parachute captures list` shows those there are"),
        }
    }
    ensure!(
        *filter == Filter::default(),
        "the filters say which captures `last` is the newest of; {wanted} needs none of them"
    );
    let mut fitting = ids(folder)?;
    fitting.retain(|id| !wanted.is_empty() && id.as_str().starts_with(wanted));
    match fitting.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            bail!("there is no capture {wanted} in {shown}; `parachute captures list` shows those there are")
        }
        several => {
            let ids: String = several.iter().take(TOLD).flat_map(|id| ["\n  ", id.as_str()]).collect();
            bail!(
                "{wanted} may be one of {} captures in {shown}; write more of its id, as of{ids}",
                several.len()
            )
        }
    }
}
