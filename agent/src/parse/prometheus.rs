//! `parse: prometheus`: the command prints exposition text; what of it is valid is passed through.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.
//!
//! Prometheus drops a whole scrape for one bad line, so a bad line is dropped here, and counted. Bad are also:
//! names that begin with `__`, the agent's own (see [`OWN`]), quoted UTF-8 names, a second TYPE or HELP, a TYPE after
//! the first sample, a type whose suffixed names another family has, more than [`MAX_LABELS`] labels, timestamps
//! that are not numbers. Timestamps are dropped: the agent's clock is the one that counts.
//! Labels that the agent or the scrape sets are renamed to `exported_…`, as Prometheus renames them.

mod line;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use self::line::{Labels, comment, sample};
use super::series::{Series, clean};
use super::text;
use super::trace::What;
use crate::config::parse::Passthrough;
use crate::model::MetricKind;

/// Families with these prefixes are on the agent's own page; a container must not be able to write into them.
const OWN: [&str; 2] = ["parachute_", "process_"];

/// Every series has the first three from the agent, and the other two from Prometheus.
const SET_BY_OTHERS: [&str; 5] = ["namespace", "pod", "container", "job", "instance"];

pub(super) const MAX_LABELS: usize = 32;
const MAX_HELP: usize = 512;
const NO_HELP: &str = "Passed through; the command's output has no help text for it.";
const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// What HELP and TYPE said of a name, and whether it has samples yet.
#[derive(Default)]
struct Declared {
    kind: Option<MetricKind>,
    help: Option<String>,
    used: bool,
}

pub(super) fn parse<'o>(spec: &Passthrough, output: &'o [u8], series: &mut Series<'o>) {
    let mut reader = Reader { prefix: &spec.prefix, declared: HashMap::new(), series };
    for line in text::lines(output) {
        let Some(line) = reader.series.line(line) else { continue };
        if let Err(why) = reader.line(line.trim_ascii()) {
            reader.series.error(format_args!("{why}"));
        }
    }
}

struct Reader<'a, 'o> {
    prefix: &'a str,
    declared: HashMap<String, Declared>,
    series: &'a mut Series<'o>,
}

/// Why a line is not taken.
type Bad = &'static str;

impl Reader<'_, '_> {
    fn line(&mut self, line: &[u8]) -> Result<(), Bad> {
        // Only a label value or a help text may stand with replaced characters: everything else is checked anyway.
        let line = String::from_utf8_lossy(line);
        if let Some(rest) = line.strip_prefix('#') {
            let (keyword, name, rest) = comment(rest).ok_or("HELP or TYPE without a valid name")?;
            let wanted = !keyword.is_empty() && self.is_wanted(name)?;
            self.series.noted.step(|| What::Passed(if wanted { "type or help" } else { "a comment" }));
            return if wanted { self.declare(keyword, name, rest) } else { Ok(()) };
        }
        let (name, labels, value) = sample(&line)?;
        if self.is_wanted(name)? {
            return self.sample(name, &labels, value);
        }
        self.series.noted.unmatched(format_args!("its name does not begin with {:?}", self.prefix));
        Ok(())
    }

    /// Whether the configuration asks for it; an error if nobody may have it.
    fn is_wanted(&self, name: &str) -> Result<bool, Bad> {
        let reserved = name.starts_with("__") || OWN.iter().any(|own| name.starts_with(own));
        if reserved {
            Err("the name is the agent's own or reserved")
        } else {
            Ok(name.starts_with(self.prefix))
        }
    }

    fn declare(&mut self, keyword: &str, name: &str, rest: &str) -> Result<(), Bad> {
        let kind = match keyword {
            "TYPE" => Some(kind(rest.trim()).ok_or("unknown type")?),
            _ => None,
        };
        if kind.is_some_and(|kind| self.collides(name, kind)) {
            return Err("a family of this type would write names that another one has");
        }
        let declared = self.declared.entry(name.to_owned()).or_default();
        match kind {
            Some(kind) if declared.kind.is_none() && !declared.used => declared.kind = Some(kind),
            None if declared.help.is_none() && !declared.used => {
                let help = line::unescape(rest, false).ok_or("invalid escape")?;
                declared.help = Some(clean(help.as_bytes(), MAX_HELP).0);
            }
            _ => return Err("said a second time, or after the first sample"),
        }
        Ok(())
    }

    /// A histogram `x` writes `x_count`, which then cannot be a family of its own, nor the other way round.
    fn collides(&self, name: &str, kind: MetricKind) -> bool {
        let exists = |name: &str| self.declared.get(name).is_some_and(|it| it.used || it.kind.is_some());
        let base = SUFFIXES
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .any(|base| matches!(self.kind_of(base), Some(MetricKind::Histogram | MetricKind::Summary)));
        let suffixed = matches!(kind, MetricKind::Histogram | MetricKind::Summary)
            && SUFFIXES.iter().any(|suffix| exists(&format!("{name}{suffix}")));
        base || suffixed
    }

    fn kind_of(&self, name: &str) -> Option<MetricKind> {
        self.declared.get(name).and_then(|it| it.kind)
    }

    /// The family that a sample's name belongs to, its type, and the suffix.
    fn family_of<'n>(&self, name: &'n str) -> (&'n str, MetricKind, &'static str) {
        for suffix in SUFFIXES {
            let Some(base) = name.strip_suffix(suffix) else { continue };
            match self.kind_of(base) {
                Some(kind @ MetricKind::Histogram) => return (base, kind, suffix),
                Some(kind @ MetricKind::Summary) if suffix != "_bucket" => return (base, kind, suffix),
                _ => {}
            }
        }
        (name, self.kind_of(name).unwrap_or(MetricKind::Untyped), "")
    }

    fn sample(&mut self, name: &str, labels: &Labels, value: f64) -> Result<(), Bad> {
        let (family, kind, suffix) = self.family_of(name);
        kind.takes(suffix, |wanted| {
            labels.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str())
        })
        .then_some(())
        .ok_or("its suffix or its `le` or `quantile` does not fit its type")?;
        let named: Vec<(Arc<str>, &str)> =
            labels.iter().map(|(name, value)| (renamed(name, labels), value.as_str())).collect();
        if self.series.is_full() && !self.declared.contains_key(family) {
            self.series.drop();
            return Ok(());
        }
        let declared = self.declared.entry(family.to_owned()).or_default();
        declared.used = true;
        let help = declared.help.as_deref().unwrap_or(NO_HELP).into();
        let family = self.series.family(&family.into(), kind, &help);
        let clean = self.series.labels(&[], named.iter().map(|(name, value)| (name, value.as_bytes())));
        self.series.put(family, suffix, clean, Some(value));
        Ok(())
    }
}

/// The name under which a label of the output is passed on; `exported_` as often as it takes to be nobody else's.
fn renamed(name: &str, labels: &Labels) -> Arc<str> {
    let mut new = name.to_owned();
    if SET_BY_OTHERS.contains(&name) {
        while new == name || labels.iter().any(|(other, _)| *other == new) {
            new.insert_str(0, "exported_");
        }
    }
    new.into()
}

fn kind(word: &str) -> Option<MetricKind> {
    Some(match word {
        "counter" => MetricKind::Counter,
        "gauge" => MetricKind::Gauge,
        "histogram" => MetricKind::Histogram,
        "summary" => MetricKind::Summary,
        "untyped" | "unknown" => MetricKind::Untyped,
        _ => return None,
    })
}
