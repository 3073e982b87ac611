//! One run from its turn to its end: the command, what its output means, and what is counted.

use std::time::{Instant, SystemTime};

use super::Shared;
use super::judge::{Judged, judge};
use super::queue::Job;
use crate::config::parse::Parse;
use crate::enter::{EnterError, Listening};
use crate::model::{End, Outcome, Output, RunRequest, RunResult};

impl Shared {
    pub(super) async fn execute(&self, job: &Job) -> RunResult {
        let request = job.request.clone();
        let started_at = SystemTime::now();
        let started = Instant::now();
        let config = self.config.load_full();
        let probe = config.probes.get(&request.probe).cloned();
        let output = match &probe {
            None => Err(format!("no probe named {} in the configuration", request.probe)),
            Some(probe) => {
                let hold = job.hold || !matches!(probe.parse, Parse::None);
                let listening = Listening { hold, copies: None, cancel: job.early.cancel.clone() };
                Ok(self.launcher.run(&request, probe, listening).await)
            }
        };
        let (outcome, output, parsed) = match (probe, output) {
            (Some(probe), Ok(Ok(output))) => {
                let early = job.early.outcome();
                // Parsing is bounded but not short for megabytes of output, and must not hold up a runtime thread.
                let judged = tokio::task::spawn_blocking(move || judge(&probe, output, early.as_ref())).await;
                judged.map_or_else(
                    |_| (parser_died(), nothing(started), None),
                    |Judged { outcome, output, parsed }| (outcome, output, parsed),
                )
            }
            (_, Ok(Err(error))) => (enter_failed(&error), nothing(started), None),
            (_, Err(reason)) => (Outcome::Refused { reason }, nothing(started), None),
            (None, Ok(Ok(output))) => (parser_died(), output, None),
        };
        let parsed = parsed.unwrap_or_default();
        let (families, parse_errors, series_dropped) = (parsed.families, parsed.errors, parsed.dropped);
        RunResult { request, started_at, outcome, output, families, parse_errors, series_dropped }
    }

    pub(super) fn account(&self, result: &RunResult) {
        let (probe, trigger) = (result.request.probe.as_str(), result.request.trigger.as_str());
        let c = &self.counters;
        c.runs.with_label_values(&[probe, trigger]).inc();
        c.duration.with_label_values(&[probe]).observe(result.output.duration.as_secs_f64());
        c.parse_errors.with_label_values(&[probe]).inc_by(result.parse_errors);
        c.series_dropped.with_label_values(&[probe]).inc_by(result.series_dropped);
        if let Outcome::EnterFailed { step, .. } = &result.outcome {
            c.enter_errors.with_label_values(&[step]).inc();
        }
        if let Some(way) = result.output.way {
            c.ways.with_label_values(&[way.as_str()]).inc();
        }
        let RunRequest { probe: name, container, .. } = &result.request;
        let at_limit = matches!(result.outcome, Outcome::LimitReached { .. });
        if let Some(length) = self.state().quarantine.note(name, container, at_limit, Instant::now()) {
            tracing::warn!(probe, %container, ?length, "the probe has reached its limits again and again and is in quarantine there");
        }
        let labels = result.request.container.labels();
        let (namespace, pod, container) = (&labels.namespace, &labels.pod, &labels.container);
        let duration = result.output.duration;
        if result.outcome.is_ok() {
            let series: usize = result.families.iter().map(|f| f.samples.len()).sum();
            tracing::debug!(probe, trigger, namespace, pod, container, ?duration, series, "run ok");
        } else {
            c.failures.with_label_values(&[probe, trigger, result.outcome.as_str()]).inc();
            let outcome = &result.outcome;
            tracing::warn!(probe, trigger, namespace, pod, container, ?duration, %outcome, "run failed");
        }
    }
}

fn enter_failed(error: &EnterError) -> Outcome {
    Outcome::EnterFailed { step: "launcher".to_owned(), errno: 0, message: error.to_string() }
}

/// Parsers do not panic: this is here so that a mistake in one costs a run and not the agent.
fn parser_died() -> Outcome {
    Outcome::ParseFailed { message: "the parser died on this output; please report it".to_owned() }
}

fn nothing(started: Instant) -> Output {
    let end = End::Refused { reason: "nothing was run".to_owned() };
    Output {
        stdout: Vec::new(),
        stderr: Vec::new(),
        truncated: false,
        end,
        way: None,
        limit: None,
        duration: started.elapsed(),
    }
}
