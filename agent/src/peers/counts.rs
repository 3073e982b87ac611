//! What this room counts, and the closed sets of words that it counts by.

use prometheus::{IntCounterVec, IntGauge};

/// Why a peer did not take what was passed on, with more words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, or it broke.
    Unreachable(String),
    /// No answer in time.
    Timeout,
    /// It has no room, or does not know its containers yet.
    Unavailable(String),
    /// It does not know the token, or the token may not start anything.
    Unauthorized(String),
    /// It was not asked, as it did not answer lately or there was no connection left for it in time.
    NotAsked,
    /// Whatever else it answers, a redirection among it.
    Refused(String),
    /// It does not take what was sent: of several alerts one may have spoiled it for the others.
    Spoiled(String),
}

impl Failure {
    /// Another try may go well.
    pub(super) fn may_pass(&self) -> bool {
        !matches!(self, Self::Unauthorized(_) | Self::Refused(_) | Self::Spoiled(_))
    }

    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Unavailable(_) => "unavailable",
            Self::Unauthorized(_) => "unauthorized",
            Self::NotAsked => "not_asked",
            Self::Refused(_) | Self::Spoiled(_) => "refused",
        }
    }

    pub(super) fn words(&self) -> &str {
        match self {
            Self::Timeout => "it did not answer in time",
            Self::NotAsked => "it was not asked: it did not answer lately, or its turn did not come in time",
            Self::Unreachable(words)
            | Self::Unavailable(words)
            | Self::Unauthorized(words)
            | Self::Refused(words)
            | Self::Spoiled(words) => words,
        }
    }
}

/// The results of one request; the label values of `parachute_peer_requests_total`.
pub const RESULTS: [&str; 7] =
    ["ok", "itself", "unreachable", "timeout", "unavailable", "unauthorized", "refused"];
/// Why a peer was given up, or nobody was asked; the label values of `parachute_peer_failures_total`.
pub const FAILURES: [&str; 10] = [
    "unreachable",
    "timeout",
    "not_asked",
    "unavailable",
    "unauthorized",
    "refused",
    "beyond_max_peers",
    "unresolved",
    "settings",
    "slow_disk",
];

/// The metrics that this room moves.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Other agents behind the service, as last found.
    pub peers: IntGauge,
    /// `result`, one of [`RESULTS`].
    pub requests: IntCounterVec,
    /// `reason`, one of [`FAILURES`].
    pub failures: IntCounterVec,
}

impl Counters {
    pub(super) fn request(&self, result: &str) {
        self.requests.with_label_values(&[result]).inc();
    }

    pub(super) fn failure(&self, reason: &str) {
        self.failures.with_label_values(&[reason]).inc();
    }
}
