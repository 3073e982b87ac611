//! The checked form of a probe's `parse:` section: compiled patterns, typed scales. What reads output with it is
//! the room `parse`; what makes it from YAML is `check`.

use std::sync::Arc;

use regex::bytes::Regex;

use crate::model::MetricKind;

/// Exactly one of the six; the variant's name is the YAML key and the parser's file.
#[derive(Clone, Debug)]
pub enum Parse {
    None,
    Regex(Vec<RegexMetric>),
    Json(Vec<JsonMetric>),
    Keyvalue(Vec<KeyvalueMetric>),
    Table(Table),
    Prometheus(Passthrough),
}

impl Parse {
    /// The YAML key.
    pub fn format(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Regex(_) => "regex",
            Self::Json(_) => "json",
            Self::Keyvalue(_) => "keyvalue",
            Self::Table(_) => "table",
            Self::Prometheus(_) => "prometheus",
        }
    }

    /// The declared metrics, in their order; passthrough declares none.
    pub fn metrics(&self) -> Vec<&MetricDef> {
        match self {
            Self::None | Self::Prometheus(_) => Vec::new(),
            Self::Regex(all) => all.iter().map(|metric| &metric.def).collect(),
            Self::Json(all) => all.iter().map(|metric| &metric.def).collect(),
            Self::Keyvalue(all) => all.iter().map(|metric| &metric.def).collect(),
            Self::Table(table) => table.metrics.iter().map(|metric| &metric.def).collect(),
        }
    }
}

/// What every declared metric has.
#[derive(Clone, Debug)]
pub struct MetricDef {
    pub name: Arc<str>,
    /// Gauge or Counter.
    pub kind: MetricKind,
    pub help: Arc<str>,
    /// The parsed number is multiplied by this: 0.001 turns milliseconds into seconds.
    pub scale: f64,
    /// Labels with a fixed value, from `const_labels:`.
    pub const_labels: Vec<(Arc<str>, String)>,
}

/// `scope: line` (default) applies the pattern to each line; `whole` to the whole output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Line,
    Whole,
}

/// What becomes of several values that have the same labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    Sum,
    Max,
    Min,
}

#[derive(Clone, Debug)]
pub struct RegexMetric {
    pub def: MetricDef,
    pub pattern: Regex,
    pub scope: Scope,
    pub take: RegexTake,
    /// `aggregate:`; without it a second value with the same labels is an error.
    pub merge: Option<Merge>,
}

#[derive(Clone, Debug)]
pub enum RegexTake {
    /// `group_label: state`: each named group is a series with `state="<group name>"`.
    GroupLabel(Arc<str>),
    /// `value: GROUP`: that named group is the value, the other named groups are labels.
    Value(String),
    /// Neither: the number of matches; named groups are labels.
    Count,
}

/// One metric from JSON: `select` yields the rows, `value` and `labels` are evaluated on each.
#[derive(Clone, Debug)]
pub struct JsonMetric {
    pub def: MetricDef,
    /// Default `.`.
    pub select: super::jq::Filter,
    pub value: super::jq::Filter,
    pub labels: Vec<(Arc<str>, super::jq::Filter)>,
}

#[derive(Clone, Debug)]
pub struct KeyvalueMetric {
    pub def: MetricDef,
    pub keys: KeyMatch,
}

#[derive(Clone, Debug)]
pub enum KeyMatch {
    /// `key: TcpRetransSegs`.
    One(String),
    /// `keys: "Tcp*"` with `key_label: name`: each matching key is a series.
    Glob { pattern: globset::GlobMatcher, label: Arc<str> },
}

#[derive(Clone, Debug)]
pub struct Table {
    /// Lines to pass over before the header (or before the first row when `columns` is given).
    pub skip: usize,
    /// Names of the columns; `None` reads them from the header line.
    pub columns: Option<Vec<String>>,
    /// `None` splits at runs of white space, the last column taking the rest of the line.
    pub separator: Option<char>,
    pub metrics: Vec<TableMetric>,
}

#[derive(Clone, Debug)]
pub struct TableMetric {
    pub def: MetricDef,
    /// label name → column name.
    pub labels: Vec<(Arc<str>, String)>,
    pub take: TableTake,
}

#[derive(Clone, Debug)]
pub enum TableTake {
    /// `value: COLUMN`: one series per row.
    Value(String),
    /// `aggregate: count`: rows per set of labels.
    Count,
    /// `aggregate: sum`, `max` or `min` with `value: COLUMN`: one series per set of labels.
    Merge(Merge, String),
}

/// `prometheus: { prefix: app_ }`: only names that start with `prefix` (default all) are passed through.
#[derive(Clone, Debug)]
pub struct Passthrough {
    pub prefix: String,
}

/// The cells of a line, trimmed. Without a separator, white space parts them and cell number `most` takes the rest
/// of the line: a command's name may have spaces in it.
pub fn cells(line: &[u8], separator: Option<char>, most: usize) -> Box<dyn Iterator<Item = &[u8]> + '_> {
    let Some(separator) = separator else {
        let mut rest = line.trim_ascii();
        let mut left = most;
        return Box::new(std::iter::from_fn(move || {
            left = left.checked_sub(1).filter(|_| !rest.is_empty())?;
            let end =
                rest.iter().position(u8::is_ascii_whitespace).filter(|_| left > 0).unwrap_or(rest.len());
            let (cell, after) = rest.split_at(end);
            rest = after.trim_ascii_start();
            Some(cell)
        }));
    };
    let mut utf8 = [0; 4];
    let separator = separator.encode_utf8(&mut utf8).as_bytes().to_vec();
    let mut rest = Some(line);
    Box::new(std::iter::from_fn(move || {
        let from = rest?;
        let end = from.windows(separator.len()).position(|window| window == separator);
        rest = end.map(|end| &from[end + separator.len()..]);
        Some(from[..end.unwrap_or(from.len())].trim_ascii())
    }))
}
