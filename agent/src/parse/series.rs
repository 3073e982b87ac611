//! Collects samples under the rules that every format shares: bounded, clean, no two alike.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::Parsed;
use super::noted::Noted;
use super::text::{Line, MAX_LINE};
use super::trace::{Came, Trace, What};
use crate::config::parse::{Merge, MetricDef};
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
    pub(super) fn new(max: usize, noted: Noted<'o>) -> Self {
        Self {
            families: Vec::new(),
            by_name: HashMap::new(),
            by_labels: HashMap::new(),
            max,
            errors: 0,
            dropped: 0,
            noted,
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
        let told = self.told(&name, suffix, &labels);
        let came = match self.enter(family, suffix, labels, value) {
            Entered::New => Came::New,
            Entered::Cut => Came::Cut,
            Entered::There(_) => {
                return self
                    .error(format_args!("{name}{suffix}: a series with these labels is there already"));
            }
        };
        self.step(told, value, came);
    }

    /// Adds `value` to the sample with these labels, which begins at 0.
    pub(super) fn add(&mut self, family: usize, labels: Labels, value: Option<f64>) {
        self.merge(family, labels, value, Merge::Sum);
    }

    /// Makes one of `value` and of what the sample with these labels is already, if it is there.
    pub(super) fn merge(&mut self, family: usize, labels: Labels, value: Option<f64>, how: Merge) {
        let name = Arc::clone(&self.families[family].name);
        let Some(value) = value else { return self.error(format_args!("{name}: no number")) };
        let told = self.told(&name, "", &labels);
        let there = match self.enter(family, "", labels, value) {
            Entered::New => return self.step(told, value, Came::New),
            Entered::Cut => return self.step(told, value, Came::Cut),
            Entered::There(there) => &mut self.families[family].samples[there].value,
        };
        *there = match how {
            Merge::Sum if !(*there + value).is_finite() && there.is_finite() && value.is_finite() => {
                return self.error(format_args!("{name}: the sum is beyond all numbers"));
            }
            Merge::Sum => *there + value,
            Merge::Max => there.max(value),
            Merge::Min => there.min(value),
        };
        let now = *there;
        self.step(told, value, Came::Together(now));
    }

    /// What a trace says of a sample; nothing where there is no trace.
    fn told(&self, name: &str, suffix: &str, labels: &Labels) -> Option<(String, Labels)> {
        self.noted.is_traced().then(|| (format!("{name}{suffix}"), labels.clone()))
    }

    fn step(&mut self, told: Option<(String, Labels)>, value: f64, came: Came) {
        if let Some((name, labels)) = told {
            self.noted.step(|| What::Sample { name, labels, value, came });
        }
    }

    fn enter(&mut self, family: usize, suffix: &'static str, labels: Labels, value: f64) -> Entered {
        // Clean values have no control characters, so that \0 and \n separate without doubt.
        let mut key = format!("{family}\0{suffix}");
        for (name, value) in &labels {
            key.extend(["\n", name, "\0", value]);
        }
        if let Some(&there) = self.by_labels.get(&key) {
            return Entered::There(there);
        }
        if self.is_full() {
            self.dropped += 1;
            return Entered::Cut;
        }
        let samples = &mut self.families[family].samples;
        self.by_labels.insert(key, samples.len());
        samples.push(Sample { suffix, labels, value });
        Entered::New
    }

    pub(super) fn finish(mut self) -> (Parsed, Option<Trace>) {
        self.families.retain(|family| !family.samples.is_empty());
        let (rejects, trace) = self.noted.finish();
        (Parsed { families: self.families, errors: self.errors, dropped: self.dropped, rejects }, trace)
    }
}

/// What became of a sample that was to be kept.
enum Entered {
    New,
    /// One with these labels stands there already.
    There(usize),
    Cut,
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
