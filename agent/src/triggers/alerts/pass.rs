//! Alerts that are passed on to the agents of the other nodes, because no container here, or not only one here, is meant.
//!
//! The rule (`select::elsewhere`): an alert that a trigger answers is passed on where that trigger finds no container here, and
//! also where it finds some, unless the alert names one pod with its namespace. An alert that no trigger answers is not, nor one that
//! a peer has passed on: it has had its hop. A resolved one is, where it ends runs.
//!
//! It is on the disk before the sender is answered, as runs are, and sent after; found there after a restart it is sent again,
//! and whoever has it already knows it by its group, fingerprint, beginning and status. The sender's retries are not passed on
//! twice: for ten minutes it is known, unless peers could not be reached. There is room for `peers.queue` of them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;

use super::Shared;
use super::journal::Op;
use super::payload::{Key, Status, Told};
use super::queue::millis;
use super::recent::Recent;
use crate::model::{Alert, Delivery, Parcel};

/// Parcels on their way at once. A hole in the network holds each for `give_up_after`.
const AT_ONCE: usize = 4;
/// Alerts that go together, and about how many bytes: what a peer reads without further ado.
const TOGETHER: usize = 100;
const TOGETHER_BYTES: usize = 200 << 10;
/// For so long an alert that was passed on is not passed on again. Alertmanager's own retries are within its `group_interval`.
const PASSED_AGE: Duration = Duration::from_mins(10);
const KNOWN: usize = 100_000;

/// An alert, from when it is to be passed on until that is done or given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pass {
    status: Status,
    alert: Arc<Alert>,
    /// Name of the receiver in the sender's configuration.
    receiver: String,
    /// Milliseconds of Unix time.
    at: u64,
}

impl Pass {
    pub(super) fn of(told: &Told, receiver: &str, at: u64) -> Self {
        Self { status: told.status, alert: Arc::clone(&told.alert), receiver: receiver.to_owned(), at }
    }

    fn as_json(&self) -> serde_json::Value {
        let Alert { labels, fingerprint, group_key, starts_at } = &*self.alert;
        json!({
            "status": self.status, "labels": labels, "startsAt": starts_at, "fingerprint": fingerprint, "groupKey": group_key,
        })
    }
}

#[derive(Debug)]
pub(super) struct Passes {
    all: BTreeMap<Key, Pass>,
    /// Those whose turn may come, the oldest first.
    waiting: VecDeque<Key>,
    passed: Recent,
}

impl Default for Passes {
    fn default() -> Self {
        let age = u64::try_from(PASSED_AGE.as_millis()).unwrap_or(u64::MAX);
        Self { all: BTreeMap::new(), waiting: VecDeque::new(), passed: Recent::new(age, KNOWN) }
    }
}

impl Passes {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// It waits, is on its way, or was passed on lately.
    pub(super) fn knows(&self, key: &Key, now: u64) -> bool {
        self.all.contains_key(key) || self.passed.get(key, now).is_some()
    }

    pub(super) fn put(&mut self, key: Key, pass: Pass) -> Option<Op> {
        // What is forgotten for it stands in no journal.
        self.passed.put(key, pass.at);
        // What has no JSON form is none of the texts and numbers in it.
        let op = serde_json::to_vec(&pass).ok().map(|record| Op::Pass(key, record));
        self.all.insert(key, pass);
        op
    }

    /// Makes it their turn.
    pub(super) fn release(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.waiting.extend(keys);
    }

