//! One run from its turn to its end: the command, what its output means, and what is counted.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::Shared;
use super::judge::{Judged, judge};
use super::queue::Job;
use crate::captures::Keeping;
use crate::config::Probe;
use crate::config::parse::Parse;
use crate::enter::{EnterError, Listening};
use crate::model::{End, Outcome, Output, RunRequest, RunResult};

impl Shared {
    /// Runs it. What it printed is on its way to the disk with the second part, if it may be kept.
    pub(super) async fn execute(&self, job: &Job) -> (RunResult, Option<(Keeping, Arc<Probe>)>) {
        let request = job.request.clone();
        let started_at = SystemTime::now();
        let started = Instant::now();
        let config = self.config.load_full();
        let Some(probe) = config.probes.get(&request.probe).cloned() else {
            let reason = format!("no probe named {} in the configuration", request.probe);
            let judged =
                Judged { outcome: Outcome::Refused { reason }, output: nothing(started), parsed: None };
            return (result(request, started_at, judged), None);
        };
        let keeping = self.begin_to_keep(job, &probe);
        let listening = Listening {
            hold: job.hold || !matches!(probe.parse, Parse::None),
            copies: keeping.as_ref().map(Keeping::copies),
            cancel: job.early.cancel.clone(),
        };
        let judged = match self.launcher.run(&request, &probe, listening).await {
            Ok(output) => {
                let (early, for_judge) = (job.early.outcome(), Arc::clone(&probe));
                if matches!(probe.parse, Parse::None) {
                    let judged = judge(&probe, output, early.as_ref());
                    return (result(request, started_at, judged), keeping.map(|keeping| (keeping, probe)));
                }
                // Parsing is bounded but not short for megabytes of output, and must not hold up a runtime thread.
                let judged = tokio::task::spawn_blocking(move || judge(&for_judge, output, early.as_ref()));
                judged.await.unwrap_or_else(|_| Judged {
                    outcome: parser_died(),
                    output: nothing(started),
                    parsed: None,
                })
            }
            Err(error) => Judged { outcome: enter_failed(&error), output: nothing(started), parsed: None },
        };
        (result(request, started_at, judged), keeping.map(|keeping| (keeping, probe)))
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

fn result(request: RunRequest, started_at: SystemTime, judged: Judged) -> RunResult {
    let Judged { outcome, output, parsed } = judged;
    let parsed = parsed.unwrap_or_default();
    RunResult {
        request,
        started_at,
        outcome,
        output,
        families: parsed.families,
        parse_errors: parsed.errors,
        series_dropped: parsed.dropped,
        rejects: parsed.rejects,
        captured: false,
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
