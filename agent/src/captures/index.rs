//! What is known of every capture without a look at the disk: enough to list, to choose and to make room. Compact, because
//! there may be a hundred thousand: names are there once however many captures have them.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::record::Record;
use crate::model::{Outcome, RunId, Stream};

/// A run's id in 12 bytes, in the order of the ids: the 17 digits of its time, and the number behind.
pub(super) type Key = (u64, u32);

pub(super) fn key(id: &RunId) -> Key {
    let text = id.as_str();
    let digits: String = text.chars().take(20).filter(char::is_ascii_digit).collect();
    let rest = text.get(21..).unwrap_or_default();
    (digits.parse().unwrap_or(0), u32::from_str_radix(rest, 16).unwrap_or(0))
}

/// The other way round.
pub(super) fn id((time, random): Key) -> RunId {
    let digits = format!("{time:017}");
    let (day, clock) = digits.split_at(8);
    let (clock, millis) = clock.split_at(6);
    RunId::new(&format!("{day}T{clock}.{millis}Z-{random:08x}"))
}

/// When it was asked for, in milliseconds since 1970; 0 for a time that no clock shows.
pub(super) fn time(id: &RunId) -> u64 {
    let digits = format!("{:017}", key(id).0);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    let text = format!(
        "{}-{}-{}T{}:{}:{}.{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14),
        part(14, 17)
    );
    humantime::parse_rfc3339(&text).map_or(0, millis)
}

pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What many captures have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Names {
    probe: Arc<str>,
    trigger: Arc<str>,
    /// Empty where no alert asked for the run.
    alert: Arc<str>,
    namespace: Arc<str>,
    pod: Arc<str>,
    container: Arc<str>,
}

#[derive(Debug)]
pub(super) struct Entry {
    names: Arc<Names>,
    /// Milliseconds since 1970.
    started: u64,
    /// The same, or when it was found where that is earlier: a clock that was wrong must not keep a capture for ever.
    pub(super) since: u64,
    /// Bytes on the disk.
    pub(super) size: u64,
    /// Raw bytes.
    streams: [u64; 2],
    seconds: f32,
    /// 0 for ok, else the place in `Outcome::FAILURES`, counted from 1.
    outcome: u8,
    /// It could not be removed, so that others have to make the room.
    pub(super) stuck: bool,
}

impl Entry {
    pub(super) fn failed(&self) -> bool {
        self.outcome != 0
    }
}

/// Which captures are meant; what is not said fits all. Texts are compared as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub namespace: Option<String>,
    pub pod: Option<String>,
    pub container: Option<String>,
    pub probe: Option<String>,
    pub trigger: Option<String>,
    /// The alert's name.
    pub alert: Option<String>,
    /// A word of `Outcome`'s, or `failed` for all but `ok`.
    pub outcome: Option<String>,
    /// Started then or later.
    pub since: Option<SystemTime>,
    /// Started then or earlier.
    pub until: Option<SystemTime>,
}

impl Filter {
    /// For all outcomes but `ok`.
    pub const FAILED: &'static str = "failed";

    /// Every word that `outcome` may be.
    pub fn outcomes() -> impl Iterator<Item = &'static str> {
        ["ok", Self::FAILED].into_iter().chain(Outcome::FAILURES)
    }

    fn fits(&self, entry: &Entry) -> bool {
        let names = &entry.names;
        let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
        is(&self.namespace, &names.namespace)
            && is(&self.pod, &names.pod)
            && is(&self.container, &names.container)
            && is(&self.probe, &names.probe)
            && is(&self.trigger, &names.trigger)
            && is(&self.alert, &names.alert)
            && match self.outcome.as_deref() {
                Some(Self::FAILED) => entry.failed(),
                Some(word) => word == outcome(entry.outcome),
                None => true,
            }
            && self.since.is_none_or(|since| entry.started >= millis(since))
            && self.until.is_none_or(|until| entry.started <= millis(until))
    }
}

/// One row of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub id: RunId,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub probe: Arc<str>,
    pub trigger: Arc<str>,
    /// The alert's name; none where no alert asked for the run.
    pub alert: Option<Arc<str>>,
    pub namespace: Arc<str>,
    pub pod: Arc<str>,
    pub container: Arc<str>,
    pub outcome: &'static str,
    pub duration_seconds: f64,
    /// Raw.
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    /// Bytes that it takes on the disk.
    pub disk_bytes: u64,
}

/// Every capture, by its id.
#[derive(Debug, Default)]
pub struct Index {
    entries: BTreeMap<Key, Entry>,
    texts: HashSet<Arc<str>>,
    names: HashSet<Arc<Names>>,
    /// Bytes on the disk: of all, and of the failed ones.
    pub(super) bytes: u64,
    pub(super) failed_bytes: u64,
}

impl Index {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn contains(&self, id: &RunId) -> bool {
        self.entries.contains_key(&key(id))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (Key, &Entry)> {
        self.entries.iter().map(|(key, entry)| (*key, entry))
    }

    /// The newest id of all.
    pub(super) fn newest(&self) -> Option<RunId> {
        self.entries.last_key_value().map(|(key, _)| id(*key))
    }

