//! Writes the Prometheus text format 0.0.4 in one pass over one buffer
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). It escapes and spells; whether names are valid
//! and series unique is checked before, in `admit` and `samples`.

use std::fmt::Write as _;

use prometheus::proto::{Metric, MetricFamily, MetricType};

use crate::model::MetricKind;

/// The text so far. Writing to a `String` cannot fail, so results of `write!` are dropped.
#[derive(Debug, Default)]
pub struct Encoder {
    out: String,
}

impl Encoder {
    /// Writes where that text was.
    pub fn within(mut room: String) -> Self {
        room.clear();
        Self { out: room }
    }

    /// Makes room for so many bytes more, so that a text of known size is written without being moved.
    pub fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.out.len()
    }

    /// Starts a family; its samples must follow before the next family starts.
    pub fn family(&mut self, name: &str, kind: MetricKind, help: &str) {
        let _ = write!(self.out, "# HELP {name} ");
        escape(&mut self.out, help, false);
        let _ = writeln!(self.out, "\n# TYPE {name} {}", kind.as_str());
    }

    /// Writes one sample. `prefix` is text from [`label_text`] that many samples share, or empty.
    pub fn sample<'a>(
        &mut self,
        name: &str,
        suffix: &str,
        prefix: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        value: f64,
    ) {
        let mut tail = String::new();
        write_tail(&mut tail, labels, value);
        self.line(name, suffix, prefix, &tail);
    }

    /// The same with everything after the prefix written beforehand, by [`write_tail`].
    pub fn line(&mut self, name: &str, suffix: &str, prefix: &str, tail: &str) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        if !prefix.is_empty() {
            self.out.push('{');
            self.out.push_str(prefix);
            self.out.push_str(tail);
        } else if let Some(labels) = tail.strip_prefix(',') {
            self.out.push('{');
            self.out.push_str(labels);
        } else {
            // No label at all: no braces.
            self.out.push_str(tail.strip_prefix('}').unwrap_or(tail));
        }
    }

    /// Writes the header and samples of a family of the `prometheus` crate.
    pub fn own(&mut self, family: &MetricFamily) {
        let (name, kind) = (family.name(), own_kind(family));
        self.family(name, kind, family.help());
        for metric in family.get_metric() {
            match kind {
                MetricKind::Counter => {
                    self.own_line(name, "", metric, None, metric.get_counter().get_value());
                }
                MetricKind::Histogram => {
                    let histogram = metric.get_histogram();
                    let count = histogram.get_sample_count() as f64;
                    for bucket in histogram.get_bucket() {
                        let le = Some(bucket.upper_bound());
                        self.own_line(name, "_bucket", metric, le, bucket.cumulative_count() as f64);
                    }
                    self.own_line(name, "_bucket", metric, Some(f64::INFINITY), count);
                    self.own_line(name, "_sum", metric, None, histogram.get_sample_sum());
                    self.own_line(name, "_count", metric, None, count);
                }
                // The table of metrics makes nothing else.
                _ => self.own_line(name, "", metric, None, metric.get_gauge().get_value()),
            }
        }
    }

    fn own_line(&mut self, name: &str, suffix: &str, metric: &Metric, le: Option<f64>, value: f64) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        let mut mark = '{';
        for pair in metric.get_label() {
            self.out.push(mark);
            write_label(&mut self.out, pair.name(), pair.value());
            mark = ',';
        }
        if let Some(bound) = le {
            self.out.push(mark);
            self.out.push_str("le=\"");
            write_value(&mut self.out, bound);
            self.out.push('"');
            mark = ',';
        }
        self.out.push_str(if mark == ',' { "} " } else { " " });
        write_value(&mut self.out, value);
        self.out.push('\n');
    }

    pub fn finish(self) -> String {
        self.out
    }
}

fn own_kind(family: &MetricFamily) -> MetricKind {
    match family.get_field_type() {
        MetricType::COUNTER => MetricKind::Counter,
        MetricType::HISTOGRAM => MetricKind::Histogram,
        _ => MetricKind::Gauge,
    }
}

/// `a="x",b="y"`, escaped and without braces: what [`Encoder::sample`] takes as a prefix.
pub fn label_text(labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (label, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        write_label(&mut text, label, value);
    }
    text
}

/// What follows the prefix in a line that has one: the other labels, the value, the line feed. The value stands after the
/// last blank.
pub fn write_tail<'a>(out: &mut String, labels: impl IntoIterator<Item = (&'a str, &'a str)>, value: f64) {
    for (label, text) in labels {
        out.push(',');
        write_label(out, label, text);
    }
    out.push_str("} ");
    write_value(out, value);
    out.push('\n');
}

fn write_label(out: &mut String, label: &str, value: &str) {
    out.push_str(label);
    out.push_str("=\"");
    escape(out, value, true);
    out.push('"');
}

/// The format escapes backslash and line feed, and in label values the quote; every other character stands as it is.
fn escape(out: &mut String, text: &str, quotes: bool) {
    let mut clean = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escaped = match byte {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'"' if quotes => "\\\"",
            _ => continue,
        };
        // The three are ASCII, so `at` is a character boundary.
        out.push_str(&text[clean..at]);
        out.push_str(escaped);
        clean = at + 1;
    }
    out.push_str(&text[clean..]);
}

/// Numbers as Go's `strconv.ParseFloat` reads them; Rust would spell infinity `inf` and 1e300 with 300 digits.
fn write_value(out: &mut String, value: f64) {
    let size = value.abs();
    let _ = if value.is_nan() {
        out.write_str("NaN")
    } else if value.is_infinite() {
        out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else if size == 0.0 || (1e-6..1e17).contains(&size) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
}

#[cfg(test)]
#[path = "encode_tests.rs"]
pub(crate) mod tests;
