//! `parse: regex`: every match of a pattern, per line or in the whole output.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::series::{Labels, Series, scaled};
use super::text::Line;
use super::{ParseError, text};
use crate::config::parse::{RegexMetric, RegexTake, Scope};

/// One search is linear, but all matches of `a.*b|a` together may read the text once per match (the `regex` crate's
/// documentation, "Iterating over matches"). As no counter tells how far a search has read, time bounds it.
const DEADLINE: Duration = Duration::from_secs(5);

/// So many lines are looked at for ones that no pattern matches: it is for people, and costs a byte for each.
const WATCHED: usize = 10_000;

pub(super) fn parse<'o>(
    metrics: &[RegexMetric],
    output: &'o [u8],
    series: &mut Series<'o>,
) -> Result<(), ParseError> {
    let end = Instant::now() + DEADLINE;
    if metrics.iter().any(|metric| metric.scope == Scope::Line) {
        text::lines(output).for_each(|line| _ = series.line(line));
    }
    let mut matched = vec![false; text::lines(output).take(WATCHED).count()];
    for (rule, metric) in metrics.iter().enumerate() {
        series.noted.at(None, &[]);
        series.noted.rule = Some(rule);
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
            Scope::Whole => {
                let mut ahead = text::lines(output).zip(&mut matched).peekable();
                let seen = |range| mark(&mut ahead, output, &range);
                matches(metric, &names, (None, output), end, series, seen).ok_or_else(late)?;
            }
            Scope::Line => {
                for (place, line) in text::lines(output).enumerate().filter(|(_, line)| !line.is_too_long()) {
                    let seen = |_| matched.get_mut(place).into_iter().for_each(|it| *it = true);
                    let text = (Some(line.number), line.bytes);
                    matches(metric, &names, text, end, series, seen).ok_or_else(late)?;
                }
            }
        }
    }
    series.noted.rule = None;
    for (line, _) in text::lines(output).zip(matched).filter(|(line, it)| !it && !line.is_too_long()) {
        series.noted.at(Some(line.number), line.bytes);
        series.noted.unmatched(format_args!("no pattern matches"));
    }
    Ok(())
}

fn keep(metric: &RegexMetric, family: usize, labels: Labels, value: Option<f64>, series: &mut Series<'_>) {
    match metric.merge {
        None => series.put(family, "", labels, value),
        Some(how) => series.merge(family, labels, value, how),
    }
}

/// Marks the lines that a match in the whole output touches; matches come in the order of the text.
fn mark<'o, 'm>(
    ahead: &mut std::iter::Peekable<impl Iterator<Item = (Line<'o>, &'m mut bool)>>,
    output: &[u8],
    found: &Range<usize>,
) {
    while let Some((line, matched)) = ahead.peek_mut() {
        // The line is a part of the output.
        let start = line.bytes.as_ptr().addr() - output.as_ptr().addr();
        if start >= found.end {
            return;
        }
        let end = start + line.bytes.len();
        **matched |= found.start < end;
        if found.end < end {
            return;
        }
        ahead.next();
    }
}

/// Takes all matches in `text`; `None` when the time is over.
fn matches<'o>(
    metric: &RegexMetric,
    names: &[(&str, Arc<str>)],
    (line, text): (Option<usize>, &'o [u8]),
    end: Instant,
    series: &mut Series<'o>,
    mut seen: impl FnMut(Range<usize>),
) -> Option<()> {
    let def = &metric.def;
    let family = series.family_of(def);
    for found in metric.pattern.captures_iter(text) {
        if Instant::now() > end {
            return None;
        }
        seen(found.get_match().range());
        series.noted.at(line, if line.is_some() { text } else { found.get_match().as_bytes() });
        if line.is_none() {
            series.noted.begins(text, found.get_match().start());
        }
        let group = |name| found.name(name).map(|group| group.as_bytes());
        let all = names.iter().filter_map(|(name, label)| Some((*name, label, group(name)?)));
        match &metric.take {
            RegexTake::GroupLabel(label) => {
                for (name, _, raw) in all {
                    let labels = series.labels(&def.const_labels, [(label, name.as_bytes())]);
                    keep(metric, family, labels, scaled(def, text::number(raw)), series);
                }
            }
            RegexTake::Value(value) => {
                let labels = all.filter(|(name, ..)| name != value).map(|(_, label, raw)| (label, raw));
                let labels = series.labels(&def.const_labels, labels);
                keep(metric, family, labels, scaled(def, group(value).and_then(text::number)), series);
            }
            RegexTake::Count => {
                let labels = series.labels(&def.const_labels, all.map(|(_, label, raw)| (label, raw)));
                series.add(family, labels, scaled(def, Some(1.0)));
            }
        }
    }
    Some(())
}
