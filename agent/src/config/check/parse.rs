//! A probe's `parse:` section.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::metric::Declared;
use super::{Checker, names};
use crate::config::error::Place;
use crate::config::jq::Filter;
use crate::config::parse::{
    JsonMetric, KeyMatch, KeyvalueMetric, Merge, Parse, Passthrough, RegexMetric, RegexTake, Scope, Table,
    TableMetric, TableTake,
};
use crate::config::raw::parse::{
    RawAggregate, RawColumn, RawJson, RawKeyvalue, RawKind, RawMerge, RawParse, RawRegex, RawScope, RawTable,
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
                let prefix = raw.prefix.as_ref().and_then(Tried::get);
                if let Some(prefix) = prefix {
                    self.found.ok(&prefix.place, names::prefix(&prefix.value));
                }
                Parse::Prometheus(Passthrough {
                    prefix: prefix.map(|raw| raw.value.clone()).unwrap_or_default(),
                })
            }
        }
    }

    fn each<R, T>(&self, list: &At<Vec<Tried<At<R>>>>, mut one: impl FnMut(&At<R>) -> Option<T>) -> Vec<T> {
        if list.value.is_empty() {
            self.found.add(&list.place, "the list is empty; declare a metric or write `parse: none`");
        }
        list.value.iter().filter_map(Tried::get).filter_map(&mut one).collect()
    }

    fn regex(&self, raw: &At<RawRegex>, declared: &mut Declared) -> Option<RegexMetric> {
        let At { place, value: raw } = raw;
        let def = self.metric(&raw.common(), declared);
        let scope = match raw.scope.as_ref().and_then(Tried::get) {
            Some(RawScope::Whole) => Scope::Whole,
            Some(RawScope::Line) | None => Scope::Line,
        };
        let label = raw.group_label.as_ref().and_then(Tried::get);
        if let Some(label) = label {
            self.label(&label.value, &label.place);
            self.distinct(&label.place, raw.common().const_labels, [label.value.as_str()]);
        }
        if raw.group_label.is_some() && raw.value.is_some() {
            self.found.add(place, "group_label and value exclude each other; write one of them");
        }
        let merge = raw.aggregate.as_ref().and_then(Tried::get);
        if raw.group_label.is_none() && raw.value.is_none() {
            self.counts(raw.common().kind, place);
            if let Some(At { place, .. }) = merge {
                self.found.add(
                    place,
                    "there are no values: matches are counted; remove it, or write value or group_label",
                );
            }
        }
        let At { place, value: text } = raw.pattern.get()?;
        let pattern = self.pattern(text, place)?;
        let groups: Vec<&str> = pattern.capture_names().flatten().collect();
        let value = raw.value.as_ref().and_then(Tried::get);
        if raw.group_label.is_some() && groups.is_empty() {
            let message = "no named group, but group_label needs one; write (?P<estab>\\d+)";
            self.found.add(place, message);
        }
        if let Some(At { place, value: group }) =
            value.filter(|value| !groups.contains(&value.value.as_str()))
        {
            self.found
                .add(place, format!("the pattern has no group {group:?}; write (?P<{group}>...) in it"));
        }
        if raw.group_label.is_none() {
            let is_value = |group: &&str| value.is_some_and(|value| value.value == **group);
            let labels = groups.iter().copied().filter(|group| !is_value(group));
            for group in labels.clone() {
                self.label(group, place);
            }
            self.distinct(place, raw.common().const_labels, labels);
        }
        let take = match (label, value) {
            (Some(label), _) => RegexTake::GroupLabel(label.value.as_str().into()),
            (None, Some(group)) => RegexTake::Value(group.value.clone()),
            (None, None) => RegexTake::Count,
        };
        let merge = merge.map(|merge| match merge.value {
            RawMerge::Sum => Merge::Sum,
            RawMerge::Max => Merge::Max,
            RawMerge::Min => Merge::Min,
        });
        Some(RegexMetric { def: def?, pattern, scope, take, merge })
    }

    fn pattern(&self, text: &str, place: &Place) -> Option<Regex> {
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
        let mut builder = RegexBuilder::new(text);
        let pattern = builder.size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE).build().map_err(message);
        self.found.ok(place, pattern)
    }

    fn json(&self, raw: &At<RawJson>, declared: &mut Declared) -> Option<JsonMetric> {
        let At { place, value: raw } = raw;
        let def = self.metric(&raw.common(), declared);
        let every = At { place: place.clone(), value: ".".to_owned() };
        let select = match &raw.select {
            None => self.filter(&every),
            Some(select) => select.get().and_then(|select| self.filter(select)),
        };
        let value = raw.value.get().and_then(|value| self.filter(value));
        let labels = self.labels(raw.labels.as_ref().and_then(Tried::get), |filter| self.filter(filter));
        self.distinct(place, raw.common().const_labels, labels.iter().map(|(name, _)| name.as_ref()));
        Some(JsonMetric { def: def?, select: select?, value: value?, labels })
    }

    fn filter(&self, raw: &At<String>) -> Option<Filter> {
        let filter = Filter::compile(&raw.value)
            .map_err(|message| format!("not a jq expression: {message}; write one such as .stats.rx_bytes"));
        self.found.ok(&raw.place, filter)
    }

    fn keyvalue(&self, raw: &At<RawKeyvalue>, declared: &mut Declared) -> Option<KeyvalueMetric> {
        let At { place, value: raw } = raw;
        let def = self.metric(&raw.common(), declared);
        let keys = raw.keys.as_ref().and_then(Tried::get);
        let pattern = keys.and_then(|keys| self.glob(&keys.value, &keys.place));
        let label = raw.key_label.as_ref().and_then(Tried::get).map(|label| {
            self.distinct(&label.place, raw.common().const_labels, [label.value.as_str()]);
            self.label(&label.value, &label.place)
        });
        let keys = match (&raw.key, &raw.keys, &raw.key_label) {
            (Some(key), None, None) => KeyMatch::One(key.get()?.value.clone()),
            (None, Some(_), Some(_)) => KeyMatch::Glob { pattern: pattern?, label: label? },
            _ => {
                self.found.add(place, "write either key, or keys together with key_label");
                return None;
            }
        };
        Some(KeyvalueMetric { def: def?, keys })
    }

    fn table(&self, raw: &RawTable, declared: &mut Declared) -> Table {
        let written = raw.columns.as_ref().and_then(Tried::get);
        // None also where one of them could not be read: then nobody can say which columns there are.
        let columns: Option<Vec<String>> =
            written.and_then(|columns| columns.value.iter().map(|name| name.get().cloned()).collect());
        if let (Some(At { place, .. }), Some(columns)) = (written, &columns) {
            let twice = columns.iter().enumerate().find(|(i, name)| columns[..*i].contains(name));
            if let Some((_, name)) = twice {
                self.found.add(place, format!("the column {name:?} is named twice; rename one of the two"));
            }
            if columns.is_empty() {
                self.found
                    .add(place, "the list is empty; name the columns or leave it out to read the header");
            }
        }
        let separator = raw.separator.as_ref().and_then(Tried::get).and_then(|raw| {
            let mut chars = raw.value.chars();
            let one = chars.next().filter(|c| *c != '\n' && chars.next().is_none());
            self.found.ok(&raw.place, one.ok_or("write exactly one character, not a new line"))
        });
        let metrics = raw
            .metrics
            .get()
            .map(|metrics| self.each(metrics, |metric| self.column(metric, columns.as_deref(), declared)));
        Table {
            skip: self.count(raw.skip.as_ref(), 0, 0..=1000),
            columns,
            separator,
            metrics: metrics.unwrap_or_default(),
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
        let labels: Vec<(Arc<str>, String)> = self.labels(raw.labels.as_ref().and_then(Tried::get), column);
        self.distinct(place, raw.common().const_labels, labels.iter().map(|(name, _)| name.as_ref()));
        let value = raw.value.as_ref().and_then(Tried::get).and_then(column);
        let aggregate = match &raw.aggregate {
            None => None,
            Some(aggregate) => Some(aggregate.get()?.value),
        };
        let take = match (aggregate, &raw.value) {
            (None, Some(_)) => TableTake::Value(value?),
            (Some(RawAggregate::Sum), Some(_)) => TableTake::Merge(Merge::Sum, value?),
            (Some(RawAggregate::Max), Some(_)) => TableTake::Merge(Merge::Max, value?),
            (Some(RawAggregate::Min), Some(_)) => TableTake::Merge(Merge::Min, value?),
            (Some(RawAggregate::Count), None) => {
                self.counts(raw.common().kind, place);
                TableTake::Count
            }
            (Some(RawAggregate::Count), Some(_)) => {
                self.found
                    .add(place, "aggregate: count counts rows and takes no value; remove one of the two");
                return None;
            }
            (Some(RawAggregate::Sum | RawAggregate::Max | RawAggregate::Min) | None, None) => {
                self.found.add(place, "no value; name its column, or write aggregate: count to count rows");
                return None;
            }
        };
        Some(TableMetric { def: def?, labels, take })
    }

    /// A count of what is there now falls as well as it rises.
    fn counts(&self, kind: Option<RawKind>, place: &Place) {
        if matches!(kind, Some(RawKind::Counter)) {
            self.found.add(place, "a number of lines goes up and down; write type: gauge");
        }
    }
}
