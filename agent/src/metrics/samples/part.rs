//! The series that a run gave to one metric, as text: a scrape copies what a run's end has written once. What the container
//! is called is not in it, because that may become known later.

use std::collections::HashSet;

use crate::metrics::encode::write_tail;
use crate::model::Sample;

/// One probe's series of one metric in one container.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// What the lines have after the labels of the container, one after the other.
    tails: Box<str>,
    /// Each line's suffix, and where its tail ends.
    lines: Box<[(&'static str, u32)]>,
}

impl Part {
    pub(super) fn of(samples: &[Sample]) -> Self {
        let mut tails = String::new();
        let line = |sample: &Sample| {
            let labels = sample.labels.iter().map(|(label, text)| (label.as_ref(), text.as_str()));
            write_tail(&mut tails, labels, sample.value);
            (sample.suffix, end(&tails))
        };
        let lines = samples.iter().map(line).collect();
        Self { tails: tails.into(), lines }
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Suffix and tail of each line.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let mut rest = &*self.tails;
        let mut begin = 0;
        self.lines.iter().map(move |(suffix, end)| {
            let (tail, more) = rest.split_at((end - begin) as usize);
            (rest, begin) = (more, *end);
            (*suffix, tail)
        })
    }

    /// What tells its series from others of the metric and the container: suffix and labels.
    pub(super) fn series(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.lines().map(|(suffix, tail)| (suffix, labels(tail)))
    }

    pub(super) fn without(&self, taken: &HashSet<(&'static str, &str)>) -> Self {
        let mut tails = String::new();
        let mut lines = Vec::new();
        for (suffix, tail) in self.lines().filter(|(suffix, tail)| !taken.contains(&(*suffix, labels(tail))))
        {
            tails.push_str(tail);
            lines.push((suffix, end(&tails)));
        }
        Self { tails: tails.into(), lines: lines.into() }
    }
}

/// A run's output is bounded far below 4 GiB, and so is what comes of it.
fn end(tails: &str) -> u32 {
    u32::try_from(tails.len()).unwrap_or(u32::MAX)
}

fn labels(tail: &str) -> &str {
    tail.rsplit_once(' ').map_or(tail, |(labels, _value)| labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(suffix: &'static str, text: &str, value: f64) -> Sample {
        Sample { suffix, labels: vec![("a".into(), text.to_owned())], value }
    }

    #[test]
    fn lines_come_out_as_they_went_in() {
        let part = Part::of(&[sample("_sum", "x y\n", 1.5), sample("", "é", f64::NAN)]);
        let lines: Vec<_> = part.lines().collect();
        assert_eq!(lines, [("_sum", ",a=\"x y\\n\"} 1.5\n"), ("", ",a=\"é\"} NaN\n")]);
        assert_eq!((part.len(), Part::of(&[]).lines().count()), (2, 0));
    }

    #[test]
    fn series_are_told_by_suffix_and_labels_and_not_by_their_value() {
        let first = Part::of(&[sample("", "x 1", 1.0), sample("_sum", "x", 1.0)]);
        let taken = first.series().collect();
        let second = Part::of(&[sample("", "x 1", 2.0), sample("", "x", 3.0), sample("_sum", "x", 4.0)]);
        let left = second.without(&taken);
        assert_eq!(left.lines().collect::<Vec<_>>(), [("", ",a=\"x\"} 3\n")]);
    }
}
