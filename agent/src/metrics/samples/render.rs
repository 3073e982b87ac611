//! Turns the store into text. Containers that share their three labels (a restarted one and its predecessor in its
//! grace) would give equal series: of each metric, only the newest of them that has it is shown.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use prometheus::proto::MetricFamily;

use super::{Facts, Inner, Samples, Slot};
use crate::metrics::docs;
use crate::metrics::encode::{Encoder, label_text};
use crate::model::{ContainerLabels, MetricKind};

/// A container as this scrape shows it.
struct Shown {
    facts: Facts,
    gone: bool,
    /// The three labels, encoded once for all its series.
    prefix: String,
    /// Equal for containers with equal labels; counts from 0.
    group: usize,
}

impl Samples {
    /// Writes the agent's `own` families and everything of the store, each metric once, in order of name.
    pub fn render(&self, encoder: &mut Encoder, own: &[MetricFamily]) {
        let mut inner = self.lock();
        inner.expire(Instant::now());
        let shown = inner.shown();
        let own: BTreeMap<&str, &MetricFamily> = own.iter().map(|family| (family.name(), family)).collect();
        let mut names: BTreeSet<&str> = own.keys().copied().collect();
        names.extend(inner.slots.keys().map(AsRef::as_ref));
        names.insert(docs::CONTAINER_INFO);
        let mut newest = vec![None; shown.len()];
        for name in names {
            let slot = inner.slots.get(name);
            match (own.get(name), slot) {
                (Some(family), _) => encoder.own(family),
                (None, Some(slot)) => encoder.family(name, slot.kind, &slot.help),
                (None, None) => write_info(encoder, &shown, &mut newest),
            }
            if let Some(slot) = slot {
                write_slot(encoder, name, slot, &shown, &mut newest);
            }
        }
    }
}

impl Inner {
    fn shown(&self) -> HashMap<u64, Shown> {
        let mut groups: HashMap<ContainerLabels, usize> = HashMap::new();
        let mut shown = HashMap::with_capacity(self.entries.len());
        for (number, entry) in &self.entries {
            let facts = entry.subject.facts();
            let next = groups.len();
            let group = *groups.entry(facts.labels.clone()).or_insert(next);
            let ContainerLabels { namespace, pod, container } = &facts.labels;
            let prefix = label_text(&[("namespace", namespace), ("pod", pod), ("container", container)]);
            shown.insert(*number, Shown { facts, gone: entry.until.is_some(), prefix, group });
        }
        shown
    }
}

/// `newest` is scratch space, one place per group.
fn write_slot(
    encoder: &mut Encoder,
    name: &str,
    slot: &Slot,
    shown: &HashMap<u64, Shown>,
    newest: &mut [Option<u64>],
) {
    newest.fill(None);
    for ((number, _), samples) in slot.parts.iter().rev() {
        let Some(container) = shown.get(number) else { continue };
        if newest[container.group].get_or_insert(*number) != number {
            continue;
        }
        for sample in samples {
            let labels = sample.labels.iter().map(|(label, text)| (label.as_ref(), text.as_str()));
            encoder.sample(name, sample.suffix, &container.prefix, labels, sample.value);
        }
    }
}

/// Every live container, and of those in their grace the ones that no newer one has replaced.
fn write_info(encoder: &mut Encoder, shown: &HashMap<u64, Shown>, newest: &mut [Option<u64>]) {
    let Some(doc) = docs::find(docs::CONTAINER_INFO) else { return };
    encoder.family(doc.name, MetricKind::Gauge, doc.help);
    newest.fill(None);
    let mut numbers: Vec<u64> = shown.keys().copied().collect();
    numbers.sort_unstable_by(|left, right| right.cmp(left));
    for number in numbers {
        let Shown { facts, gone, prefix, group } = &shown[&number];
        if *newest[*group].get_or_insert(number) != number && *gone {
            continue;
        }
        let pid = facts.pid.to_string();
        let labels = [
            ("id", facts.id.as_str()),
            ("image", &facts.image),
            ("uid", &facts.uid),
            ("runtime", facts.runtime),
            ("pid", &pid),
            ("sandbox", if facts.sandbox { "true" } else { "false" }),
        ];
        encoder.sample(doc.name, "", prefix, labels, 1.0);
    }
}
