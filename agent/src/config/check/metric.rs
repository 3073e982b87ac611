//! What every declared metric has: name, type, help, scale and labels; and that probes agree on them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Checker, names};
use crate::config::error::Place;
use crate::config::parse::MetricDef;
use crate::config::raw::parse::{Common, RawKind};
use crate::config::yaml::at::At;
use crate::model::MetricKind;

/// The metrics seen so far in the whole file, with help text and line: two probes may share one, but it has one help.
#[derive(Default)]
pub(super) struct Declared(HashMap<String, (String, u64)>);

/// Longest help text and longest fixed label value, in bytes: both are repeated in every scrape.
const LONGEST_TEXT: usize = 500;

impl Checker<'_> {
    pub(super) fn metric(&self, raw: &Common<'_>, declared: &mut Declared) -> MetricDef {
        let name = raw.name.value.as_str();
        self.found.ok(&raw.name.place, names::metric_name(name, raw.kind));
        let kind = match raw.kind {
            RawKind::Counter => MetricKind::Counter,
            RawKind::Gauge => MetricKind::Gauge,
        };
        let help = raw.help.value.trim();
        if help.is_empty() || help.len() > LONGEST_TEXT {
            let message = format!("the help text is empty or too long; write up to {LONGEST_TEXT} bytes");
            self.found.add(&raw.help.place, message);
        }
        self.agrees(raw.name, help, declared);
        let const_labels = raw.const_labels.iter().map(|(label, value)| {
            self.label(label, &value.place);
            if value.value.is_empty() || value.value.len() > LONGEST_TEXT {
                let message = format!("the value is empty or too long; write up to {LONGEST_TEXT} bytes");
                self.found.add(&value.place, message);
            }
            (Arc::from(label.as_str()), value.value.clone())
        });
        MetricDef {
            name: name.into(),
            kind,
            help: help.into(),
            const_labels: const_labels.collect(),
            scale: self.scale(raw.scale),
        }
    }

    /// Types need no look: a counter and a gauge cannot have the same valid name.
    fn agrees(&self, name: &At<String>, help: &str, declared: &mut Declared) {
        let first =
            declared.0.entry(name.value.clone()).or_insert_with(|| (help.to_owned(), name.place.line));
        if first.0 != help {
            let message =
                format!("{} has another help text in line {}; make both the same", name.value, first.1);
            self.found.add(&name.place, message);
        }
    }

    pub(super) fn label(&self, name: &str, place: &Place) -> Arc<str> {
        self.found.ok(place, names::label_name(name));
        name.into()
    }

    /// `labels:` of a table or of JSON: each name once checked, each value made by `value`.
    pub(super) fn labels<T>(
        &self,
        raw: &BTreeMap<String, At<String>>,
        value: impl Fn(&At<String>) -> Option<T>,
    ) -> Vec<(Arc<str>, T)> {
        let label = |(name, raw): (&String, &At<String>)| {
            let name = self.label(name, &raw.place);
            value(raw).map(|value| (name, value))
        };
        raw.iter().filter_map(label).collect()
    }

    /// A series has each label once: those from the output must not repeat the fixed ones.
    pub(super) fn distinct<'l>(
        &self,
        place: &Place,
        def: &MetricDef,
        labels: impl IntoIterator<Item = &'l str>,
    ) {
        let mut seen: BTreeSet<&str> = def.const_labels.iter().map(|(name, _)| name.as_ref()).collect();
        for name in labels {
            if !seen.insert(name) {
                self.found.add(place, format!("the label {name} is given twice; rename one of the two"));
            }
        }
    }
}
