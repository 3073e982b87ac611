//! A probe's `parse:` section.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::metric::Declared;
use super::{Checker, names};
use crate::config::error::Place;
use crate::config::jq::Filter;
use crate::config::parse::{
    JsonMetric, KeyMatch, KeyvalueMetric, MetricDef, Parse, Passthrough, RegexMetric, RegexTake, Scope,
    Table, TableMetric, TableTake,
};
use crate::config::raw::parse::{
    RawAggregate, RawColumn, RawJson, RawKeyvalue, RawKind, RawParse, RawRegex, RawScope, RawTable,
};
use crate::config::yaml::at::{At, Tried};

/// A compiled pattern's bound in bytes: ten times what large real ones need, and it stops `(\w{1000}){1000}`.
const PATTERN_SIZE: usize = 1 << 20;

impl Checker<'_> {
    pub(super) fn parse(&self, raw: &RawParse, declared: &mut Declared) -> Parse {
        match raw {
            RawParse::None => Parse::None,
            RawParse::Regex(list) => Parse::Regex(self.each(list, |metric| self.regex(metric, declared))),
            RawParse::Json(list) => Parse::Json(self.each(list, |metric| self.json(metric, declared))),
            RawParse::Keyvalue(list) => {
                Parse::Keyvalue(self.each(list, |metric| self.keyvalue(metric, declared)))
            }
            RawParse::Table(table) => Parse::Table(self.table(&table.value, declared)),
            RawParse::Prometheus(raw) => {
                if let Some(prefix) = &raw.prefix {
                    self.found.ok(&prefix.place, names::prefix(&prefix.value));
                }
                let prefix = raw.prefix.as_ref().map(|prefix| prefix.value.clone()).unwrap_or_default();
                Parse::Prometheus(Passthrough { prefix })
            }
        }
    }

    fn each<R, T>(&self, list: &At<Vec<Tried<At<R>>>>, mut one: impl FnMut(&At<R>) -> Option<T>) -> Vec<T> {
        if list.value.is_empty() {
            self.found.add(&list.place, "the list is empty; declare a metric or write `parse: none`");
        }
        list.value.iter().filter_map(|tried| tried.0.as_ref()).filter_map(&mut one).collect()
    }

    fn regex(&self, raw: &At<RawRegex>, declared: &mut Declared) -> Option<RegexMetric> {
        let At { place, value: raw } = raw;
        let def = self.metric(&raw.common(), declared);
        let scope = match raw.scope {
            Some(RawScope::Whole) => Scope::Whole,
            Some(RawScope::Line) | None => Scope::Line,
        };
        let pattern = self.pattern(&raw.pattern)?;
        let groups: Vec<&str> = pattern.capture_names().flatten().collect();
        let take = match (&raw.group_label, &raw.value) {
            (Some(label), None) => {
                if groups.is_empty() {
                    let message = "no named group, but group_label needs one; write (?P<estab>\\d+)";
                    self.found.add(&raw.pattern.place, message);
                }
                let name = self.label(&label.value, &label.place);
                self.distinct(&label.place, &def, [label.value.as_str()]);
                RegexTake::GroupLabel(name)
            }
            (None, Some(group)) => {
                if !groups.contains(&group.value.as_str()) {
                    let message =
                        format!("the pattern has no group {0:?}; write (?P<{0}>...) in it", group.value);
                    self.found.add(&group.place, message);
                }
                self.group_labels(raw, &def, groups.iter().copied().filter(|name| *name != group.value));
                RegexTake::Value(group.value.clone())
            }
            (None, None) => {
                self.group_labels(raw, &def, groups.iter().copied());
                self.counts(raw.kind, place);
                RegexTake::Count
            }
            (Some(_), Some(_)) => {
                self.found.add(place, "group_label and value exclude each other; write one of them");
                return None;
            }
        };
        Some(RegexMetric { def, pattern, scope, take })
    }

    fn group_labels<'g>(
        &self,
        raw: &RawRegex,
        def: &MetricDef,
        groups: impl Iterator<Item = &'g str> + Clone,
    ) {
        for group in groups.clone() {
            self.label(group, &raw.pattern.place);
        }
        self.distinct(&raw.pattern.place, def, groups);
    }

    fn pattern(&self, raw: &At<String>) -> Option<Regex> {
        // The library explains over several lines with a caret; the last line says it.
        let message = |error: regex::Error| {
            let full = error.to_string();
            let last = full
                .lines()
                .last()
                .unwrap_or_default()
                .trim()
                .trim_start_matches("error: ")
                .trim_end_matches('.')
                .to_owned();
            format!("not a regular expression: {last}; see https://docs.rs/regex for the syntax")
        };
        let mut builder = RegexBuilder::new(&raw.value);
        let pattern = builder.size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE).build().map_err(message);
        self.found.ok(&raw.place, pattern)
    }

    fn json(&self, raw: &At<RawJson>, declared: &mut Declared) -> Option<JsonMetric> {
        let At { place, value: raw } = raw;
        let def = self.metric(&raw.common(), declared);
        let every = At { place: place.clone(), value: ".".to_owned() };
        let select = self.filter(raw.select.as_ref().unwrap_or(&every));
        let value = self.filter(&raw.value);
        let labels = self.labels(&raw.labels, |filter| self.filter(filter));
        self.distinct(place, &def, labels.iter().map(|(name, _)| name.as_ref()));
        Some(JsonMetric { def, select: select?, value: value?, labels })
    }

    fn filter(&self, raw: &At<String>) -> Option<Filter> {
        let filter = Filter::compile(&raw.value)
            .map_err(|message| format!("not a jq expression: {message}; write one such as .stats.rx_bytes"));
        self.found.ok(&raw.place, filter)
    }

    fn keyvalue(&self, raw: &At<RawKeyvalue>, declared: &mut Declared) -> Option<KeyvalueMetric> {
        let At { place, value: raw } = raw;
        let def = self.metric(&raw.common(), declared);
        let keys = match (&raw.key, &raw.keys, &raw.key_label) {
            (Some(key), None, None) => Some(KeyMatch::One(key.value.clone())),
            (None, Some(keys), Some(label)) => {
                let pattern = self.glob(&keys.value, &keys.place);
                let name = self.label(&label.value, &label.place);
                self.distinct(&label.place, &def, [label.value.as_str()]);
                pattern.map(|pattern| KeyMatch::Glob { pattern, label: name })
            }
            _ => {
                self.found.add(place, "write either key, or keys together with key_label");
                None
            }
        };
        Some(KeyvalueMetric { def, keys: keys? })
    }

    fn table(&self, raw: &RawTable, declared: &mut Declared) -> Table {
        let mut metrics = Vec::new();
        let columns = raw.columns.as_ref();
        if let Some(At { place, value: columns }) = columns {
            let twice = columns.iter().enumerate().find(|(i, name)| columns[..*i].contains(name));
            if let Some((_, name)) = twice {
                self.found.add(place, format!("the column {name:?} is named twice; rename one of the two"));
            }
            if columns.is_empty() {
                self.found
                    .add(place, "the list is empty; name the columns or leave it out to read the header");
            }
        }
        let separator = raw.separator.as_ref().and_then(|raw| {
            let mut chars = raw.value.chars();
            let one = chars.next().filter(|c| *c != '\n' && chars.next().is_none());
            self.found.ok(&raw.place, one.ok_or("write exactly one character, not a new line"))
        });
        let known = columns.map(|columns| columns.value.as_slice());
        metrics.extend(self.each(&raw.metrics, |metric| self.column(metric, known, declared)));
        Table {
            skip: self.count(raw.skip.as_ref(), 0, 0..=1000),
            columns: columns.map(|columns| columns.value.clone()),
            separator,
            metrics,
        }
    }

    fn column(
        &self,
        raw: &At<RawColumn>,
        known: Option<&[String]>,
        declared: &mut Declared,
    ) -> Option<TableMetric> {
        let At { place, value: raw } = raw;
        let def = self.metric(&raw.common(), declared);
        let column = |raw: &At<String>| {
            if known.is_some_and(|known| !known.contains(&raw.value)) {
                self.found
                    .add(&raw.place, format!("there is no column {:?}; name one of `columns:`", raw.value));
            }
            Some(raw.value.clone())
        };
        let labels: Vec<(Arc<str>, String)> = self.labels(&raw.labels, column);
        self.distinct(place, &def, labels.iter().map(|(name, _)| name.as_ref()));
        let value = raw.value.as_ref().and_then(column);
        let take = match (raw.aggregate.as_ref().map(|raw| raw.value), value) {
            (None, Some(value)) => Some(TableTake::Value(value)),
            (Some(RawAggregate::Sum), Some(value)) => Some(TableTake::Sum(value)),
            (Some(RawAggregate::Count), None) => {
                self.counts(raw.kind, place);
                Some(TableTake::Count)
            }
            (Some(RawAggregate::Count), Some(_)) => {
                self.found
                    .add(place, "aggregate: count counts rows and takes no value; remove one of the two");
                None
            }
            (Some(RawAggregate::Sum) | None, None) => {
                self.found.add(place, "no value; name its column, or write aggregate: count to count rows");
                None
            }
        };
        Some(TableMetric { def, labels, take: take? })
    }

    /// A count of what is there now falls as well as it rises.
    fn counts(&self, kind: RawKind, place: &Place) {
        if matches!(kind, RawKind::Counter) {
            self.found.add(place, "a number of lines goes up and down; write type: gauge");
        }
    }
}
