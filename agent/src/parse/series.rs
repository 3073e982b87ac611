//! Collects samples under the rules that every format shares: bounded, clean, no two alike.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::Parsed;
use super::noted::Noted;
use super::text::{Line, MAX_LINE};
use crate::config::parse::MetricDef;
use crate::model::{Family, MetricKind, Sample};

/// Longest label value in bytes.
pub(super) const MAX_LABEL: usize = 128;

pub(super) type Labels = Vec<(Arc<str>, String)>;

pub(super) struct Series<'o> {
    families: Vec<Family>,
    by_name: HashMap<Arc<str>, usize>,
    /// Family, suffix and labels of a sample → where it stands in its family.
    by_labels: HashMap<String, usize>,
    max: usize,
    errors: u64,
    dropped: u64,
    /// What is passed over, and where; `error` counts besides.
    pub(super) noted: Noted<'o>,
}

impl<'o> Series<'o> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            families: Vec::new(),
            by_name: HashMap::new(),
            by_labels: HashMap::new(),
            max,
            errors: 0,
            dropped: 0,
            noted: Noted::default(),
        }
    }

    /// The family of that name; the first to ask for it decides its type and help.
    pub(super) fn family(&mut self, name: &Arc<str>, kind: MetricKind, help: &Arc<str>) -> usize {
        if let Some(&family) = self.by_name.get(name) {
            return family;
        }
        self.families.push(Family { name: name.clone(), kind, help: help.clone(), samples: Vec::new() });
        self.by_name.insert(name.clone(), self.families.len() - 1);
        self.families.len() - 1
    }

    pub(super) fn family_of(&mut self, def: &MetricDef) -> usize {
        self.family(&def.name, def.kind, &def.help)
    }

    /// Counts something that could not be used, or only after being changed.
    pub(super) fn error(&mut self, why: fmt::Arguments<'_>) {
        self.errors += 1;
        self.noted.bad(why);
    }

    /// The bytes of a line that may be looked at.
    pub(super) fn line(&mut self, line: Line<'o>) -> Option<&'o [u8]> {
        self.noted.at(Some(line.number), line.bytes);
        if line.is_too_long() {
            self.error(format_args!("the line is longer than {MAX_LINE} bytes"));
            return None;
        }
        Some(line.bytes)
    }

    pub(super) fn drop(&mut self) {
        self.dropped += 1;
    }

    pub(super) fn is_full(&self) -> bool {
        self.by_labels.len() >= self.max
    }

    /// The constant labels of `def` and those of one row, cleaned; a constant one wins over the row's.
    pub(super) fn labels<'a>(
        &mut self,
        constant: &[(Arc<str>, String)],
        row: impl IntoIterator<Item = (&'a Arc<str>, &'a [u8])>,
    ) -> Labels {
        let mut labels = constant.to_vec();
        for (name, raw) in row {
            let (value, changed) = clean(raw, MAX_LABEL);
            if changed {
                self.error(format_args!(
                    "label {name}: longer than {MAX_LABEL} bytes, no UTF-8, or with control characters; kept, but changed"
                ));
            }
            labels.push((name.clone(), value));
        }
        labels.retain(|(_, value)| !value.is_empty());
        labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        labels.dedup_by(|(later, _), (first, _)| later == first);
        labels
    }

    /// Adds a sample whose labels come from [`Self::labels`]; one that is there already stays, and this is an error.
    pub(super) fn put(&mut self, family: usize, suffix: &'static str, labels: Labels, value: Option<f64>) {
        let name = Arc::clone(&self.families[family].name);
        let Some(value) = value else { return self.error(format_args!("{name}: no number")) };
        if self.enter(family, suffix, labels, value).is_some() {
            self.error(format_args!("{name}{suffix}: a series with these labels is there already"));
        }
    }

    /// Adds `value` to the sample with these labels, which begins at 0.
    pub(super) fn add(&mut self, family: usize, labels: Labels, value: Option<f64>) {
        let name = Arc::clone(&self.families[family].name);
        let Some(value) = value else { return self.error(format_args!("{name}: no number")) };
        if let Some(there) = self.enter(family, "", labels, value) {
            let sum = &mut self.families[family].samples[there].value;
            if !(*sum + value).is_finite() && sum.is_finite() && value.is_finite() {
                return self.error(format_args!("{name}: the sum is beyond all numbers"));
            }
            *sum += value;
        }
    }

    /// Where the sample with these labels stands already; `None` if it was new, and kept or dropped.
    fn enter(&mut self, family: usize, suffix: &'static str, labels: Labels, value: f64) -> Option<usize> {
        // Clean values have no control characters, so that \0 and \n separate without doubt.
        let mut key = format!("{family}\0{suffix}");
        for (name, value) in &labels {
            key.extend(["\n", name, "\0", value]);
        }
        if let Some(&there) = self.by_labels.get(&key) {
            return Some(there);
        }
        if self.is_full() {
            self.dropped += 1;
            return None;
        }
        let samples = &mut self.families[family].samples;
        self.by_labels.insert(key, samples.len());
        samples.push(Sample { suffix, labels, value });
        None
    }

    pub(super) fn finish(mut self) -> Parsed {
        self.families.retain(|family| !family.samples.is_empty());
        Parsed {
            families: self.families,
            errors: self.errors,
            dropped: self.dropped,
            rejects: self.noted.finish(),
        }
    }
}

/// `raw` in the unit that `def` declares; a finite number stays finite.
pub(super) fn scaled(def: &MetricDef, raw: Option<f64>) -> Option<f64> {
    let raw = raw?;
    let value = raw * def.scale;
    (value.is_finite() || !raw.is_finite()).then_some(value)
}

/// Valid UTF-8 without control characters in at most `max` bytes, and whether that changed anything.
pub(super) fn clean(raw: &[u8], max: usize) -> (String, bool) {
    // Decoding never shortens by more than a cut character at the end, which then lies behind `max`.
    let head = &raw[..raw.len().min(max + 4)];
    let mut value = String::from_utf8_lossy(head).replace(char::is_control, "\u{fffd}");
    if value.len() > max {
        value.truncate(value.floor_char_boundary(max));
    }
    let changed = value.as_bytes() != raw;
    (value, changed)
}
