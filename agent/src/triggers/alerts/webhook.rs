//! One webhook from its bytes to its answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Shared;
use super::admit::{Asked, Planned, Terms, admit};
use super::counts::{Dropped, Reason};
use super::log::{DecidedRun, Decision};
use super::payload::{self, Key, MAX_ALERTS, Told, Webhook};
use super::select::{candidates, consider};
use crate::model::RunId;

/// How long a webhook waits for the disk. Beyond it the runs are begun, and the sender is to deliver again.
const WRITE_WAIT: Duration = Duration::from_secs(5);

/// Results that stand on what was written down.
const AS_WRITTEN: [&str; 4] = ["queued", "duplicate", "cooldown", "passed_on"];

/// What a webhook is answered with.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// An HTTP status, one of [`super::ANSWERS`].
    #[serde(skip)]
    pub status: u16,
    #[serde(flatten)]
    pub body: Value,
}

/// What was decided, and what is still to be done before the answer.
struct Taken {
    decisions: Vec<Decision>,
    /// Runs that may begin once they are written down.
    runs: Vec<RunId>,
    /// Alerts that may be passed on then.
    passes: Vec<Key>,
    /// Tells whether all that this answer stands on is on the disk; None if there is nothing to write.
    written: Option<oneshot::Receiver<bool>>,
    notes: Vec<String>,
}

/// `forwarded`: a peer has passed it on, and is told in short.
pub(super) async fn receive(shared: &Arc<Shared>, body: Bytes, who: String, forwarded: bool) -> Answer {
    let shared = Arc::clone(shared);
    // A task of its own: a sender that hangs up must not leave runs behind that nobody begins.
    let answered = tokio::spawn(async move {
        let (decided, of_log, counters) = (Arc::clone(&shared), who.clone(), shared.counters.clone());
        // Some megabytes of JSON against some hundred containers take their time.
        let turn = Arc::clone(&shared.deciding).acquire_owned().await;
        let decided = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            decide(&decided, &body, &who, forwarded)
        });
        let decided = decided.await;
        let answer = match decided {
            Ok(Ok(taken)) if forwarded => in_short(settle(&shared, taken).await),
            Ok(Ok(taken)) => settle(&shared, taken).await,
            Ok(Err(refused)) => refused,
            Err(_) => unavailable("the agent could not read it; see its log"),
        };
        counters.webhooks.with_label_values(&[&answer.status.to_string()]).inc();
        let Answer { status, body } = &answer;
        let alerts = body["alerts"].as_array().or(body["results"].as_array()).map_or(0, Vec::len);
        let reason = body["error"].as_str().or(body["reason"].as_str()).unwrap_or_default();
        tracing::info!(who = %of_log, status, alerts, queued = body["queued"].as_u64(), reason, "alerts delivered");
        answer
    });
    answered.await.unwrap_or_else(|_| unavailable("the agent is ending"))
}

/// For each alert the word alone: an agent may have a thousand peers.
fn in_short(answer: Answer) -> Answer {
    let Answer { status, body } = answer;
    let Some(alerts) = body["alerts"].as_array() else { return Answer { status, body } };
    let results: Vec<_> = alerts.iter().map(|alert| alert["result"].clone()).collect();
    Answer { status, body: json!({ "queued": body["queued"], "results": results }) }
}

fn unavailable(reason: &str) -> Answer {
    Answer { status: 503, body: json!({ "error": reason }) }
}

/// Everything but waiting for the disk.
fn decide(shared: &Shared, body: &[u8], who: &str, forwarded: bool) -> Result<Taken, Answer> {
    let webhook =
        payload::read(body).map_err(|reason| Answer { status: 400, body: json!({ "error": reason }) })?;
    let Webhook { receiver, alerts, left_out, truncated } = webhook;
    for told in &alerts {
        shared.counters.received.with_label_values(&[told.status.as_str()]).inc();
    }
    let config = shared.config.load_full();
    let live = candidates(&(shared.live)());
    let asked: Vec<Asked<'_>> =
        alerts.iter().map(|told| Asked { told, considered: consider(&config, told, &live) }).collect();

    let now = SystemTime::now();
    let mut queue = shared.queue();
    if shared.stop.is_cancelled() {
        return Err(unavailable("the agent is ending"));
    }
    if !queue.open {
        drop(queue);
        let words = "the agent does not know the node's containers yet";
        return Err(put_off(shared, &alerts, (who, &receiver), Reason::NotReady, words));
    }
    let terms = Terms {
        bound: config.limits.queued_runs,
        peers: config.peers.as_ref().map(|peers| peers.queue),
        forwarded,
        receiver: &receiver,
    };
    let Ok((planned, ops)) = admit(&mut queue, &asked, terms, now) else {
        drop(queue);
        let words = "the queue of runs for alerts is full (limits.queued_runs)";
        return Err(put_off(shared, &alerts, (who, &receiver), Reason::QueueFull, words));
    };
    shared.show(&queue);
    // Also where there is nothing to write, a duplicate's answer waits for what it is a duplicate of.
    let stands_on_disk =
        !ops.is_empty() || planned.iter().any(|planned| planned.reasons.contains(&Reason::Duplicate));
    // Without a journal nothing is: the sender's side goes at once.
    let write =
        |ops| shared.writer().as_ref().map_or_else(|| oneshot::channel().1, |writer| writer.write(ops));
    let written = stands_on_disk.then(|| write(ops));
    drop(queue);

    let notes = [
        (left_out > 0).then(|| format!("{left_out} alerts beyond the first {MAX_ALERTS} were left out")),
        (truncated > 0).then(|| format!("the sender itself has left out {truncated} alerts (max_alerts)")),
    ];
    for _ in 0..left_out {
        shared.counters.drop_alert(Reason::TooManyAlerts);
    }
    let runs = planned.iter().flat_map(|planned| &planned.runs).map(|(id, _)| id.clone()).collect();
    let passes = planned.iter().filter_map(|planned| planned.pass).collect();
    let mut log = shared.log();
    let decisions = alerts
        .iter()
        .zip(planned)
        .map(|(told, planned)| {
            let decision = decision(told, &planned, who, &receiver, now);
            account(shared, &planned);
            planned.ended.iter().for_each(|run| log.run_is(run, "ended: the alert is over"));
            log.note(told.key(), decision.clone());
            decision
        })
        .collect();
    Ok(Taken { decisions, runs, passes, written, notes: notes.into_iter().flatten().collect() })
}

