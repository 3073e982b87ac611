//! `parse: keyvalue`: lines of `name value`, `name: value` or `name=value`.

use super::series::{Series, scaled};
use super::text;
use crate::config::parse::{KeyMatch, KeyvalueMetric};

/// A line whose key no metric asks for is no error; one whose key is asked for but that has no number is.
pub(super) fn parse<'o>(metrics: &[KeyvalueMetric], output: &'o [u8], series: &mut Series<'o>) {
    for line in text::lines(output) {
        series.noted.rule = None;
        let Some(line) = series.line(line) else { continue };
        let mut asked = false;
        let (key, rest) = split(line);
        let key_text = String::from_utf8_lossy(key);
        for (rule, KeyvalueMetric { def, keys }) in metrics.iter().enumerate() {
            let label = match keys {
                KeyMatch::One(wanted) if *wanted == key_text => None,
                KeyMatch::Glob { pattern, label } if pattern.is_match(&*key_text) => Some((label, key)),
                _ => continue,
            };
            asked = true;
            series.noted.rule = Some(rule);
            let number = text::words(rest).find_map(text::number);
            let family = series.family_of(def);
            let labels = series.labels(&def.const_labels, label);
            series.put(family, "", labels, scaled(def, number));
        }
        if !asked {
            series.noted.unmatched(format_args!("no metric asks for the key {key_text:?}"));
        }
    }
}

/// Key and the rest. The key ends at the first `:` or `=` (`cpu MHz : 2400`), or, where there is none or a number
/// comes before it, at the first white space (`TcpActiveOpens 4 0.0`).
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii();
    let mark = line.iter().position(|byte| matches!(byte, b':' | b'='));
    if let Some(mark) =
        mark.filter(|&mark| !text::words(&line[..mark]).skip(1).any(|w| text::number(w).is_some()))
    {
        return (line[..mark].trim_ascii_end(), &line[mark + 1..]);
    }
    let space = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    line.split_at(space)
}