    /// Takes a capture in; one of the same id is replaced.
    pub fn insert(&mut self, record: &Record, size: u64, now: SystemTime) {
        self.remove(&record.id);
        let started = humantime::parse_rfc3339(&record.started_at).map_or(0, millis);
        let place = &record.container;
        let names = Names {
            probe: self.text(&record.probe),
            trigger: self.text(&record.trigger),
            alert: self.text(record.alert_name()),
            namespace: self.text(&place.namespace),
            pod: self.text(&place.pod),
            container: self.text(&place.container),
        };
        let word = record.outcome.as_str();
        let outcome = Outcome::FAILURES.iter().position(|failure| *failure == word).map_or(0, |at| at + 1);
        #[allow(clippy::cast_possible_truncation, reason = "seconds, for people")]
        let entry = Entry {
            names: shared(&mut self.names, names),
            started,
            since: started.min(millis(now)),
            size,
            streams: Stream::BOTH.map(|stream| record.part(stream).bytes),
            seconds: record.duration_seconds as f32,
            outcome: u8::try_from(outcome).unwrap_or(u8::MAX),
            stuck: false,
        };
        self.bytes += size;
        self.failed_bytes += if entry.failed() { size } else { 0 };
        self.entries.insert(key(&record.id), entry);
    }

    /// Forgets one; true if it was there.
    pub fn remove(&mut self, id: &RunId) -> bool {
        let Some(entry) = self.entries.remove(&key(id)) else { return false };
        self.bytes -= entry.size;
        self.failed_bytes -= if entry.failed() { entry.size } else { 0 };
        // The set's own is the last but the one that is held here.
        if Arc::strong_count(&entry.names) == 2 {
            self.names.remove(&entry.names);
            let Names { probe, trigger, alert, namespace, pod, container } = &*entry.names;
            for (place, text) in [probe, trigger, alert, namespace, pod, container].into_iter().enumerate() {
                let same = [probe, trigger, alert, namespace, pod, container];
                let held = same.iter().filter(|other| Arc::ptr_eq(other, text)).count();
                let first = same.iter().position(|other| Arc::ptr_eq(other, text)) == Some(place);
                if first && Arc::strong_count(text) == held + 1 {
                    self.texts.remove(text);
                }
            }
        }
        true
    }

    /// It cannot be removed; true if that was not known.
    pub(super) fn stick(&mut self, id: &RunId) -> bool {
        self.entries.get_mut(&key(id)).is_some_and(|entry| !std::mem::replace(&mut entry.stuck, true))
    }

    /// At most `limit` that fit, newest first, from before `before` on; and where the rest begins, if there is one.
    pub fn list(
        &self,
        filter: &Filter,
        limit: usize,
        before: Option<&RunId>,
    ) -> (Vec<Summary>, Option<RunId>) {
        let end = before.map_or((u64::MAX, u32::MAX), key);
        let mut fitting = self.entries.range(..end).rev().filter(|(_, entry)| filter.fits(entry));
        let page: Vec<_> = fitting.by_ref().take(limit).map(|(key, entry)| summary(*key, entry)).collect();
        let next = fitting.next().and_then(|_| page.last().map(|last| last.id.clone()));
        (page, next)
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(text);
        self.texts.insert(Arc::clone(&new));
        new
    }

    /// Bytes of memory, from the sizes of what is held; maps are counted as half empty, which is their worst.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let counts = 2 * size_of::<usize>();
        let entries = self.entries.len() * 2 * (size_of::<Key>() + size_of::<Entry>());
        let names = self.names.len() * (2 * (size_of::<Arc<Names>>() + 1) + size_of::<Names>() + counts);
        let texts: usize =
            self.texts.iter().map(|t| t.len() + counts + 2 * (size_of::<Arc<str>>() + 1)).sum();
        entries + names + texts
    }

    #[cfg(test)]
    pub(super) fn distinct(&self) -> (usize, usize) {
        (self.names.len(), self.texts.len())
    }
}

fn shared<T: Eq + Hash>(all: &mut HashSet<Arc<T>>, one: T) -> Arc<T> {
    if let Some(known) = all.get(&one) {
        return Arc::clone(known);
    }
    let new = Arc::new(one);
    all.insert(Arc::clone(&new));
    new
}

fn outcome(number: u8) -> &'static str {
    let failure = usize::from(number).checked_sub(1);
    failure.and_then(|place| Outcome::FAILURES.get(place)).unwrap_or(&"ok")
}

fn summary(key: Key, entry: &Entry) -> Summary {
    let names = &entry.names;
    let [stdout_bytes, stderr_bytes] = entry.streams;
    Summary {
        id: id(key),
        started_at: humantime::format_rfc3339_millis(
            SystemTime::UNIX_EPOCH + Duration::from_millis(entry.started),
        )
        .to_string(),
        probe: Arc::clone(&names.probe),
        trigger: Arc::clone(&names.trigger),
        alert: (!names.alert.is_empty()).then(|| Arc::clone(&names.alert)),
        namespace: Arc::clone(&names.namespace),
        pod: Arc::clone(&names.pod),
        container: Arc::clone(&names.container),
        outcome: outcome(entry.outcome),
        // To the millisecond: the digits after that are an accident of the format.
        duration_seconds: (f64::from(entry.seconds) * 1000.0).round() / 1000.0,
        stdout_bytes,
        stderr_bytes,
        disk_bytes: entry.size,
    }
}
