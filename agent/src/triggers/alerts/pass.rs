//! Alerts that are passed on to the agents of the other nodes, because no container here, or not only one here, is meant.
//!
//! The rule (`select::elsewhere`): an alert that a trigger answers is passed on where that trigger finds no container here, and
//! also where it finds some, unless the alert names one pod with its namespace. An alert that no trigger answers is not, nor one that
//! a peer has passed on: it has had its hop. A resolved one is, where it ends runs.
//!
//! It is on the disk before the sender is answered, as runs are, and sent after; found there after a restart it is sent again,
//! and whoever has it already knows it by its group, fingerprint, beginning and status. The sender's retries are not passed on
//! twice: for ten minutes it is known, unless peers were not reached; for half a minute if all were and none has its container,
//! which may be between two pods of an update. There is room for `peers.queue` of them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;

use super::journal::Op;
use super::payload::{Key, Status, Told};
use super::queue::millis;
use super::recent::Recent;
use super::{Rest, Shared};
use crate::model::{Alert, Delivery, Parcel};

/// Parcels on their way at once, for the first time.
const AT_ONCE: usize = 4;
/// Parcels for which peers are asked again, at once. A hole in the network holds each for `give_up_after`, so that they have
/// places of their own, and of alerts half of `peers.queue` at most: there is always room for new ones.
const AGAIN: usize = 256;
/// Alerts that go together, and about how many bytes: what a peer reads without further ado.
const TOGETHER: usize = 100;
const TOGETHER_BYTES: usize = 200 << 10;
/// For so long an alert that was passed on is not passed on again. Alertmanager's own retries are within its `group_interval`.
const PASSED_AGE: Duration = Duration::from_mins(10);
/// The same where no peer has a container that it means.
const NOWHERE_AGE: Duration = Duration::from_secs(30);
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
    /// Alerts that may go together with it, itself among them.
    #[serde(skip, default = "together")]
    most: usize,
}

fn together() -> usize {
    TOGETHER
}

impl Pass {
    pub(super) fn of(told: &Told, receiver: &str, at: u64) -> Self {
        Self {
            status: told.status,
            alert: Arc::clone(&told.alert),
            receiver: receiver.to_owned(),
            at,
            most: TOGETHER,
        }
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
    nowhere: Recent,
}

/// For how long it is known that an alert was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Long,
    /// Its container may yet come.
    Briefly,
    /// Some have not got it: its next delivery is passed on to all again, and those that have it know it.
    Not,
}

impl Known {
    fn after(delivery: &Delivery, alert: usize) -> Self {
        match delivery.outcome(alert) {
            _ if delivery.error.is_some() || delivery.answered < delivery.peers => Self::Not,
            "no_peers" => Self::Not,
            "nowhere" => Self::Briefly,
            _ => Self::Long,
        }
    }
}

impl Default for Passes {
    fn default() -> Self {
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self {
            all: BTreeMap::new(),
            waiting: VecDeque::new(),
            passed: Recent::new(millis(PASSED_AGE), KNOWN),
            nowhere: Recent::new(millis(NOWHERE_AGE), KNOWN),
        }
    }
}

impl Passes {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// It waits, is on its way, or was passed on lately.
    pub(super) fn knows(&self, key: &Key, now: u64) -> bool {
        let lately = || self.passed.get(key, now).or_else(|| self.nowhere.get(key, now));
        self.all.contains_key(key) || lately().is_some()
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
        let mut most = TOGETHER;
        while let Some(key) = self.waiting.front().copied() {
            let Some(pass) = self.all.get(&key) else {
                self.waiting.pop_front();
                continue;
            };
            let text = pass.as_json().to_string();
            let other = receiver.as_ref().is_some_and(|receiver| *receiver != pass.receiver);
            most = most.min(pass.most);
            if other || keys.len() >= most || (bytes + text.len() > TOGETHER_BYTES && !keys.is_empty()) {
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

    /// One of them has spoiled the parcel for a peer: each goes once more, with half of the others at most.
    fn take_apart(&mut self, keys: &[Key]) {
        for key in keys.iter().rev() {
            if let Some(pass) = self.all.get_mut(key) {
                pass.most = keys.len().div_ceil(2);
                self.waiting.push_front(*key);
            }
        }
    }

    /// Nothing more is to be done for it.
    fn done(&mut self, key: &Key, known: Known, now: u64) -> Option<Pass> {
        let pass = self.all.remove(key)?;
        if known != Known::Long {
            self.passed.remove(key, pass.at);
        }
        if known == Known::Briefly {
            self.nowhere.put(*key, now);
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
    let mut first: JoinSet<(Vec<Key>, ControlFlow<Delivery, Rest>)> = JoinSet::new();
    let mut again: JoinSet<(Vec<Key>, Delivery)> = JoinSet::new();
    let mut retried = 0;
    let mistake = || Delivery::failed("the agent's own mistake");
    loop {
        while first.len() < AT_ONCE
            && let Some((keys, parcel)) = shared.next_parcel()
        {
            let passing = AssertUnwindSafe((shared.pass_on)(parcel)).catch_unwind();
            first.spawn(
                async move { (keys, passing.await.unwrap_or_else(|_| ControlFlow::Break(mistake()))) },
            );
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.to_pass.notified() => {}
            Some(ended) = first.join_next() => match ended {
                Ok((keys, ControlFlow::Break(delivery))) => finish(&shared, &keys, &delivery),
                Ok((keys, ControlFlow::Continue(rest))) => {
                    let few = again.len() < AGAIN && retried + keys.len() <= shared.room_to_pass() / 2;
                    let on = few || retried == 0;
                    retried += keys.len();
                    let passing = AssertUnwindSafe(rest(on)).catch_unwind();
                    again.spawn(async move { (keys, passing.await.unwrap_or_else(|_| mistake())) });
                }
                Err(_) => {}
            },
            Some(ended) = again.join_next() => if let Ok((keys, delivery)) = ended {
                retried -= keys.len();
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

    fn room_to_pass(&self) -> usize {
        self.config.load().peers.as_ref().map_or(0, |peers| peers.queue)
    }
}

fn finish(shared: &Shared, keys: &[Key], delivery: &Delivery) {
    let now = millis(SystemTime::now());
    if delivery.spoiled {
        shared.queue().passes.take_apart(keys);
    } else {
        let mut queue = shared.queue();
        for (place, key) in keys.iter().enumerate() {
            shared.counters.passed.with_label_values(&[delivery.outcome(place)]).inc();
            if let Some(pass) = queue.passes.done(key, Known::after(delivery, place), now) {
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
    let Delivery { peers, answered, took, failures, error, spoiled } = delivery;
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
    if *spoiled {
        text += "; it is passed on once more, with fewer others";
    }
    text
}

#[cfg(test)]
mod tests;