    /// The oldest one, with those that go with it.
    fn next(&mut self) -> Option<(Vec<Key>, Parcel)> {
        let (mut keys, mut alerts, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut receiver: Option<String> = None;
        while let Some(key) = self.waiting.front().copied() {
            let Some(pass) = self.all.get(&key) else {
                self.waiting.pop_front();
                continue;
            };
            let text = pass.as_json().to_string();
            let other = receiver.as_ref().is_some_and(|receiver| *receiver != pass.receiver);
            if other || keys.len() >= TOGETHER || (bytes + text.len() > TOGETHER_BYTES && !keys.is_empty()) {
                break;
            }
            receiver.get_or_insert_with(|| pass.receiver.clone());
            bytes += text.len() + 1;
            alerts.push(text);
            keys.push(key);
            self.waiting.pop_front();
        }
        let receiver = json!(receiver?);
        let body = format!(r#"{{"version":"4","receiver":{receiver},"alerts":[{}]}}"#, alerts.join(","));
        Some((keys, Parcel { body: body.into(), alerts: alerts.len() }))
    }

    /// Nothing more is to be done for it; `again` if its next delivery is to be passed on once more.
    fn done(&mut self, key: &Key, again: bool) -> Option<Pass> {
        let pass = self.all.remove(key)?;
        if again {
            self.passed.remove(key, pass.at);
        }
        Some(pass)
    }

    pub(super) fn contents(&self) -> Vec<(Key, Vec<u8>)> {
        self.all.iter().filter_map(|(key, pass)| Some((*key, serde_json::to_vec(pass).ok()?))).collect()
    }

    /// Takes in what was found in a journal; how many were none.
    pub(super) fn restore(&mut self, found: Vec<(Key, Vec<u8>)>) -> usize {
        let mut broken = 0;
        for (key, record) in found {
            match serde_json::from_slice::<Pass>(&record) {
                Ok(pass) if !self.all.contains_key(&key) => {
                    self.passed.put(key, pass.at);
                    self.all.insert(key, pass);
                    self.waiting.push_back(key);
                }
                Ok(_) => {}
                Err(_) => broken += 1,
            }
        }
        broken
    }
}

/// Works until the room is closed; what is on its way then is sent again after the next start.
pub(super) async fn dispatch(shared: Arc<Shared>) {
    let mut under_way: JoinSet<(Vec<Key>, Delivery)> = JoinSet::new();
    loop {
        while under_way.len() < AT_ONCE
            && let Some((keys, parcel)) = shared.next_parcel()
        {
            let passing = AssertUnwindSafe((shared.pass_on)(parcel)).catch_unwind();
            under_way.spawn(async move {
                (keys, passing.await.unwrap_or_else(|_| Delivery::failed("the agent's own mistake")))
            });
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.to_pass.notified() => {}
            Some(ended) = under_way.join_next() => if let Ok((keys, delivery)) = ended {
                finish(&shared, &keys, &delivery);
            }
        }
    }
}

impl Shared {
    fn next_parcel(&self) -> Option<(Vec<Key>, Parcel)> {
        let mut queue = self.queue();
        if queue.open { queue.passes.next() } else { None }
    }
}

fn finish(shared: &Shared, keys: &[Key], delivery: &Delivery) {
    let now = millis(SystemTime::now());
    {
        let mut queue = shared.queue();
        for (place, key) in keys.iter().enumerate() {
            let outcome = delivery.outcome(place);
            shared.counters.passed.with_label_values(&[outcome]).inc();
            let again = outcome != "taken" && outcome != "nowhere";
            if let Some(pass) = queue.passes.done(key, again) {
                shared
                    .counters
                    .pass_seconds
                    .observe(Duration::from_millis(now.saturating_sub(pass.at)).as_secs_f64());
            }
        }
        shared.show(&queue);
        shared.note(keys.iter().copied().map(Op::Passed).collect());
    }
    let Delivery { peers, answered, failures, error, .. } = delivery;
    if error.is_some() || !failures.is_empty() {
        let error = error.as_deref().unwrap_or_default();
        tracing::warn!(
            alerts = keys.len(),
            peers,
            answered,
            ?failures,
            error,
            "alerts were not passed on to all peers"
        );
    } else {
        tracing::info!(alerts = keys.len(), peers, "alerts were passed on");
    }
    let mut log = shared.log();
    for (place, key) in keys.iter().enumerate() {
        log.passed_is(key, &in_words(delivery, place));
    }
}

fn in_words(delivery: &Delivery, place: usize) -> String {
    let Delivery { peers, answered, took, failures, error } = delivery;
    let took = took.get(place).copied().unwrap_or_default();
    let mut text = match error {
        Some(error) => format!("not passed on to all peers: {error}; {answered} have taken it"),
        None if *peers == 0 => "not passed on: there are no peers behind the service".to_owned(),
        None => format!("passed on to {answered} of {peers} peers"),
    };
    if *answered > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, ", of which {took} have a container that it means");
    }
    for failure in failures {
        let _ = write!(text, "; {failure}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fingerprint: &str, size: usize) -> Told {
        let alert = Alert {
            labels: [("alertname".to_owned(), "x".repeat(size))].into(),
            fingerprint: fingerprint.to_owned(),
            group_key: format!("g{fingerprint}"),
            starts_at: "2026-11-26T03:04:05Z".to_owned(),
        };
        Told { status: Status::Firing, alert: Arc::new(alert), too_large: false }
    }

    fn put(passes: &mut Passes, told: &Told, receiver: &str) {
        assert!(matches!(passes.put(told.key(), Pass::of(told, receiver, 5)), Some(Op::Pass(..))));
        passes.release([told.key()]);
    }

    #[test]
    fn a_parcel_is_bounded_and_says_the_same_as_the_webhooks_did() {
        let mut passes = Passes::default();
        let small: Vec<Told> = (0..150).map(|n| told(&n.to_string(), 1)).collect();
        for told in &small {
            put(&mut passes, told, "hook");
        }
        put(&mut passes, &told("other", 1), "other");
        let large: Vec<Told> = (0..20).map(|n| told(&format!("l{n}"), 16_000)).collect();
        for told in &large {
            put(&mut passes, told, "other");
        }
        let mut sizes = Vec::new();
        while let Some((keys, parcel)) = passes.next() {
            assert!(parcel.body.len() < TOGETHER_BYTES + 1000 && keys.len() == parcel.alerts);
            let read = super::super::payload::read(parcel.body.as_bytes()).unwrap();
            assert_eq!(
                read.alerts.iter().map(Told::key).collect::<Vec<_>>(),
                keys,
                "a peer knows them by the same key"
            );
            assert_eq!(read.receiver, if sizes.len() < 2 { "hook" } else { "other" });
            sizes.push(keys.len());
        }
        assert_eq!(sizes, [100, 50, 13, 8]);
        assert_eq!(passes.len(), 171, "until they are done");
    }

    #[test]
    fn what_was_passed_on_is_known_for_a_while_and_what_failed_is_not() {
        let mut passes = Passes::default();
        let (one, two) = (told("1", 1), told("2", 1));
        put(&mut passes, &one, "hook");
        put(&mut passes, &two, "hook");
        let long = u64::try_from(PASSED_AGE.as_millis()).unwrap() + 6;
        assert!(passes.knows(&one.key(), long), "while it waits");
        passes.done(&one.key(), false).unwrap();
        passes.done(&two.key(), true).unwrap();
        assert!(passes.done(&two.key(), true).is_none());
        assert!(passes.knows(&one.key(), 6) && !passes.knows(&one.key(), long));
        assert!(!passes.knows(&two.key(), 6));
    }

    #[test]
    fn what_is_found_in_a_journal_waits_again() {
        let mut before = Passes::default();
        put(&mut before, &told("1", 1), "hook");
        let mut found = before.contents();
        found.push(([9; 16], b"{}".to_vec()));
        let mut after = Passes::default();
        assert_eq!(after.restore(found), 1, "one is broken");
        let (keys, parcel) = after.next().unwrap();
        assert_eq!((keys[0], parcel.body), (told("1", 1).key(), before.next().unwrap().1.body));
    }
}
