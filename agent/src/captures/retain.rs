//! Pure: what has to go, and when the next one does.

use std::time::Duration;

use super::disk::Aside;
use super::index::{Entry, Index, Key};
use crate::config;

/// Captures that are kept at most, however small they are: each takes some memory.
pub(super) const MOST: usize = 250_000;

/// Why one goes; the label values of `parachute_capture_evicted_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Size,
    Age,
    /// There are too many.
    Number,
    /// Somebody has asked for it.
    Asked,
}

impl Why {
    pub const ALL: [Self; 4] = [Self::Size, Self::Age, Self::Number, Self::Asked];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Age => "age",
            Self::Number => "number",
            Self::Asked => "asked",
        }
    }
}

/// What takes room besides the captures, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Besides {
    /// Captures that are being written.
    pub(super) drafts: u64,
    pub(super) aside: u64,
}

impl Besides {
    /// What is set aside beyond half of the room goes by itself; one that cannot be removed must not take the captures' half.
    fn counted(self, bounds: &config::Captures) -> u64 {
        self.drafts + self.aside.min(bounds.max_size / 2)
    }
}

pub(super) fn fits(index: &Index, besides: Besides, bounds: &config::Captures) -> bool {
    index.bytes + besides.counted(bounds) <= bounds.max_size
}

/// When this one is too old, in milliseconds since 1970.
fn expires(entry: &Entry, bounds: &config::Captures) -> u64 {
    let age = if entry.failed() { bounds.failures_max_age } else { bounds.max_age };
    entry.since.saturating_add(millis(age))
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// When the next thing is too old.
pub(super) fn next_expiry(index: &Index, bounds: &config::Captures, aside: &[Aside]) -> Option<u64> {
    let longest = millis(bounds.failures_max_age);
    let captures = movable(index).map(|(_, entry)| expires(entry, bounds));
    captures.chain(aside.iter().map(|aside| aside.since.saturating_add(longest))).min()
}

/// Those that can be removed, as far as is known.
fn movable(index: &Index) -> impl Iterator<Item = (Key, &Entry)> {
    index.entries().filter(|(_, entry)| !entry.stuck)
}

/// All that has to go now: what is too old; then, until the rest has room, the oldest that ended well, or where failed ones
/// take more than half of the room the oldest of all.
pub(super) fn victims(
    index: &Index,
    besides: Besides,
    bounds: &config::Captures,
    most: usize,
    now: u64,
) -> Vec<(Key, Why)> {
    let old = |entry: &Entry| expires(entry, bounds) <= now;
    let mut all: Vec<_> =
        movable(index).filter(|(_, entry)| old(entry)).map(|(key, _)| (key, Why::Age)).collect();
    let of_old = |failed_only: bool| -> u64 {
        let entries = movable(index).filter(|(_, entry)| old(entry));
        entries.filter(|(_, e)| !failed_only || e.failed()).map(|(_, e)| e.size).sum()
    };
    let mut total = index.bytes - of_old(false) + besides.counted(bounds);
    let mut failed = index.failed_bytes - of_old(true);
    let mut number = index.len() - all.len();
    let mut well = movable(index).filter(|(_, e)| !e.failed() && !old(e)).peekable();
    let mut ill = movable(index).filter(|(_, e)| e.failed() && !old(e)).peekable();
    while total > bounds.max_size || number > most {
        let why = if total > bounds.max_size { Why::Size } else { Why::Number };
        let take_ill = match (well.peek(), ill.peek()) {
            (Some((well, _)), Some((ill, _))) => failed > bounds.max_size / 2 && ill < well,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (None, None) => break,
        };
        let Some((key, entry)) = (if take_ill { ill.next() } else { well.next() }) else { break };
        total -= entry.size;
        failed -= if take_ill { entry.size } else { 0 };
        number -= 1;
        all.push((key, why));
    }
    all
}
