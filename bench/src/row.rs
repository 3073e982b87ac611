//! A line of the table: what was measured, what it is compared with, and what was wished for.

use std::time::Duration;

/// What a figure must keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// A figure that is a ratio can be compared between machines, and a size does not vary; a time is of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    Ratio,
    /// With its unit, as `MB`.
    Size(&'static str),
    /// With its unit, as `ms`. Never a reason to fail.
    Time(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The requirement in a few words, and the place in the table: rows of one section stand together.
    pub what: String,
    /// What was measured, as median and p99 where there are many.
    pub measured: String,
    /// What it is compared with, measured in the same run.
    pub beside: String,
    pub value: f64,
    pub figure: Figure,
    pub target: Target,
}

impl Row {
    pub(crate) fn holds(&self) -> bool {
        match self.target {
            Target::AtMost(limit) => self.value <= limit,
            Target::AtLeast(limit) => self.value >= limit,
        }
    }

    /// Off by more than twice: that is no noise.
    pub(crate) fn far_off(&self) -> bool {
        let far = match self.target {
            Target::AtMost(limit) => self.value > 2.0 * limit,
            Target::AtLeast(limit) => self.value < limit / 2.0,
        };
        far && !matches!(self.figure, Figure::Time(_))
    }

    pub(crate) fn line(&self) -> String {
        let unit = match self.figure {
            Figure::Ratio => " ×",
            Figure::Size(unit) | Figure::Time(unit) => &format!(" {unit}"),
        };
        let target = match self.target {
            Target::AtMost(limit) => format!("≤ {limit}{unit}"),
            Target::AtLeast(limit) => format!("≥ {limit}{unit}"),
        };
        let held = if self.holds() { "yes" } else { "**no**" };
        let Self { what, measured, beside, value, .. } = self;
        format!("| {what} | {measured} | {beside} | {value:.2}{unit} | {target} | {held} |")
    }
}

/// Times of the same thing, in any order until they are asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(pub Vec<Duration>);

impl Times {
    pub(crate) fn quantile(&self, percent: usize) -> Duration {
        let mut times = self.0.clone();
        times.sort_unstable();
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(place).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.quantile(50)
    }

    /// How often the other's median goes into this one.
    pub(crate) fn ratio(&self, other: &Self) -> f64 {
        self.median().as_secs_f64() / other.median().as_secs_f64()
    }

    pub(crate) fn shown(&self) -> String {
        format!("{} (p99 {})", shown(self.median()), shown(self.quantile(99)))
    }
}

pub(crate) fn shown(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1000.0)
}
