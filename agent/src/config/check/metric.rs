//! What every declared metric has: name, type, help, scale and labels; and that probes agree on them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Checker, names};
use crate::config::error::Place;
use crate::config::parse::MetricDef;
use crate::config::raw::parse::{Common, RawKind, RawLabels};
use crate::config::yaml::at::{At, Tried};
use crate::model::MetricKind;

/// The metrics seen so far in the whole file, with help text and line: two probes may share one, but it has one help.
#[derive(Default)]
pub(in crate::config) struct Declared(HashMap<String, (String, u64)>);

/// Longest help text and longest fixed label value, in bytes: both are repeated in every scrape.
const LONGEST_TEXT: usize = 500;

impl Checker<'_> {
    pub(super) fn metric(&self, raw: &Common<'_>, declared: &mut Declared) -> Option<MetricDef> {
        if let Some(name) = raw.name {
            self.found.ok(&name.place, names::metric_name(&name.value, raw.kind));
        }
        let help = raw.help.map(|help| help.value.trim());
        if let (Some(raw), Some(help)) = (raw.help, help)
            && (help.is_empty() || help.len() > LONGEST_TEXT)
        {
            let message = format!("the help text is empty or too long; write up to {LONGEST_TEXT} bytes");
            self.found.add(&raw.place, message);
        }
        // A shipped probe takes over the words of the operator's own: neither is to be changed for the other.
        let theirs = raw.name.filter(|_| self.included).and_then(|name| declared.0.get(&name.value)).cloned();
        let help = theirs.as_ref().map_or(help, |(theirs, _)| Some(theirs.as_str()));
        if let (Some(name), Some(help)) = (raw.name, help) {
            self.agrees(name, help, declared);
        }
        let const_labels = self.labels(raw.const_labels, |value| {
            if value.value.is_empty() || value.value.len() > LONGEST_TEXT {
                let message = format!("the value is empty or too long; write up to {LONGEST_TEXT} bytes");
                self.found.add(&value.place, message);
            }
            Some(value.value.clone())
        });
        let scale = self.scale(raw.scale);
        let kind = match raw.kind? {
            RawKind::Counter => MetricKind::Counter,
            RawKind::Gauge => MetricKind::Gauge,
        };
        Some(MetricDef {
            name: raw.name?.value.as_str().into(),
            kind,
            help: help?.into(),
            const_labels,
            scale,
        })
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

    /// `labels:` of a table or of JSON, and `const_labels:`: each name is checked, each value made by `value`.
    pub(super) fn labels<T>(
        &self,
        raw: Option<&RawLabels>,
        value: impl Fn(&At<String>) -> Option<T>,
    ) -> Vec<(Arc<str>, T)> {
        let label = |(name, raw): (&String, &Tried<At<String>>)| {
            let raw = raw.get()?;
            let name = self.label(name, &raw.place);
            value(raw).map(|value| (name, value))
        };
        raw.into_iter().flatten().filter_map(label).collect()
    }

    /// A series has each label once: those from the output must not repeat the fixed ones.
    pub(super) fn distinct<'l>(
        &self,
        place: &Place,
        fixed: Option<&RawLabels>,
        labels: impl IntoIterator<Item = &'l str>,
    ) {
        let mut seen: BTreeSet<&str> = fixed.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        for name in labels {
            if !seen.insert(name) {
                self.found.add(place, format!("the label {name} is given twice; rename one of the two"));
            }
        }
    }
}
