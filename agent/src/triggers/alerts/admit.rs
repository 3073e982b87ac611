//! Pure: which runs a webhook's alerts come to, given what is known already. A webhook is taken whole or not at all, so that
//! a delivery after a refusal finds nothing half done.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::counts::Reason;
use super::journal::Op;
use super::pass::Pass;
use super::payload::{Key, Status, Told};
use super::queue::{Entry, Queue, Record, millis, rest_key};
use super::select::{Answer, Candidate, Considered};
use crate::model::{RunId, TriggerName};

/// Reasons in words that are kept for one alert.
const WORDS: usize = 20;

/// An alert and what the triggers make of it.
pub(super) struct Asked<'a> {
    pub(super) told: &'a Told,
    pub(super) considered: Vec<Considered<'a>>,
}

/// What holds for all alerts of a webhook.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    /// The most runs that the queue may have.
    pub(super) bound: usize,
    /// The most alerts that may wait to be passed on to peers; None where there are none.
    pub(super) peers: Option<usize>,
    /// A peer has passed them on.
    pub(super) forwarded: bool,
    pub(super) receiver: &'a str,
}

/// What one alert comes to.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) runs: Vec<(RunId, Entry)>,
    /// Why nothing, or not all, runs; each counts once.
    pub(super) reasons: BTreeSet<Reason>,
    /// The same for people.
    pub(super) words: Vec<String>,
    /// Runs that are ended because the alert is over.
    pub(super) ended: Vec<RunId>,
    /// It has been answered, and is to be known again.
    seen: Option<Key>,
    rests: Vec<Key>,
    /// Its firing, where it ends that one's runs.
    over: Option<Key>,
    /// It is passed on to the peers.
    pub(super) pass: Option<Key>,
    /// Of `ended`, those that were running: they are done when they have ended.
    pub(super) still_running: usize,
}

impl Planned {
    fn say(&mut self, reason: Option<Reason>, words: impl FnOnce() -> String) {
        self.reasons.extend(reason);
        if self.words.len() < WORDS {
            self.words.push(words());
        }
    }

    /// The word that stands for all of it.
    pub(super) fn result(&self) -> &'static str {
        match self.reasons.first() {
            _ if !self.runs.is_empty() => "queued",
            _ if !self.ended.is_empty() => "ended",
            _ if self.pass.is_some() => "passed_on",
            Some(reason) => reason.as_str(),
            None => "nothing",
        }
    }
}

/// There is no room for all of it, and it must be delivered again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What the webhook before has already decided on in this one.
#[derive(Default)]
struct Already {
    seen: HashSet<Key>,
    passed: HashSet<Key>,
    rests: HashMap<Key, u64>,
}

