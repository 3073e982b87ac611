//! `parachute run PROBE --explain`: what each line of an output gave, by which of the probe's metrics, or why nothing did.
//! It says what the parsers noted while they worked, and knows no format itself.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::captures::visible;
use crate::config::Probe;
use crate::config::parse::Parse;
use crate::parse::{Came, Explained, Step, What};

/// Lines or rows that are shown, and characters of each.
const LINES: usize = 5_000;
const WIDTH: usize = 160;

/// The whole text, for a person's terminal.
pub(super) fn explain(probe: &Probe, output: &[u8]) -> String {
    let explained = crate::parse::explain(&probe.parse, output, probe.max_series);
    let format = probe.parse.format();
    let mut text = format!("{}, parse: {format}\n", probe.name);
    for (number, def) in probe.parse.metrics().iter().enumerate() {
        let _ = writeln!(text, "  {format}[{number}] {}", def.name);
    }
    let rows: Vec<&Step> = explained.steps.iter().filter(|step| step.line.is_none()).collect();
    let mut told = Told::default();
    if matches!(probe.parse, Parse::None) {
        text += "nothing is looked for: its output is for people\n";
    } else if matches!(probe.parse, Parse::Json(_)) {
        by_row(&rows, format, &mut told, &mut text);
    } else {
        for step in rows {
            text += &line_of(step, format);
        }
        by_line(&explained, output, format, &mut told, &mut text);
    }
    totals(&explained, probe.max_series, &told, &mut text);
    text
}

/// Lines or rows by what came of them.
#[derive(Default)]
struct Told {
    what: &'static str,
    samples: usize,
    errors: usize,
    passed: usize,
    nothing: usize,
    unshown: usize,
}

impl Told {
    fn count(&mut self, steps: &[&Step]) {
        let has = |wanted: fn(&What) -> bool| steps.iter().any(|step| wanted(&step.what));
        let counter = if has(|what| matches!(what, What::Bad(_))) {
            &mut self.errors
        } else if has(|what| matches!(what, What::Sample { .. })) {
            &mut self.samples
        } else if has(|what| matches!(what, What::Passed(_))) {
            &mut self.passed
        } else {
            &mut self.nothing
        };
        *counter += 1;
    }
}

fn by_line(explained: &Explained, output: &[u8], format: &str, told: &mut Told, text: &mut String) {
    told.what = "lines";
    let mut steps: BTreeMap<usize, Vec<&Step>> = BTreeMap::new();
    for step in &explained.steps {
        step.line.into_iter().for_each(|line| steps.entry(line).or_default().push(step));
    }
    let output = output.strip_suffix(b"\n").unwrap_or(output);
    let lines = output.split(|byte| *byte == b'\n').zip(1..);
    for (line, number) in lines.filter(|_| !output.is_empty()) {
        let steps = steps.remove(&number).unwrap_or_default();
        if steps.is_empty() && line.iter().all(u8::is_ascii_whitespace) {
            let _ = writeln!(text, "{number:5} |");
            continue;
        }
        let known = explained.untold == 0 || !steps.is_empty();
        if known {
            told.count(&steps);
        }
        if number > LINES || !known {
            told.unshown += 1;
            continue;
        }
        let _ = writeln!(text, "{number:5} | {}", shown(line));
        if steps.is_empty() {
            *text += "      - nothing\n";
        }
        for step in steps {
            *text += &line_of(step, format);
        }
    }
}

/// Each metric goes through all rows; here each row has all of its metrics.
fn by_row(steps: &[&Step], format: &str, told: &mut Told, text: &mut String) {
    told.what = "rows";
    let mut order: Vec<(Option<&str>, Vec<&Step>)> = Vec::new();
    let mut places: BTreeMap<Option<(usize, &str)>, usize> = BTreeMap::new();
    for step in steps {
        let row = step.row.as_ref().map(|(number, row)| (*number, row.as_ref()));
        let place = *places.entry(row).or_insert_with(|| {
            order.push((row.map(|(_, row)| row), Vec::new()));
            order.len() - 1
        });
        order[place].1.push(step);
    }
    for (number, (row, steps)) in order.iter().enumerate() {
        told.count(steps);
        if number >= LINES {
            told.unshown += 1;
            continue;
        }
        let _ = writeln!(text, "  row | {}", shown(row.unwrap_or_default().as_bytes()));
        for step in steps {
            *text += &line_of(step, format);
        }
    }
}

fn line_of(step: &Step, format: &str) -> String {
    let rule = step.rule.map(|rule| format!("{format}[{rule}] ")).unwrap_or_default();
    match &step.what {
        What::Sample { name, labels, value, came } => {
            let quoted = |value: &str| visible(&value.replace('\\', "\\\\").replace('"', "\\\""));
            let labels: Vec<_> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", quoted(value))).collect();
            let braces = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let came = match came {
                Came::New => String::new(),
                Came::Together(now) => format!(", together {now}"),
                Came::Cut => ", cut: there are max_series of them".to_owned(),
            };
            format!("      = {rule}{name}{braces} {value}{came}\n")
        }
        What::Bad(why) => format!("      ! {rule}error: {}\n", visible(why)),
        What::Unmatched(why) => format!("      - nothing: {}\n", visible(why)),
        What::Passed(why) => format!("      - passed over: {why}\n"),
    }
}

fn totals(explained: &Explained, max_series: usize, told: &Told, text: &mut String) {
    let Told { what, samples, errors, passed, nothing, unshown } = told;
    if *unshown > 0 || explained.untold > 0 {
        let _ = writeln!(text, "{unshown} more {what} and {} more steps are not shown", explained.untold);
    }
    if !what.is_empty() {
        let _ = writeln!(
            text,
            "{what}: {samples} gave samples, {errors} have an error, {passed} passed over, {nothing} gave nothing"
        );
    }
    match &explained.end {
        Ok(parsed) => {
            let series: usize = parsed.families.iter().map(|family| family.samples.len()).sum();
            let (errors, cut) = (parsed.errors, parsed.dropped);
            let metrics = parsed.families.len();
            let _ = writeln!(
                text,
                "series: {series} of {metrics} metrics, {errors} errors, {cut} cut by max_series {max_series}"
            );
        }
        Err(error) => {
            let _ = writeln!(text, "nothing is published: {}", visible(&error.to_string()));
        }
    }
}

/// A piece of the output with what deceives made visible, as much as one looks at.
fn shown(line: &[u8]) -> String {
    let all = visible(&String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)));
    match all.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", all.get(..end).unwrap_or_default()),
        None => all,
    }
}
