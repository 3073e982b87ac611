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

    /// Off by more than twice, which is no noise: from the target, or where the kept table says that this is missed, from what
    /// it says. Of nothing at all twice is nothing; up to ten are others' then.
    pub(crate) fn far_off(&self, kept: Option<f64>) -> bool {
        let far = match self.target {
            Target::AtMost(0.0) => self.value > 10.0,
            Target::AtMost(limit) => self.value > 2.0 * kept.unwrap_or(limit).max(limit),
            Target::AtLeast(limit) => self.value < kept.unwrap_or(limit).min(limit) / 2.0,
        };
        // What is no number was not measured.
        self.value.is_nan() || far && !matches!(self.figure, Figure::Time(_))
    }

    /// The figure of a row in a table that was written by [`line`](Self::line).
    pub(crate) fn kept(what: &str, table: &str) -> Option<f64> {
        let row = table
            .lines()
            .find_map(|line| line.strip_prefix("| ")?.strip_prefix(what)?.strip_prefix(" | "))?;
        row.split(" | ").nth(2)?.split(' ').next()?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_far_from_target_and_table_fails() {
        let row = |value, target| Row {
            what: "a, b".to_owned(),
            measured: "1 ms (p99 2 ms)".to_owned(),
            beside: "1 ms".to_owned(),
            value,
            figure: Figure::Ratio,
            target,
        };
        let most = |value| row(value, Target::AtMost(1.3));
        let table = format!("# Benchmarks\n\n{}\n", most(2.0).line());
        assert_eq!((Row::kept("a, b", &table), Row::kept("a", &table)), (Some(2.0), None));
        for (value, kept, far) in [
            (1.3, None, false),
            (2.6, None, false),
            (2.7, None, true),
            (3.9, Some(2.0), false),
            (4.1, Some(2.0), true),
        ] {
            assert_eq!(most(value).far_off(kept), far, "{value} {kept:?}");
        }
        // A table that is better than the target asks for no more than the target.
        assert!(!most(2.5).far_off(Some(0.5)));
        let least = |value| row(value, Target::AtLeast(20.0));
        assert!(least(9.0).far_off(None) && !least(11.0).far_off(None) && !least(5.0).far_off(Some(8.0)));
        assert!(!Row { figure: Figure::Time("ms"), ..most(100.0) }.far_off(None));
        assert!(Row { figure: Figure::Time("ms"), ..most(f64::NAN) }.far_off(None));
    }
}