/// Decides on all alerts of a webhook, takes their runs into the queue, and hands out what is to be written down.
pub(super) fn admit(
    queue: &mut Queue,
    asked: &[Asked<'_>],
    terms: Terms<'_>,
    now: SystemTime,
) -> Result<(Vec<Planned>, Vec<Op>), Full> {
    let bound = terms.bound;
    let mut already = Already::default();
    let mut planned: Vec<Planned> =
        asked.iter().map(|asked| plan(queue, asked, terms, &mut already, now)).collect();
    let wanted: usize = planned.iter().map(|planned| planned.runs.len()).sum();
    let free = bound.saturating_sub(queue.entries.len());
    if wanted > free {
        // One that can never be taken whole is taken in part, once there is a good part of the room: to refuse it for ever
        // would run nothing at all.
        if wanted <= bound || free < bound.div_ceil(2) {
            return Err(Full);
        }
        cut(&mut planned, free, bound);
    }
    let mut ops = apply(queue, &mut planned, millis(now));
    for (asked, planned) in asked.iter().zip(&mut planned) {
        let Some(key) = planned.pass else { continue };
        // Of these as many are taken as there is room for: what is left out is delivered again, and the others are known then.
        if queue.passes.len() < terms.peers.unwrap_or_default() {
            ops.extend(queue.passes.put(key, Pass::of(asked.told, terms.receiver, millis(now))));
        } else {
            planned.pass = None;
            planned.say(Some(Reason::PeersFull), || {
                "there is no room to pass it on to the peers (peers.queue)".to_owned()
            });
        }
    }
    Ok((planned, ops))
}

fn plan(
    queue: &Queue,
    asked: &Asked<'_>,
    terms: Terms<'_>,
    already: &mut Already,
    now: SystemTime,
) -> Planned {
    let (told, now_ms) = (asked.told, millis(now));
    let mut planned = Planned::default();
    if told.too_large {
        planned.say(Some(Reason::TooLarge), || {
            "the alert has more or longer labels than any that is handled".to_owned()
        });
        return planned;
    }
    let key = told.key();
    let elsewhere =
        terms.peers.is_some() && !terms.forwarded && asked.considered.iter().any(|of| of.elsewhere);
    let passed_before = elsewhere && (queue.passes.knows(&key, now_ms) || already.passed.contains(&key));
    if elsewhere && !passed_before {
        already.passed.insert(key);
        planned.pass = Some(key);
    }
    if already.seen.contains(&key) || queue.seen.get(&key, now_ms).is_some() {
        let words = "it was delivered before, and has been answered then";
        match planned.pass {
            None => planned.say(Some(Reason::Duplicate), || words.to_owned()),
            Some(_) => planned.say(None, || format!("{words}, but not all peers have got it")),
        }
        return planned;
    }
    if told.status == Status::Resolved {
        end_runs(queue, asked, &mut planned);
    }
    // Peers pass on again what did not arrive, so that a resolution may come before what it resolves.
    let occasion = Told::occasion(&told.alert);
    let over =
        terms.forwarded && told.status == Status::Firing && queue.over.get(&occasion, now_ms).is_some();
    for Considered { trigger, rule, answer, .. } in &asked.considered {
        if over && rule.cancel_on_resolve && matches!(answer, Answer::Targets(..)) {
            planned.say(Some(Reason::Resolved), || {
                format!("trigger {}: the alert is over already", trigger.name)
            });
            continue;
        }
        let Answer::Targets(containers, left_out) = answer else {
            if let Answer::Nowhere(why) = answer {
                let reason = match () {
                    () if elsewhere => None,
                    () if terms.forwarded => Some(Reason::NotHere),
                    () => Some(Reason::NoContainer),
                };
                planned.say(reason, || format!("trigger {}: {why}", trigger.name));
            }
            continue;
        };
        if *left_out > 0 {
            planned.say(Some(Reason::TooManyTargets), || {
                let (name, most) = (&trigger.name, rule.max_targets);
                format!("trigger {name}: {left_out} more containers match than its max_targets of {most}")
            });
        }
        for (container, probe) in
            containers.iter().flat_map(|c| trigger.probes.iter().map(move |probe| (c, probe)))
        {
            let rest = rest_key(probe.as_str(), &container.labels);
            let last = already.rests.get(&rest).copied().or_else(|| queue.rests.get(&rest, now_ms));
            let cooldown = u64::try_from(rule.cooldown.as_millis()).unwrap_or(u64::MAX);
            // Both ways: after a clock was put back, a run of the future must not keep others off for long.
            if let Some(last) = last.filter(|last| last.abs_diff(now_ms) < cooldown) {
                planned.say(Some(Reason::Cooldown), || {
                    let until = SystemTime::UNIX_EPOCH + Duration::from_millis(last.saturating_add(cooldown));
                    let until = humantime::format_rfc3339_seconds(until);
                    format!(
                        "trigger {}: cooldown of {probe} in {} until {until}",
                        trigger.name, container.container
                    )
                });
                continue;
            }
            already.rests.insert(rest, now_ms);
            planned.rests.push(rest);
            planned.runs.push(entry(queue, told, &trigger.name, probe.as_str(), container, now_ms));
        }
    }
    if passed_before && planned.runs.is_empty() {
        planned.say(Some(Reason::Duplicate), || "it was passed on to the peers before".to_owned());
    }
    if planned.reasons.is_empty() && planned.runs.is_empty() && !elsewhere {
        nobody(asked, terms.forwarded, &mut planned);
    }
    // What found no container or no trigger is tried again when it is delivered again.
    if !planned.runs.is_empty() || planned.reasons.contains(&Reason::Cooldown) {
        already.seen.insert(key);
        planned.seen = Some(key);
    }
    planned
}

fn entry(
    queue: &Queue,
    told: &Told,
    trigger: &TriggerName,
    probe: &str,
    candidate: &Candidate,
    now: u64,
) -> (RunId, Entry) {
    let mut id = RunId::fresh();
    while queue.entries.contains_key(&id) {
        id = RunId::fresh();
    }
    let Candidate { labels, container } = candidate;
    let record = Record {
        trigger: trigger.to_string(),
        probe: probe.to_owned(),
        id: container.id.to_string(),
        start_ticks: container.start_ticks,
        namespace: labels.namespace.clone(),
        pod: labels.pod.clone(),
        container: labels.container.clone(),
        status: told.status,
        alert: Arc::clone(&told.alert),
        queued_at: now,
    };
    let container = Some(Arc::clone(container));
    (id, Entry::new(record, container))
}

/// Names the runs that the resolved alert's firing has led to, of triggers that want them ended.
fn end_runs(queue: &Queue, asked: &Asked<'_>, planned: &mut Planned) {
    let occasion = Told::occasion(&asked.told.alert);
    for Considered { trigger, rule, answer, .. } in &asked.considered {
        if !rule.cancel_on_resolve || matches!(answer, Answer::NotMeant(_)) {
            continue;
        }
        planned.over = Some(occasion);
        let of_it = queue.entries.iter().filter(|(_, entry)| {
            let record = &entry.record;
            record.status == Status::Firing
                && record.trigger == trigger.name.as_str()
                && record.is_of(&occasion)
        });
        let before = planned.ended.len();
        planned.ended.extend(of_it.map(|(id, _)| id.clone()));
        let ended = planned.ended.len() - before;
        if ended > 0 {
            planned.say(None, || format!("trigger {}: {ended} runs of the alert were ended", trigger.name));
        }
    }
}

/// No trigger is for it: says of each why not.
fn nobody(asked: &Asked<'_>, forwarded: bool, planned: &mut Planned) {
    let any = |is: fn(&Answer<'_>) -> bool| asked.considered.iter().any(|of| is(&of.answer));
    let not_now = any(|answer| matches!(answer, Answer::NotNow { .. }));
    let here = any(|answer| matches!(answer, Answer::NotNow { here: true }));
    planned.reasons.insert(match asked.told.status {
        // Who has passed it on counts those that have its container.
        Status::Resolved if not_now && forwarded && !here => Reason::NotHere,
        Status::Resolved if not_now => Reason::Resolved,
        _ => Reason::NoTrigger,
    });
    for Considered { trigger, answer, .. } in &asked.considered {
        let name = &trigger.name;
        match answer {
            Answer::NotMeant(why) => planned.say(None, || format!("trigger {name}: {why}")),
            Answer::NotNow { .. } => planned.say(None, || {
                format!(
                    "trigger {name}: its `when` does not take alerts that are {}",
                    asked.told.status.as_str()
                )
            }),
            Answer::Nowhere(_) | Answer::Targets(..) => {}
        }
    }
    if asked.considered.is_empty() {
        planned.say(None, || "the configuration has no trigger with `alert`".to_owned());
    }
}

/// Leaves the first `free` runs.
fn cut(planned: &mut [Planned], mut free: usize, bound: usize) {
    for planned in planned {
        let left_out = planned.runs.len().saturating_sub(free);
        free -= planned.runs.len() - left_out;
        if left_out == 0 {
            continue;
        }
        planned.runs.truncate(planned.runs.len() - left_out);
        planned.rests.truncate(planned.runs.len());
        if planned.runs.is_empty() {
            planned.seen = None;
        }
        planned.say(Some(Reason::QueueFull), || {
            format!("{left_out} runs were left out: the webhook asks for more than limits.queued_runs, {bound}, at once")
        });
    }
}

fn apply(queue: &mut Queue, planned: &mut [Planned], now: u64) -> Vec<Op> {
    let mut ops = Vec::new();
    for planned in planned {
        for run in &planned.ended {
            match queue.entries.get(run) {
                Some(entry) if entry.running => {
                    entry.cancel.cancel();
                    planned.still_running += 1;
                }
                _ => {
                    let waiting = queue.remove(run);
                    ops.push(Op::Done(run.to_string()));
                    ops.extend(waiting.and_then(|entry| queue.never_ran(&entry.record)));
                }
            }
        }
        for (id, entry) in &planned.runs {
            ops.extend(entry.record.written().map(|record| Op::Put(id.to_string(), record)));
            queue.entries.insert(id.clone(), entry.clone());
        }
        if let Some(key) = planned.seen {
            ops.push(Op::Seen(key, now));
            ops.extend(queue.seen.put(key, now).into_iter().map(Op::ForgetSeen));
        }
        if let Some(occasion) = planned.over {
            queue.over.put(occasion, now);
        }
        for rest in &planned.rests {
            ops.push(Op::Rest(*rest, now));
            ops.extend(queue.rests.put(*rest, now).into_iter().map(Op::ForgetRest));
        }
    }
    ops
}
