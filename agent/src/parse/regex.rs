//! `parse: regex`: every match of a pattern, per line or in the whole output.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::series::{Series, scaled};
use super::{ParseError, text};
use crate::config::parse::{RegexMetric, RegexTake, Scope};

/// One search is linear, but all matches of `a.*b|a` together may read the text once per match (the `regex` crate's
/// documentation, "Iterating over matches"). As no counter tells how far a search has read, time bounds it.
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) fn parse(metrics: &[RegexMetric], output: &[u8], series: &mut Series) -> Result<(), ParseError> {
    let end = Instant::now() + DEADLINE;
    if metrics.iter().any(|metric| metric.scope == Scope::Line) {
        text::lines(output).filter(Result::is_err).for_each(|_| series.error());
    }
    for metric in metrics {
        let names: Vec<_> =
            metric.pattern.capture_names().flatten().map(|name| (name, Arc::<str>::from(name))).collect();
        let late = || ParseError::TooMuchWork { metric: metric.def.name.to_string() };
        if matches!(metric.take, RegexTake::Count) && names.is_empty() {
            // No match at all is the number 0, not the absence of a number.
            let (family, labels) =
                (series.family_of(&metric.def), series.labels(&metric.def.const_labels, []));
            series.add(family, labels, Some(0.0));
        }
        match metric.scope {
            Scope::Whole => matches(metric, &names, output, end, series).ok_or_else(late)?,
            Scope::Line => {
                for line in text::lines(output).flatten() {
                    matches(metric, &names, line, end, series).ok_or_else(late)?;
                }
            }
        }
    }
    Ok(())
}

/// Takes all matches in `text`; `None` when the time is over.
fn matches(
    metric: &RegexMetric,
    names: &[(&str, Arc<str>)],
    text: &[u8],
    end: Instant,
    series: &mut Series,
) -> Option<()> {
    let def = &metric.def;
    let family = series.family_of(def);
    for found in metric.pattern.captures_iter(text) {
        if Instant::now() > end {
            return None;
        }
        let group = |name| found.name(name).map(|group| group.as_bytes());
        let all = names.iter().filter_map(|(name, label)| Some((*name, label, group(name)?)));
        match &metric.take {
            RegexTake::GroupLabel(label) => {
                for (name, _, raw) in all {
                    let labels = series.labels(&def.const_labels, [(label, name.as_bytes())]);
                    series.put(family, "", labels, scaled(def, text::number(raw)));
                }
            }
            RegexTake::Value(value) => {
                let labels = all.filter(|(name, ..)| name != value).map(|(_, label, raw)| (label, raw));
                let labels = series.labels(&def.const_labels, labels);
                series.put(family, "", labels, scaled(def, group(value).and_then(text::number)));
            }
            RegexTake::Count => {
                let labels = series.labels(&def.const_labels, all.map(|(_, label, raw)| (label, raw)));
                series.add(family, labels, scaled(def, Some(1.0)));
            }
        }
    }
    Some(())
}
