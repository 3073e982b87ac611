//! What every format is held to: real outputs of real tools, hostile ones, and properties for any bytes.

use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::{ParseError, Parsed, parse, series, text};
use crate::config::jq::Filter;
use crate::config::parse::{
    JsonMetric, KeyMatch, KeyvalueMetric, Merge, MetricDef, Parse, Passthrough, RegexMetric, RegexTake,
    Scope, Table, TableMetric, TableTake,
};
use crate::model::MetricKind;

mod formats;
mod hostile;
mod rejects;

fn def(name: &str) -> MetricDef {
    MetricDef {
        name: name.into(),
        kind: MetricKind::Gauge,
        help: "Help.".into(),
        scale: 1.0,
        const_labels: vec![],
    }
}

fn regex(pattern: &str, scope: Scope, take: RegexTake) -> Parse {
    let pattern = ::regex::bytes::Regex::new(pattern).unwrap();
    Parse::Regex(vec![RegexMetric { def: def("m"), pattern, scope, take, merge: None }])
}

fn json(select: &str, value: &str, labels: &[(&str, &str)]) -> Parse {
    let jq = |text: &str| Filter::compile(text).unwrap();
    let labels = labels.iter().map(|(name, text)| (Arc::from(*name), jq(text))).collect();
    Parse::Json(vec![JsonMetric { def: def("m"), select: jq(select), value: jq(value), labels }])
}

fn key(key: &str, scale: f64) -> KeyvalueMetric {
    KeyvalueMetric { def: MetricDef { scale, ..def("m") }, keys: KeyMatch::One(key.to_owned()) }
}

fn glob(pattern: &str) -> KeyvalueMetric {
    let pattern = globset::Glob::new(pattern).unwrap().compile_matcher();
    KeyvalueMetric { def: def("m"), keys: KeyMatch::Glob { pattern, label: "name".into() } }
}

fn table(
    skip: usize,
    columns: Option<&str>,
    separator: Option<char>,
    labels: &[(&str, &str)],
    take: TableTake,
) -> Parse {
    let columns = columns.map(|columns| columns.split(' ').map(str::to_owned).collect());
    let labels = labels.iter().map(|(name, column)| (Arc::from(*name), (*column).to_owned())).collect();
    Parse::Table(Table {
        skip,
        columns,
        separator,
        metrics: vec![TableMetric { def: def("m"), labels, take }],
    })
}

fn passthrough() -> Parse {
    Parse::Prometheus(Passthrough { prefix: String::new() })
}

/// Every sample as `name{label="value"} number`, in order.
fn shown(parsed: &Parsed) -> Vec<String> {
    let samples = parsed.families.iter().flat_map(|family| family.samples.iter().map(move |s| (family, s)));
    samples
        .map(|(family, sample)| {
            let labels: Vec<_> = sample.labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
            format!("{}{}{{{}}} {}", family.name, sample.suffix, labels.join(","), sample.value)
        })
        .collect()
}

/// What no output may break.
fn check(parsed: &Parsed, max_series: usize) {
    let mut names = HashSet::new();
    let mut count = 0;
    for family in &parsed.families {
        assert!(names.insert(&family.name), "two families {}", family.name);
        assert!(!family.samples.is_empty() && valid_name(&family.name, true), "{family:?}");
        let mut seen = HashSet::new();
        for sample in &family.samples {
            count += 1;
            assert!(seen.insert((sample.suffix, sample.labels.clone())), "twice: {sample:?}");
            assert!(sample.labels.is_sorted_by(|a, b| a.0 < b.0), "{sample:?}");
            for (name, value) in &sample.labels {
                assert!(valid_name(name, false), "{name:?}");
                assert!(!["namespace", "pod", "container", "job", "instance"].contains(&&**name));
                assert!(!value.is_empty() && value.len() <= series::MAX_LABEL, "{value:?}");
                assert!(!value.contains(char::is_control), "{value:?}");
            }
        }
    }
    assert!(count <= max_series, "{count} series");
}

fn valid_name(name: &str, metric: bool) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (metric && c == ':');
    !name.is_empty()
        && name.chars().all(part)
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.starts_with("__")
}

/// One of every format, with labels taken from the output wherever there can be any.
fn all_formats() -> Vec<Parse> {
    let count = TableTake::Count;
    vec![
        Parse::None,
        regex(r"(?P<name>\S*)[ =](?P<v>[-\d.eE]+)", Scope::Line, RegexTake::Value("v".into())),
        regex(r"(?s)(?P<a>.)(?P<b>.)", Scope::Whole, RegexTake::GroupLabel("group".into())),
        regex(r"(?P<word>\w*)", Scope::Line, RegexTake::Count),
        json(".[]?", ".v", &[("name", ".name")]),
        json("..", "1", &[("name", ".")]),
        Parse::Keyvalue(vec![glob("*"), key("a", 2.0)]),
        table(0, None, None, &[("a", "a")], TableTake::Value("b".into())),
        table(0, Some("a b c"), None, &[("a", "a"), ("c", "c")], TableTake::Value("b".into())),
        table(1, Some("a b"), Some(','), &[("a", "a")], TableTake::Merge(Merge::Sum, "b".into())),
        table(0, Some("a b"), None, &[("b", "b")], count),
        passthrough(),
    ]
}
