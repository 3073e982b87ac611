//! Writes the Prometheus text format 0.0.4 in one pass over one buffer
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). It escapes and spells; whether names are valid
//! and series unique is checked before, in `admit` and `samples`.

use std::fmt::Write as _;

use prometheus::proto::{MetricFamily, MetricType};

use crate::model::MetricKind;

/// The text so far. Writing to a `String` cannot fail, so results of `write!` are dropped.
#[derive(Debug, Default)]
pub struct Encoder {
    out: String,
}

impl Encoder {
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
        self.out.push_str(name);
        self.out.push_str(suffix);
        self.out.push('{');
        self.out.push_str(prefix);
        for (label, text) in labels {
            if !self.out.ends_with('{') {
                self.out.push(',');
            }
            write_label(&mut self.out, label, text);
        }
        if self.out.ends_with('{') {
            self.out.pop();
        } else {
            self.out.push('}');
        }
        self.out.push(' ');
        write_value(&mut self.out, value);
        self.out.push('\n');
    }

    /// Writes the header and samples of a family of the `prometheus` crate.
    pub fn own(&mut self, family: &MetricFamily) {
        let kind = own_kind(family);
        self.family(family.name(), kind, family.help());
        for metric in family.get_metric() {
            let labels: Vec<(&str, &str)> =
                metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            let prefix = label_text(&labels);
            let name = family.name();
            match kind {
                MetricKind::Counter => self.sample(name, "", &prefix, [], metric.get_counter().get_value()),
                MetricKind::Histogram => {
                    let histogram = metric.get_histogram();
                    let count = histogram.get_sample_count() as f64;
                    for bucket in histogram.get_bucket() {
                        let mut bound = String::new();
                        write_value(&mut bound, bucket.upper_bound());
                        let le = [("le", bound.as_str())];
                        self.sample(name, "_bucket", &prefix, le, bucket.cumulative_count() as f64);
                    }
                    self.sample(name, "_bucket", &prefix, [("le", "+Inf")], count);
                    self.sample(name, "_sum", &prefix, [], histogram.get_sample_sum());
                    self.sample(name, "_count", &prefix, [], count);
                }
                // The table of metrics makes nothing else.
                _ => self.sample(name, "", &prefix, [], metric.get_gauge().get_value()),
            }
        }
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