/// None of them is taken. Whoever looks for one later finds why, until it is delivered again.
fn put_off(
    shared: &Shared,
    alerts: &[Told],
    (who, receiver): (&str, &str),
    why: Reason,
    words: &str,
) -> Answer {
    let now = SystemTime::now();
    let mut log = shared.log();
    for told in alerts {
        shared.counters.drop_alert(why);
        let mut decision = Decision::of(&told.alert, told.status, who, receiver, now);
        decision.result = why.as_str();
        decision.reasons.push(words.to_owned());
        log.note(told.key(), decision);
    }
    unavailable(&format!("{words}; deliver it again"))
}

fn decision(told: &Told, planned: &Planned, who: &str, receiver: &str, now: SystemTime) -> Decision {
    let mut decision = Decision::of(&told.alert, told.status, who, receiver, now);
    decision.result = planned.result();
    decision.reasons.clone_from(&planned.words);
    decision.left_out = planned.reasons.contains(&Reason::PeersFull);
    decision.passed_on = planned.pass.map(|_| "waits to be passed on".to_owned());
    for (id, entry) in &planned.runs {
        decision.add(DecidedRun::of(id, &entry.record, "queued"));
    }
    decision
}

fn account(shared: &Shared, planned: &Planned) {
    planned.reasons.iter().for_each(|reason| shared.counters.drop_alert(*reason));
    for (_, entry) in &planned.runs {
        shared.counters.runs.with_label_values(&[&entry.record.trigger]).inc();
    }
    let waiting = planned.ended.len() - planned.still_running;
    (0..waiting).for_each(|_| shared.counters.drop_run(Dropped::Cancelled));
}

/// Waits for the disk, lets the runs begin, and says what came of it.
async fn settle(shared: &Shared, taken: Taken) -> Answer {
    let Taken { decisions, runs, passes, written, notes } = taken;
    let passed_on = passes.len();
    let written = match written {
        Some(written) => {
            tokio::time::timeout(WRITE_WAIT, written).await.is_ok_and(|written| written == Ok(true))
        }
        None => true,
    };
    // Evidence counts most when something is wrong, so it is run whatever the disk says.
    {
        let mut queue = shared.queue();
        queue.release(&runs);
        queue.passes.release(passes);
    }
    shared.work.notify_one();
    shared.to_pass.notify_one();
    // The first runs begin before the answer is made, which takes a millisecond where there are hundreds.
    tokio::task::yield_now().await;
    if !written {
        for _ in decisions.iter().filter(|decision| AS_WRITTEN.contains(&decision.result)) {
            shared.counters.drop_alert(Reason::NotWritten);
        }
        return unavailable(
            "it could not be written down; what it asks for is run all the same. Deliver it again",
        );
    }
    if decisions.iter().any(|decision| decision.left_out) {
        return unavailable(
            "there is no room to pass all of it on to the peers (peers.queue); deliver it again",
        );
    }
    let queued = runs.len();
    let mut body = json!({ "queued": queued, "passed_on": passed_on, "alerts": decisions, "notes": notes });
    if queued == 0 && passed_on == 0 {
        body["reason"] = decisions.iter().find_map(|decision| decision.reasons.first()).map_or_else(
            || Value::from("there is no alert in it"),
            |first| {
                if decisions.len() == 1 {
                    Value::from(first.as_str())
                } else {
                    Value::from("no alert runs anything; each has its reason")
                }
            },
        );
    }
    Answer { status: if queued + passed_on > 0 { 202 } else { 200 }, body }
}
