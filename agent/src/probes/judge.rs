//! Pure: a command's end and output to an outcome and samples.

use crate::config::Probe;
use crate::model::{End, Outcome, Output};
use crate::parse::{self, Parsed};

/// What came of one run.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) outcome: Outcome,
    pub(super) output: Output,
    pub(super) parsed: Option<Parsed>,
}

/// Only the whole output of a command that ended with status 0 is parsed: a number from half an output, or from a tool
/// that says it failed, is worse than none.
pub(super) fn judge(probe: &Probe, output: Output, early: Option<&Outcome>) -> Judged {
    let outcome = match &output.end {
        _ if output.truncated => Outcome::Truncated,
        End::Tampered => Outcome::Tampered,
        // Also where the command ended well: what was killed or not started may be a child of its.
        End::Exited { .. } | End::Signaled { .. } | End::TimedOut { .. } if output.limit.is_some() => {
            output.limit.map_or(Outcome::Timeout, |limit| Outcome::LimitReached { limit })
        }
        End::Exited { code: 0 } => Outcome::Ok,
        End::Exited { code } => Outcome::Nonzero { status: *code },
        // 128 + signal, as shells say it.
        End::Signaled { signal } => Outcome::Nonzero { status: 128 + signal },
        End::TimedOut { .. } => Outcome::Timeout,
        // But for whoever ended it early nobody but a failing reader cancels where nothing was truncated.
        End::Cancelled { .. } => early.cloned().unwrap_or(Outcome::Truncated),
        End::TargetGone => Outcome::TargetGone,
        End::EnterFailed { step, errno } => Outcome::EnterFailed {
            step: step.clone(),
            errno: *errno,
            message: std::io::Error::from_raw_os_error(*errno).to_string(),
        },
        End::Refused { reason } => Outcome::Refused { reason: reason.clone() },
    };
    if outcome != Outcome::Ok {
        return Judged { outcome, output, parsed: None };
    }
    match parse::parse(&probe.parse, &output.stdout, probe.max_series) {
        Ok(parsed) => Judged { outcome, output, parsed: Some(parsed) },
        Err(error) => Judged {
            outcome: Outcome::ParseFailed { message: error.to_string() },
            output,
            parsed: Some(Parsed { errors: 1, ..Parsed::default() }),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Isolation, RunLimits, parse::Parse};
    use crate::model::Limit;
    use crate::model::ProbeName;

    fn judged(end: End, truncated: bool, limit: Option<Limit>, early: Option<&Outcome>) -> Outcome {
        let probe = Probe {
            name: ProbeName::new("p"),
            command: vec!["true".into()],
            program: "/bin/true".into(),
            missing: None,
            timeout: Duration::from_secs(1),
            max_output: 10,
            max_series: 10,
            isolation: Isolation::Joined,
            limits: RunLimits { memory: 1, pids: 1, cpu_millis: 1 },
            keep: None,
            parse: Parse::None,
        };
        let output = Output {
            stdout: vec![],
            stderr: vec![],
            truncated,
            end,
            way: None,
            limit,
            duration: Duration::ZERO,
        };
        judge(&probe, output, early).outcome
    }

    #[test]
    fn a_limit_counts_more_than_how_the_command_ended() {
        let limit = Limit::Memory;
        for end in [End::Exited { code: 0 }, End::Signaled { signal: 9 }, End::TimedOut { stuck: false }] {
            assert_eq!(judged(end, false, Some(limit), None), Outcome::LimitReached { limit });
        }
        assert_eq!(judged(End::TargetGone, false, Some(limit), None), Outcome::TargetGone);
    }

    #[test]
    fn who_ends_a_run_early_says_what_it_came_to() {
        let cancelled = End::Cancelled { stuck: false };
        for early in [Outcome::Timeout, Outcome::Cancelled] {
            assert_eq!(judged(cancelled.clone(), false, None, Some(&early)), early);
            assert_eq!(judged(cancelled.clone(), true, None, Some(&early)), Outcome::Truncated);
            assert_eq!(judged(End::Exited { code: 0 }, false, None, Some(&early)), Outcome::Ok);
        }
    }

    #[test]
    fn every_end_has_its_outcome() {
        let gone = Outcome::EnterFailed {
            step: "exec".into(),
            errno: 2,
            message: "No such file or directory (os error 2)".into(),
        };
        for (end, truncated, outcome) in [
            (End::Exited { code: 0 }, false, Outcome::Ok),
            (End::Exited { code: 0 }, true, Outcome::Truncated),
            (End::Exited { code: 3 }, false, Outcome::Nonzero { status: 3 }),
            (End::Signaled { signal: 9 }, false, Outcome::Nonzero { status: 137 }),
            (End::TimedOut { stuck: false }, false, Outcome::Timeout),
            (End::TimedOut { stuck: true }, false, Outcome::Timeout),
            (End::Cancelled { stuck: false }, true, Outcome::Truncated),
            (End::TargetGone, false, Outcome::TargetGone),
            (End::Tampered, false, Outcome::Tampered),
            (End::EnterFailed { step: "exec".into(), errno: 2 }, false, gone),
            (End::Refused { reason: "r".into() }, false, Outcome::Refused { reason: "r".into() }),
        ] {
            assert_eq!(judged(end.clone(), truncated, None, None), outcome, "{end:?}");
        }
    }
}
