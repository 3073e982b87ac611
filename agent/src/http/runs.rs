//! `GET /api/v1/runs`: what ran lately, newest first, and what was asked for and did not run.

use std::sync::Arc;

use serde::Serialize;

use super::query::Query;
use super::view::rfc3339;
use crate::model::{ContainerLabels, Outcome, Way};
use crate::probes::Record;

/// Runs in one answer, unless `limit` says otherwise.
const USUAL: usize = 100;
/// More than the history holds.
const MOST: usize = 10_000;

/// What to look for. An absent one matches everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    namespace: Option<String>,
    pod: Option<String>,
    container: Option<String>,
    probe: Option<String>,
    trigger: Option<String>,
    alert: Option<String>,
    /// One of the outcomes' words, or `failed` for all but `ok`.
    outcome: Option<String>,
    limit: usize,
}

impl Wanted {
    pub(super) const NAMES: [&str; 8] =
        ["namespace", "pod", "container", "probe", "trigger", "alert", "outcome", "limit"];

    /// The error says which parameter is wrong and what would be right.
    pub(super) fn read(query: &Query) -> Result<Self, String> {
        query.only(&Self::NAMES)?;
        let text = |name: &str| query.get(name).map(str::to_owned);
        let outcome = text("outcome");
        let is_word = |word: &String| Self::outcomes().any(|known| known == word);
        if outcome.as_ref().is_some_and(|word| !is_word(word)) {
            let words: Vec<_> = Self::outcomes().collect();
            return Err(format!("outcome must be one of {}", words.join(", ")));
        }
        Ok(Self {
            namespace: text("namespace"),
            pod: text("pod"),
            container: text("container"),
            probe: text("probe"),
            trigger: text("trigger"),
            alert: text("alert"),
            outcome,
            limit: query.number("limit", USUAL, MOST)?,
        })
    }

    pub(super) fn outcomes() -> impl Iterator<Item = &'static str> {
        ["failed", "ok"].into_iter().chain(Outcome::FAILURES)
    }

    /// Those of `runs` that are wanted, and how many more of them there are.
    pub(super) fn of(&self, runs: Vec<Arc<Record>>) -> (Vec<Arc<Record>>, usize) {
        let mut wanted: Vec<_> = runs.into_iter().filter(|run| self.fits(run)).collect();
        let more = wanted.len().saturating_sub(self.limit);
        wanted.truncate(self.limit);
        (wanted, more)
    }

    fn fits(&self, run: &Record) -> bool {
        let is = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|wanted| wanted == has);
        let outcome = match self.outcome.as_deref() {
            Some("failed") => !run.outcome.is_ok(),
            Some(word) => run.outcome.as_str() == word,
            None => true,
        };
        outcome
            && is(&self.namespace, &run.labels.namespace)
            && is(&self.pod, &run.labels.pod)
            && is(&self.container, &run.labels.container)
            && is(&self.probe, run.probe.as_str())
            && is(&self.trigger, run.trigger.as_str())
            && is(&self.alert, run.alert.as_deref().unwrap_or_default())
    }
}

#[derive(Debug, Serialize)]
struct View<'a> {
    id: &'a str,
    probe: &'a str,
    trigger: &'a str,
    alert: Option<&'a str>,
    container_id: &'a str,
    #[serde(flatten)]
    labels: &'a ContainerLabels,
    /// RFC 3339, UTC.
    started_at: String,
    duration_seconds: f64,
    #[serde(flatten)]
    outcome: &'a Outcome,
    /// Null for a run that was begun.
    refused: Option<&'static str>,
    way: Option<Way>,
    captured: bool,
    /// How often the same happened in a row, and since when.
    times: u64,
    since: String,
}

impl<'a> From<&'a Record> for View<'a> {
    fn from(run: &'a Record) -> Self {
        Self {
            id: run.id.as_str(),
            probe: run.probe.as_str(),
            trigger: run.trigger.as_str(),
            alert: run.alert.as_deref(),
            container_id: run.container.as_str(),
            labels: &run.labels,
            started_at: rfc3339(run.at),
            duration_seconds: run.duration.as_secs_f64(),
            outcome: &run.outcome,
            refused: run.refused.map(crate::probes::Refusal::as_str),
            way: run.way,
            captured: run.captured,
            times: run.times,
            since: rfc3339(run.since),
        }
    }
}

/// The answer's body: the runs, and how many more the filters let through.
pub(super) fn answer(query: &Query, runs: Vec<Arc<Record>>) -> Result<serde_json::Value, String> {
    let (runs, more) = Wanted::read(query)?.of(runs);
    let views: Vec<View<'_>> = runs.iter().map(|run| View::from(&**run)).collect();
    Ok(serde_json::json!({ "runs": views, "more": more }))
}
