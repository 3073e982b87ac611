//! A run: what is asked for, how it ended, and what came of it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Alert, Container, Family, ProbeName, Rejects, RunId, TriggerName};

/// One probe in one container, once. It holds the container itself, not its id.
#[derive(Clone, Debug)]
pub struct RunRequest {
    pub id: RunId,
    pub probe: ProbeName,
    pub trigger: TriggerName,
    pub container: Arc<Container>,
    /// The alert that the trigger answers, where that is what it does.
    pub alert: Option<Arc<Alert>>,
}

impl RunRequest {
    /// A run of its own, that no alert asks for.
    pub fn new(probe: ProbeName, trigger: TriggerName, container: Arc<Container>) -> Self {
        Self { id: RunId::fresh(), probe, trigger, container, alert: None }
    }
}

/// One of the two things that a command prints to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// The word used in paths and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// How the command ended, as the launcher saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Exited {
        code: i32,
    },
    Signaled {
        signal: i32,
    },
    /// The deadline passed and the tree was killed; `stuck` if something of it has still not gone (D state).
    TimedOut {
        stuck: bool,
    },
    /// The agent asked for the end: its output cap was reached, or nobody waits any more.
    Cancelled {
        stuck: bool,
    },
    TargetGone,
    /// The container has lowered the command's limits: what it printed may be wrong.
    Tampered,
    /// A step of entering failed; `step` is one of `enter::Step`'s names.
    EnterFailed {
        step: String,
        errno: i32,
    },
    Refused {
        reason: String,
    },
}

impl End {
    /// As a shell has it, 128 + signal for a killed command; None where the command never came to an end by itself.
    pub fn exit_status(&self) -> Option<i32> {
        match self {
            Self::Exited { code } => Some(*code),
            Self::Signaled { signal } => Some(128 + signal),
            _ => None,
        }
    }
}

/// How a command was led to its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// As an observer, with a new instance of the container's procfs (Linux 6.18).
    ObserverPidns,
    /// As an observer, with the procfs that is mounted in the container, after it was checked.
    ObserverMount,
    Joined,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::ObserverPidns, Self::ObserverMount, Self::Joined];

    /// The word used in labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ObserverPidns => "observer_pidns",
            Self::ObserverMount => "observer_mount",
            Self::Joined => "joined",
        }
    }
}

/// One of a probe's `limits` that a run has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Something of the run was killed for want of memory.
    Memory,
    /// A process or thread could not be started.
    Pids,
    /// The run was held back, and timed out.
    Cpu,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        })
    }
}

/// Everything a command left behind.
#[derive(Clone, Debug)]
pub struct Output {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// A cap was reached and the command was ended for it.
    pub truncated: bool,
    pub end: End,
    /// None if it never came so far.
    pub way: Option<Way>,
    pub limit: Option<Limit>,
    pub duration: Duration,
}

/// The closed set of what a run can come to; `as_str` is the metric's label value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    /// Exit status of the command; 128 + signal when one killed it.
    Nonzero {
        status: i32,
    },
    Timeout,
    Truncated,
    TargetGone,
    /// A limit of the probe's was reached; the output is not whole.
    LimitReached {
        limit: Limit,
    },
    /// The container has lowered limits of the joined command's.
    Tampered,
    /// Ended before its time because nobody needs it any more: its alert is over, say.
    Cancelled,
    EnterFailed {
        step: String,
        errno: i32,
        message: String,
    },
    ParseFailed {
        message: String,
    },
    Refused {
        reason: String,
    },
}

impl Outcome {
    /// Every failing outcome's label value, for zero-initialised counters.
    pub const FAILURES: [&'static str; 10] = [
        "nonzero",
        "timeout",
        "truncated",
        "target_gone",
        "limit_reached",
        "tampered",
        "cancelled",
        "enter_failed",
        "parse_failed",
        "refused",
    ];

    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Nonzero { .. } => "nonzero",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::TargetGone => "target_gone",
            Self::LimitReached { .. } => "limit_reached",
            Self::Tampered => "tampered",
            Self::Cancelled => "cancelled",
            Self::EnterFailed { .. } => "enter_failed",
            Self::ParseFailed { .. } => "parse_failed",
            Self::Refused { .. } => "refused",
        }
    }

    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }
}

/// For people: the word, and what is known besides.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.as_str();
        match self {
            Self::Ok | Self::Timeout | Self::Truncated | Self::TargetGone | Self::Cancelled => {
                f.write_str(word)
            }
            Self::LimitReached { limit } => write!(f, "{word}: limits.{limit}"),
            Self::Tampered => write!(f, "{word}: the container has lowered the command's resource limits"),
            Self::Nonzero { status } => write!(f, "{word}: exit status {status}"),
            Self::EnterFailed { step, message, .. } => write!(f, "{word}: {step}: {message}"),
            Self::ParseFailed { message } => write!(f, "{word}: {message}"),
            Self::Refused { reason } => write!(f, "{word}: {reason}"),
        }
    }
}

/// One finished run with all that is known of it.
#[derive(Clone, Debug)]
pub struct RunResult {
    pub request: RunRequest,
    pub started_at: SystemTime,
    pub outcome: Outcome,
    pub output: Output,
    pub families: Vec<Family>,
    /// Lines or values that the parser could not use.
    pub parse_errors: u64,
    /// Series cut by the probe's `max_series`.
    pub series_dropped: u64,
    /// What the parser passed over, and why.
    pub rejects: Rejects,
    /// A capture of it, of its request's id, is on the disk.
    pub captured: bool,
}
