//! Why a probe runs: a container has started, a schedule is due, somebody asks over HTTP, or an alert fires. This room turns
//! each into requests for live containers; it runs nothing. Alerts have a room of their own in it, with a queue on disk.

pub mod alerts;
mod schedule;
mod select;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use self::schedule::Schedule;
pub use self::select::{MIN_ID, Resolved, Target, http_trigger, resolve};
use crate::config::{Config, When};
use crate::model::{Container, ContainerEvent, RunRequest, TriggerName};

/// How long a started container is waited for to be described by its runtime, beyond the trigger's own delay, before
/// its trigger is decided without.
const DESCRIPTION_WAIT: Duration = Duration::from_secs(10);
/// Starts that wait for their delay. A node that starts more at once loses the probe at start of the rest, with a log line.
const MAX_PENDING: usize = 10_000;

/// The live containers at this moment.
pub type LiveSet = Box<dyn Fn() -> Arc<Vec<Arc<Container>>> + Send + Sync>;
/// Takes a request; what it refuses it counts itself.
pub type Submit = Box<dyn Fn(RunRequest) + Send + Sync>;

/// What the triggers listen to and speak to.
pub struct Wiring {
    pub config: Arc<ArcSwap<Config>>,
    /// Changes when `config` has been swapped.
    pub reloaded: watch::Receiver<u64>,
    pub live: LiveSet,
    pub events: broadcast::Receiver<ContainerEvent>,
    pub submit: Submit,
    /// Name of this node, so that a fleet does not fire in one instant.
    pub node: String,
}

impl std::fmt::Debug for Wiring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wiring").field("node", &self.node).finish_non_exhaustive()
    }
}

/// A container's start that waits for its trigger's delay, and for its description.
struct Start {
    trigger: TriggerName,
    container: Arc<Container>,
    due: Instant,
}

impl Start {
    /// When it is to be decided, as far as is known now.
    fn when(&self) -> Instant {
        let described = self.container.metadata.load().is_some();
        if described { self.due } else { self.due + DESCRIPTION_WAIT }
    }
}

/// Runs until the registry closes its channel. Sleeps until the next schedule or start is due and not a moment less.
pub async fn watch(mut wiring: Wiring) {
    let mut schedules = plan(&wiring, Vec::new());
    let mut starts: Vec<Start> = Vec::new();
    // Who came up before this has been planned for, or ran before the agent did.
    let mut planned_until = SystemTime::now();
    loop {
        let next = schedules.iter().map(Schedule::next).chain(starts.iter().map(Start::when)).min();
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            reloaded = wiring.reloaded.changed() => {
                if reloaded.is_err() {
                    return;
                }
                schedules = plan(&wiring, schedules);
            }
            event = wiring.events.recv() => match event {
                Ok(ContainerEvent::Up(container)) => {
                    planned_until = planned_until.max(container.up_at);
                    wait_for(&wiring, &container, &mut starts);
                }
                // Its description may be what a start waits for.
                Ok(ContainerEvent::Described(_)) => {}
                Ok(ContainerEvent::Moved(container)) => {
                    let same = |start: &&mut Start| start.container.id == container.id;
                    starts.iter_mut().filter(same).for_each(|start| start.container = Arc::clone(&container));
                }
                Ok(ContainerEvent::Down(gone)) => starts.retain(|start| !Arc::ptr_eq(&start.container, &gone)),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "containers start and stop faster than their triggers are planned");
                    let live = (wiring.live)();
                    starts.retain(|start| live.iter().any(|container| Arc::ptr_eq(container, &start.container)));
                    live.iter().filter(|c| c.up_at > planned_until).for_each(|c| wait_for(&wiring, c, &mut starts));
                    planned_until = SystemTime::now();
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
        fire(&wiring, &mut schedules, &mut starts);
    }
}

/// A schedule that a reload has not changed keeps its turn: reloads more often than its period must not starve it.
fn plan(wiring: &Wiring, mut before: Vec<Schedule>) -> Vec<Schedule> {
    let config = wiring.config.load();
    let mut keep = |new: Schedule| match before.iter().position(|old| old.is_like(&new)) {
        Some(place) => before.swap_remove(place),
        None => new,
    };
    config.triggers.values().filter_map(|t| Schedule::of(t, &wiring.node)).map(&mut keep).collect()
}

fn wait_for(wiring: &Wiring, container: &Arc<Container>, starts: &mut Vec<Start>) {
    for trigger in wiring.config.load().triggers.values() {
        let When::ContainerStart { delay } = trigger.when else { continue };
        if starts.len() >= MAX_PENDING {
            tracing::warn!(trigger = %trigger.name, id = %container.id, "too many starts at once: not probed at start");
            return;
        }
        let container = Arc::clone(container);
        starts.push(Start { trigger: trigger.name.clone(), container, due: Instant::now() + delay });
    }
}

fn fire(wiring: &Wiring, schedules: &mut [Schedule], starts: &mut Vec<Start>) {
    let now = Instant::now();
    let config = wiring.config.load();
    for start in starts.extract_if(.., |start| start.when() <= now) {
        // A reload may have taken the trigger away in the meantime.
        if let Some(trigger) = config.triggers.get(&start.trigger) {
            select::requests(trigger, std::slice::from_ref(&start.container))
                .for_each(|run| (wiring.submit)(run));
        }
    }
    for schedule in schedules.iter_mut().filter(|schedule| schedule.next() <= now) {
        schedule.advance(now);
        if let Some(trigger) = config.triggers.get(schedule.trigger()) {
            select::requests(trigger, &(wiring.live)()).for_each(|run| (wiring.submit)(run));
        }
    }
}

#[cfg(test)]
mod tests;
