//! Why a run is not begun at all.

/// Why a request was not even queued; the label values of `parachute_runs_refused_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the queue of runs is full; try again later or raise limits.queued_runs")]
    QueueFull,
    #[error("the same run is already waiting")]
    AlreadyQueued,
    #[error(
        "an earlier command hangs in the kernel in this container, or too many in others; see parachute_probe_stuck"
    )]
    Stuck,
    #[error(
        "the probe has reached its limits three times in a row in this container; see parachute_probe_quarantined"
    )]
    Quarantined,
    #[error("it has not come to its turn in time")]
    NotInTime,
    #[error("it was not needed any more before it came to its turn")]
    Cancelled,
    #[error("the agent is shutting down")]
    ShuttingDown,
}

impl Refusal {
    pub const REASONS: [&'static str; 7] =
        ["queue_full", "already_queued", "stuck", "quarantined", "not_in_time", "cancelled", "shutting_down"];

    pub fn as_str(self) -> &'static str {
        let [queue_full, already_queued, stuck, quarantined, not_in_time, cancelled, shutting_down] =
            Self::REASONS;
        match self {
            Self::QueueFull => queue_full,
            Self::AlreadyQueued => already_queued,
            Self::Stuck => stuck,
            Self::Quarantined => quarantined,
            Self::NotInTime => not_in_time,
            Self::Cancelled => cancelled,
            Self::ShuttingDown => shutting_down,
        }
    }
}
