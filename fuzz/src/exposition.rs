//! A strict reader of the Prometheus text format 0.0.4, written from the format's page and from the two programs that
//! read it (Prometheus and the parser behind `promtool check metrics`), not from the encoder. It exists because promtool
//! cannot be started a hundred million times; `cargo xtask fuzz --promtool` holds it to promtool.

use std::collections::{HashMap, HashSet};

/// Names and values.
type Labels = Vec<(String, String)>;

/// What a page holds: name of a family → its samples. Fails with what is wrong, and in which line.
pub fn read(page: &[u8], longest_label: usize) -> Result<HashMap<String, Vec<Sample>>, String> {
    let text = std::str::from_utf8(page).map_err(|error| format!("not UTF-8: {error}"))?;
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    let mut reader = Reader { longest_label, ..Reader::default() };
    for line in text.split_terminator('\n') {
        reader.line(line).map_err(|wrong| format!("{wrong}, in {line:?}"))?;
    }
    reader.end()
}

/// One sample, its labels in order of name.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Of the sample, with the suffix.
    pub name: String,
    pub labels: Labels,
    pub value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Plain,
    Histogram,
    Summary,
}

#[derive(Debug, Default)]
struct Reader {
    longest_label: usize,
    families: HashMap<String, Vec<Sample>>,
    kinds: HashMap<String, Kind>,
    series: HashSet<String>,
    /// The family whose samples may follow.
    current: String,
    /// Its HELP has come and its TYPE not yet.
    helped: bool,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("HELP without a text")?;
            if !is_name(name, true) || self.helped {
                return Err("HELP that stands wrong".into());
            }
            unescaped(help, false)?;
            name.clone_into(&mut self.current);
            self.helped = true;
            let first = self.families.insert(name.to_owned(), Vec::new()).is_none();
            return first.then_some(()).ok_or_else(|| "a family that comes twice".into());
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("TYPE without a type")?;
            if name != self.current || !std::mem::take(&mut self.helped) {
                return Err("TYPE that does not follow its HELP".into());
            }
            let kind = match kind {
                "counter" | "gauge" | "untyped" => Kind::Plain,
                "histogram" => Kind::Histogram,
                "summary" => Kind::Summary,
                _ => return Err("a type that is none".into()),
            };
            self.kinds.insert(name.to_owned(), kind);
            return Ok(());
        }
        if self.helped {
            return Err("a HELP without its TYPE".into());
        }
        self.sample(line)
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let end = line.find(['{', ' ']).ok_or("no value")?;
        let (name, mut rest) = line.split_at(end);
        let kind = *self.kinds.get(&self.current).ok_or("a sample without a family")?;
        let suffix = name.strip_prefix(self.current.as_str()).ok_or("a sample of another family")?;
        let allowed: &[&str] = match kind {
            Kind::Plain => &[""],
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            Kind::Summary => &["", "_sum", "_count"],
        };
        if !is_name(name, true) || !allowed.contains(&suffix) {
            return Err("a name that does not belong".into());
        }
        let mut labels = Vec::new();
        if rest.starts_with('{') {
            (labels, rest) = self.labels(&rest[1..])?;
        }
        labels.sort();
        if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err("a label that comes twice".into());
        }
        // Both are read as numbers by promtool, in every sample of such a family.
        let number = match kind {
            Kind::Plain => None,
            Kind::Histogram => labels.iter().find(|(name, _)| name == "le"),
            Kind::Summary => labels.iter().find(|(name, _)| name == "quantile"),
        };
        let needed = matches!((kind, suffix), (Kind::Histogram, "_bucket") | (Kind::Summary, ""));
        if (needed && number.is_none()) || number.is_some_and(|(_, text)| float(text).is_none()) {
            return Err("le or quantile is no number".into());
        }
        let value = rest.strip_prefix(' ').and_then(float).ok_or("a value that is no number")?;
        if !self.series.insert(format!("{name}{labels:?}")) {
            return Err("a series that comes twice".into());
        }
        let family = self.families.entry(self.current.clone()).or_default();
        family.push(Sample { name: name.to_owned(), labels, value });
        Ok(())
    }

    /// Reads `a="b",c="d"}`; what follows it is the second half.
    fn labels<'l>(&self, mut rest: &'l str) -> Result<(Labels, &'l str), String> {
        let mut labels = Vec::new();
        loop {
            let (name, after) = rest.split_once("=\"").ok_or("a label without a value")?;
            if !is_name(name, false) || name.starts_with("__") {
                return Err("a label's name that is none".into());
            }
            let end = closing_quote(after).ok_or("a quote that does not close")?;
            let value = unescaped(&after[..end], true)?;
            if value.len() > self.longest_label {
                return Err(format!("a label of {} bytes", value.len()));
            }
            labels.push((name.to_owned(), value));
            rest = &after[end + 1..];
            if let Some(after) = rest.strip_prefix('}') {
                return Ok((labels, after));
            }
            rest = rest.strip_prefix(',').ok_or("labels that are not parted by a comma")?;
        }
    }

    fn end(self) -> Result<HashMap<String, Vec<Sample>>, String> {
        if self.helped {
            return Err("a HELP without its TYPE at the end".into());
        }
        // `x_count` of a histogram `x` and a family `x_count` are the same name to whoever reads the page.
        for (name, kind) in self.kinds.iter().filter(|(_, kind)| **kind != Kind::Plain) {
            for suffix in ["_bucket", "_sum", "_count"] {
                if self.kinds.contains_key(&format!("{name}{suffix}")) {
                    return Err(format!("{name} is a {kind:?}, and {name}{suffix} another family"));
                }
            }
        }
        Ok(self.families)
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`, for labels without the colons.
fn is_name(name: &str, metric: bool) -> bool {
    let mut bytes = name.bytes();
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || (metric && byte == b':');
    bytes.next().is_some_and(first) && bytes.all(|byte| first(byte) || byte.is_ascii_digit())
}

/// Where the quote is that no backslash stands before.
fn closing_quote(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at),
            b'\\' => _ = bytes.next()?,
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str, label: bool) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if label => '"',
                other => return Err(format!("a backslash before {other:?}")),
            },
            other => other,
        });
    }
    Ok(plain)
}

/// What Go's `strconv.ParseFloat` takes, without its hexadecimal forms and underscores. Rust takes more: a sign before
/// NaN; and 1e999, which Go refuses as out of range.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    match lower.as_str() {
        "nan" => return (unsigned.len() == text.len()).then_some(f64::NAN),
        "inf" | "infinity" => {
            return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        _ => {}
    }
    let (mantissa, exponent) = lower.split_once('e').map_or((lower.as_str(), None), |(m, e)| (m, Some(e)));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_digits = digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty());
    let exponent_is_one = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    let value: f64 = text.parse().ok()?;
    (has_digits && exponent_is_one && value.is_finite()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_pages_are_read() {
        let page = "# HELP a A\\\\b\\n.\n# TYPE a gauge\na 1\na{x=\"q\\\"\\\\\\n{},\"} -1.5e-7\n# HELP h \n\
                    # TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum NaN\nh_count 2\n";
        let families = read(page.as_bytes(), 10).unwrap();
        assert_eq!((families["a"].len(), families["h"].len()), (2, 3));
        assert_eq!(families["a"][1].labels, [("x".to_owned(), "q\"\\\n{},".to_owned())]);
    }

    #[test]
    fn bad_pages_are_refused() {
        for bad in [
            "a 1",
            "x 1",
            "a",
            "a ",
            "a 1e999",
            "a +NaN",
            "a 0x1",
            "a 1 2",
            "a{} 1",
            "a{b=\"\\q\"} 1",
            "a{b=\"1\",b=\"2\"} 1",
            "a{__b=\"1\"} 1",
            "a{1=\"1\"} 1",
            "a{b=\"12345678901\"} 1",
            "a_sum 1",
            "# TYPE a gauge",
            "# HELP a again\n# TYPE a gauge",
            "# HELP b B\nb 1",
            "# HELP b \\q\n# TYPE b gauge",
            "# HELP b B\n# TYPE b enum",
            "# HELP b B\n# TYPE b summary\nb 1",
            "# HELP b B\n# TYPE b summary\nb_sum{quantile=\"x\"} 1",
            "# HELP b B\n# TYPE b histogram\nb_bucket{le=\"-NaN\"} 1",
            "# HELP b B\n# TYPE b histogram\n# HELP b_sum B\n# TYPE b_sum gauge",
            "",
        ] {
            let page = format!("# HELP a A\n# TYPE a gauge\na 1\n{bad}\n");
            assert!(read(page.as_bytes(), 10).is_err(), "{bad}");
        }
        assert!(read(b"# HELP a A\n# TYPE a gauge\na 1", 10).is_err(), "no end");
        assert!(read(b"# HELP a \xff\n# TYPE a gauge\n", 10).is_err(), "not UTF-8");
    }
}
