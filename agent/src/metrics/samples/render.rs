//! Turns the store into text: one walk that copies texts which are there already. Containers that share their three labels (a
//! restarted one and its predecessor in its grace) would give equal series: of each metric, only the newest of them that has
//! it is shown.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use prometheus::proto::MetricFamily;

use super::Samples;
use super::shown::Shown;
use super::store::{Inner, Slot};
use crate::metrics::docs;
use crate::metrics::encode::Encoder;
use crate::model::MetricKind;

/// A container as this scrape shows it.
struct Row<'a> {
    number: u64,
    gone: bool,
    shown: &'a Shown,
    /// Equal for containers with equal labels; counts from 0.
    group: usize,
}

/// Which container of each group shows the metric that is being written: the metric's place, and the container's number.
/// It is never cleared, because another metric's entry counts as none.
type Newest = Vec<(usize, u64)>;

impl Samples {
    /// Writes the agent's `own` families and everything of the store, each metric once, in order of name. `own` must be in
    /// that order.
    pub fn render(&self, encoder: &mut Encoder, own: &[MetricFamily]) {
        // As much as last time and a little more: a text of megabytes is not to be moved while it grows.
        let last = self.size.load(Ordering::Relaxed);
        encoder.reserve(last + last / 16);
        let before = encoder.size();
        let mut inner = self.lock();
        inner.expire(Instant::now());
        inner.refresh();
        let rows = inner.rows();
        let mut names: Vec<&str> = Vec::with_capacity(own.len() + inner.slots.len() + 1);
        names.extend(own.iter().map(MetricFamily::name));
        names.extend(inner.slots.keys().map(AsRef::as_ref));
        names.push(docs::CONTAINER_INFO);
        names.sort_unstable();
        names.dedup();
        let mut newest = vec![(usize::MAX, 0); rows.len()];
        let mut own = own.iter().peekable();
        for (place, name) in names.into_iter().enumerate() {
            let slot = inner.slots.get(name);
            match (own.next_if(|family| family.name() == name), slot) {
                (Some(family), _) => encoder.own(family),
                (None, Some(slot)) => encoder.family(name, slot.kind, &slot.help),
                (None, None) => write_info(encoder, &rows, place, &mut newest),
            }
            if let Some(slot) = slot {
                write_slot(encoder, name, slot, &rows, place, &mut newest);
            }
        }
        self.size.store(encoder.size() - before, Ordering::Relaxed);
    }
}

impl Inner {
    fn refresh(&mut self) {
        for entry in self.entries.values_mut() {
            if !entry.shown.is_of(&entry.subject) {
                entry.shown = Shown::of(&entry.subject);
            }
        }
    }

    /// Newest first.
    fn rows(&self) -> Vec<Row<'_>> {
        let mut groups: HashMap<&str, usize> = HashMap::with_capacity(self.entries.len());
        let mut rows = Vec::with_capacity(self.entries.len());
        for (number, entry) in self.entries.iter().rev() {
            let next = groups.len();
            let group = *groups.entry(&entry.shown.prefix).or_insert(next);
            rows.push(Row { number: *number, gone: entry.until.is_some(), shown: &entry.shown, group });
        }
        rows
    }
}

fn write_slot(
    encoder: &mut Encoder,
    name: &str,
    slot: &Slot,
    rows: &[Row<'_>],
    place: usize,
    newest: &mut Newest,
) {
    // Both are in the order of containers, so that each part's container is found by going on.
    let mut rows = rows.iter().peekable();
    for ((number, _), part) in slot.parts.iter().rev() {
        while rows.next_if(|row| row.number > *number).is_some() {}
        let Some(row) = rows.peek().filter(|row| row.number == *number) else { continue };
        if shows(row, place, newest) != *number {
            continue;
        }
        for (suffix, tail) in part.lines() {
            encoder.line(name, suffix, &row.shown.prefix, tail);
        }
    }
}

/// Every live container, and of those in their grace the ones that no newer one has replaced.
fn write_info(encoder: &mut Encoder, rows: &[Row<'_>], place: usize, newest: &mut Newest) {
    let Some(doc) = docs::find(docs::CONTAINER_INFO) else { return };
    encoder.family(doc.name, MetricKind::Gauge, doc.help);
    for row in rows {
        if shows(row, place, newest) == row.number || !row.gone {
            encoder.line(doc.name, "", &row.shown.prefix, &row.shown.info);
        }
    }
}

/// The container of the row's group that shows this metric: the first of them that asks.
fn shows(row: &Row<'_>, place: usize, newest: &mut Newest) -> u64 {
    let shows = &mut newest[row.group];
    if shows.0 != place {
        *shows = (place, row.number);
    }
    shows.1
}
