//! What of the runs' output is kept on disk, how much, and for how long.

use std::time::Duration;

use crate::model::Outcome;

/// Bounds on all captures together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captures {
    /// Bytes that they may take on the disk.
    pub max_size: u64,
    /// How long those of runs that ended well are kept.
    pub max_age: Duration,
    /// How long those of failed runs are kept; never less.
    pub failures_max_age: Duration,
}

impl Default for Captures {
    fn default() -> Self {
        Self {
            max_size: 1 << 30,
            max_age: Duration::from_hours(7 * 24),
            failures_max_age: Duration::from_hours(30 * 24),
        }
    }
}

/// Which runs' output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Always,
    OnFailure,
    Never,
}

impl Keep {
    /// A probe's `keep`, or what stands for one that is not written: what an alert asked for is evidence, of other runs
    /// those that failed are worth a look.
    pub fn of(written: Option<Self>, by_alert: bool) -> Self {
        written.unwrap_or(if by_alert { Self::Always } else { Self::OnFailure })
    }
}

/// Whether a finished run is kept, by its probe's `keep`, whether an alert asked for it, and how it ended.
pub fn keeps(written: Option<Keep>, by_alert: bool, outcome: &Outcome) -> bool {
    match Keep::of(written, by_alert) {
        Keep::Always => true,
        Keep::OnFailure => !outcome.is_ok(),
        Keep::Never => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept() {
        let (ok, failed) = (Outcome::Ok, Outcome::Nonzero { status: 1 });
        for (written, by_alert, of_ok, of_failed) in [
            (None, true, true, true),
            (None, false, false, true),
            (Some(Keep::Always), false, true, true),
            (Some(Keep::OnFailure), true, false, true),
            (Some(Keep::Never), true, false, false),
            (Some(Keep::Never), false, false, false),
        ] {
            assert_eq!(keeps(written, by_alert, &ok), of_ok, "{written:?} {by_alert}");
            assert_eq!(keeps(written, by_alert, &failed), of_failed, "{written:?} {by_alert}");
        }
    }
}
