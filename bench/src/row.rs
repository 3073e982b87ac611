//! A line of the table: what was measured, what it is compared with, and what was wished for.

use std::time::Duration;

/// What a figure must keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// Nothing was wished for: what it usually is, of a figure that had better be large.
    Usually(f64),
}

/// A figure that is a ratio can be compared between machines, and a size varies little; a time is of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    Ratio,
    /// With its unit, as `MB`.
    Size(&'static str),
    /// With its unit, as `ms`. Never a reason to fail.
    Time(&'static str),
    /// This machine has not what it takes to measure it. No reason to fail, but for a run whose results are kept.
    NotHere,
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
    /// In place of a row that cannot be measured on this machine.
    pub(crate) fn not_here(what: &str, why: &str, target: Target) -> Self {
        Self {
            what: what.to_owned(),
            measured: format!("not on this machine: {why}").replace(['\n', '|'], " "),
            beside: "–".to_owned(),
            value: f64::NAN,
            figure: Figure::NotHere,
            target,
        }
    }

    /// Nothing, where nothing was wished for or measured.
    pub(crate) fn holds(&self) -> Option<bool> {
        match self.target {
            _ if self.figure == Figure::NotHere => None,
            Target::AtMost(limit) => Some(self.value <= limit),
            Target::AtLeast(limit) => Some(self.value >= limit),
            Target::Usually(_) => None,
        }
    }

    /// Off by more than twice, which is no noise: from the target, or where this is known to be missed, from what it was then.
    /// Of nothing at all twice is nothing; up to ten are others' then.
    pub(crate) fn far_off(&self, missed: Option<f64>) -> bool {
        let far = match self.target {
            Target::AtMost(0.0) => self.value > 10.0,
            Target::AtMost(limit) => self.value > 2.0 * missed.unwrap_or(limit).max(limit),
            Target::AtLeast(limit) | Target::Usually(limit) => {
                self.value < missed.unwrap_or(limit).min(limit) / 2.0
            }
        };
        match self.figure {
            Figure::NotHere => false,
            // What is no number was not measured, and nobody knows why.
            _ if self.value.is_nan() => true,
            Figure::Time(_) => false,
            Figure::Ratio | Figure::Size(_) => far,
        }
    }

    /// What the rows of a table are about that was written by [`line`](Self::line).
    pub(crate) fn names(table: &str) -> impl Iterator<Item = &str> {
        let rows = table.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
        rows.map_while(|line| line.strip_prefix("| ")).filter_map(|line| line.split(" | ").next())
    }

    pub(crate) fn line(&self) -> String {
        let unit = match self.figure {
            Figure::Ratio => " ×",
            Figure::Size(unit) | Figure::Time(unit) => &format!(" {unit}"),
            Figure::NotHere => "",
        };
        let target = match self.target {
            Target::AtMost(limit) => format!("≤ {limit}{unit}"),
            Target::AtLeast(limit) => format!("≥ {limit}{unit}"),
            Target::Usually(value) => format!("none; usually {value}{unit}"),
        };
        let held = match self.holds() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        let Self { what, measured, beside, value, .. } = self;
        let value = if value.is_nan() { "–".to_owned() } else { format!("{value:.2}{unit}") };
        format!("| {what} | {measured} | {beside} | {value} | {target} | {held} |")
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

    /// Of how many, as the p99 of a few is the greatest of them.
    pub(crate) fn shown(&self) -> String {
        format!("{} (p99 {} of {})", shown(self.median()), shown(self.quantile(99)), self.0.len())
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
        for (value, missed, far) in [
            (1.3, None, false),
            (2.6, None, false),
            (2.7, None, true),
            (3.9, Some(2.0), false),
            (4.1, Some(2.0), true),
            // What was missed once and is better than the target is held to no more than the target.
            (2.5, Some(0.5), false),
        ] {
            assert_eq!(most(value).far_off(missed), far, "{value} {missed:?}");
        }
        let least = |value| row(value, Target::AtLeast(20.0));
        assert!(least(9.0).far_off(None) && !least(11.0).far_off(None) && !least(5.0).far_off(Some(8.0)));
        let usual = |value| row(value, Target::Usually(8.0));
        assert!(usual(3.9).far_off(None) && !usual(4.1).far_off(None) && usual(100.0).holds().is_none());
        assert!(!Row { figure: Figure::Time("ms"), ..most(100.0) }.far_off(None));
        assert!(Row { figure: Figure::Time("ms"), ..most(f64::NAN) }.far_off(None));
        let not_here = Row::not_here("a, b", "no such program", Target::AtMost(1.3));
        assert!(!not_here.far_off(None) && not_here.holds().is_none());
    }

    #[test]
    fn a_table_names_its_rows() {
        let rows = [
            Row::not_here("a, b", "no | such\nprogram", Target::AtMost(1.3)),
            Row::not_here("c", "", Target::Usually(1.0)),
        ];
        let table = format!(
            "# Benchmarks\n\n- a\n\n| what | measured |\n| --- | --- |\n{}\n{}\n\nWords.\n",
            rows[0].line(),
            rows[1].line()
        );
        assert_eq!(Row::names(&table).collect::<Vec<_>>(), ["a, b", "c"]);
        assert_eq!(Row::names("").count(), 0);
    }
}
