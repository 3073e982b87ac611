//! What this room counts, and the closed sets of words that it counts by.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

/// Why an alert ran nothing, or not all that it asked for; the label values of `parachute_alerts_dropped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It has been delivered before.
    Duplicate,
    /// A run for an alert was not long enough ago.
    Cooldown,
    /// No trigger answers it.
    NoTrigger,
    /// Triggers answer it, but only while it fires.
    Resolved,
    /// Its labels lead to no container.
    NoContainer,
    /// Its labels lead to more containers than the trigger allows.
    TooManyTargets,
    /// There was no room for its runs. The sender is told to deliver it again, unless it can never fit.
    QueueFull,
    /// Its runs were queued but could not be written down; they run all the same.
    NotWritten,
    /// Its labels are beyond all bounds.
    TooLarge,
    /// There were too many alerts in its webhook.
    TooManyAlerts,
    /// The agent did not know its containers yet. The sender is told to deliver it again.
    NotReady,
    /// A peer has passed it on, and its container is on another node, as is so with all peers but one.
    NotHere,
    /// There was no room to pass it on to the peers. The sender is told to deliver it again.
    PeersFull,
}

impl Reason {
    pub const ALL: [Self; 13] = [
        Self::Duplicate,
        Self::Cooldown,
        Self::NoTrigger,
        Self::Resolved,
        Self::NoContainer,
        Self::TooManyTargets,
        Self::QueueFull,
        Self::NotWritten,
        Self::TooLarge,
        Self::TooManyAlerts,
        Self::NotReady,
        Self::NotHere,
        Self::PeersFull,
    ];

    /// The word used in labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Cooldown => "cooldown",
            Self::NoTrigger => "no_trigger",
            Self::Resolved => "resolved",
            Self::NoContainer => "no_container",
            Self::TooManyTargets => "too_many_targets",
            Self::QueueFull => "queue_full",
            Self::NotWritten => "not_written",
            Self::TooLarge => "too_large",
            Self::TooManyAlerts => "too_many_alerts",
            Self::NotReady => "not_ready",
            Self::NotHere => "not_here",
            Self::PeersFull => "peers_full",
        }
    }
}

/// Why a run that was queued for an alert was not run; the label values of `parachute_alert_runs_dropped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Its container was not there any more after the agent's restart.
    ContainerGone,
    /// The configuration has lost its probe or its trigger meanwhile.
    NotConfigured,
    /// The alert was over before its turn came.
    Cancelled,
    /// What runs probes did not take it.
    Refused,
}

impl Dropped {
    pub const ALL: [Self; 4] = [Self::ContainerGone, Self::NotConfigured, Self::Cancelled, Self::Refused];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::ContainerGone => "container_gone",
            Self::NotConfigured => "not_configured",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
        }
    }
}

/// The statuses that a webhook is answered with, apart from those for who may not ask; of `parachute_alert_webhooks_total`.
pub const ANSWERS: [&str; 6] = ["200", "202", "400", "413", "415", "503"];

/// The metrics that this room moves.
#[derive(Clone, Debug)]
pub struct Counters {
    /// `code`, one of [`ANSWERS`].
    pub webhooks: IntCounterVec,
    /// `status`.
    pub received: IntCounterVec,
    /// `reason`, one of [`Reason::ALL`].
    pub dropped: IntCounterVec,
    /// `trigger`.
    pub runs: IntCounterVec,
    /// `reason`, one of [`Dropped::ALL`].
    pub runs_dropped: IntCounterVec,
    /// Runs that wait or are under way.
    pub queued: IntGauge,
    /// Alerts that were passed on to peers, by `outcome`, one of [`crate::model::Delivery::OUTCOMES`].
    pub passed: IntCounterVec,
    /// Alerts that wait to be passed on, or are on their way.
    pub passing: IntGauge,
    /// Seconds from the webhook until all peers had taken an alert, or were given up.
    pub pass_seconds: Histogram,
    /// Times that the disk did not take what was to be written.
    pub journal_failures: IntCounter,
    /// Files that were no journal, or a broken one.
    pub journals_set_aside: IntCounter,
}

impl Counters {
    pub(super) fn drop_alert(&self, reason: Reason) {
        self.dropped.with_label_values(&[reason.as_str()]).inc();
    }

    pub(super) fn drop_run(&self, why: Dropped) {
        self.runs_dropped.with_label_values(&[why.as_str()]).inc();
    }
}
