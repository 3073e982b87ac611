//! Runs what is queued: so many at once, the oldest first, and says of each what it came to.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;

use super::counts::Dropped;
use super::journal::Op;
use super::log::{DecidedRun, Decision, Log};
use super::payload::Told;
use super::queue::Record;
use super::{RunEnd, Shared};
use crate::model::{Outcome, RunId};

/// Runs that were handed to the pool and are not final: most of them have a published result, and a capture that is on its way
/// to the disk, in memory until then.
const UNDER_WAY: usize = 640;

/// A run's turn in its container, which is over when this is dropped: as soon as its result is published, if not before.
pub struct Turn {
    shared: Arc<Shared>,
    run: RunId,
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Turn").field(&self.run).finish()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.queue().published(&self.run);
        self.shared.work.notify_one();
    }
}

/// Works until the room is closed, and what is under way then has ended.
pub(super) async fn dispatch(shared: Arc<Shared>) {
    let mut running: JoinSet<(RunId, RunEnd)> = JoinSet::new();
    loop {
        while !shared.stop.is_cancelled() && running.len() < UNDER_WAY {
            let concurrent = shared.config.load().limits.concurrent_runs;
            let next = shared.queue().next(concurrent);
            let Some((request, cancel)) = next else { break };
            let id = request.id.clone();
            let turn = Turn { shared: Arc::clone(&shared), run: id.clone() };
            let run = AssertUnwindSafe((shared.run)(request, cancel, turn)).catch_unwind();
            running.spawn(async move {
                (id, run.await.unwrap_or_else(|_| RunEnd::Refused("the agent's own mistake".into())))
            });
            // On a quiet agent as many as run at once begin before the others are handed over.
            if running.len() == concurrent {
                tokio::task::yield_now().await;
            }
        }
        tokio::select! {
            () = shared.stop.cancelled(), if !shared.stop.is_cancelled() => {}
            () = shared.work.notified() => {}
            Some(ended) = running.join_next() => if let Ok((id, end)) = ended {
                finish(&shared, &id, &end);
            }
        }
        if shared.stop.is_cancelled() && running.is_empty() {
            return;
        }
    }
}

fn finish(shared: &Shared, id: &RunId, end: &RunEnd) {
    let (state, dropped) = match end {
        // It stays in the queue and in the journal; nothing is begun any more.
        RunEnd::ShuttingDown => return,
        RunEnd::Done(Outcome::Cancelled) => ("ended: the alert is over".to_owned(), Some(Dropped::Cancelled)),
        RunEnd::Done(outcome) => (outcome.to_string(), None),
        RunEnd::Refused(why) => (format!("not run: {why}"), Some(Dropped::Refused)),
    };
    {
        let mut queue = shared.queue();
        let entry = queue.remove(id);
        let mut ops = vec![Op::Done(id.to_string())];
        if matches!(end, RunEnd::Refused(_)) {
            ops.extend(entry.and_then(|entry| queue.never_ran(&entry.record)));
        }
        shared.show(&queue);
        shared.note(ops);
    }
    if let Some(why) = dropped {
        shared.counters.drop_run(why);
        tracing::info!(run = %id, %state, "a run for an alert was not run to its end");
    }
    shared.log().run_is(id, &state);
}

/// Notes what becomes of a run that was found after a restart; those of one alert stand together.
pub(super) fn log_restored(log: &mut Log, id: &RunId, record: &Record, state: &str, now: SystemTime) {
    let mut decision = Decision::of(&record.alert, record.status, "the agent before this one", "", now);
    decision.result = "restored";
    decision.add(DecidedRun::of(id, record, state));
    let told = Told { status: record.status, alert: Arc::clone(&record.alert), too_large: false };
    log.join(told.key(), decision);
}
