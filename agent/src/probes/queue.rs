//! The runs that wait and the ones that are under way. Who may come in is `mod`'s decision; here is whose turn it is.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::UntilPublished;
use super::put_off::Load;
use super::quarantine::Quarantine;
use crate::model::{Container, Outcome, ProbeName, RunId, RunRequest, RunResult, TriggerName};

#[derive(Default)]
pub(super) struct State {
    waiting: VecDeque<Job>,
    /// Those of them that nobody waits for: they are not to be asked for twice.
    unasked: HashSet<Unasked>,
    /// The containers in which something runs. A joined command is a process of its container: two at once would count
    /// each other, so there is one at a time in each pid namespace, which containers of a pod may share.
    pub(super) running: Vec<Arc<Container>>,
    pub(super) quarantine: Quarantine,
    pub(super) closed: bool,
}

/// Probe, trigger, and the container by its place in memory, which the job keeps from being another's.
type Unasked = (ProbeName, TriggerName, usize);

fn unasked(request: &RunRequest) -> Unasked {
    (request.probe.clone(), request.trigger.clone(), Arc::as_ptr(&request.container).addr())
}

pub(super) struct Job {
    pub(super) request: RunRequest,
    pub(super) reply: Option<oneshot::Sender<RunResult>>,
    /// Whoever waits wants the output itself and not only what came of it.
    pub(super) hold: bool,
    /// Whether the result takes the place of the probe's earlier one in that container.
    pub(super) publish: bool,
    pub(super) early: Early,
    pub(super) until_published: Option<UntilPublished>,
}

/// What ends a run before its time.
#[derive(Clone, Debug, Default)]
pub(super) struct Early {
    /// Ends the command. Also set when it is late.
    pub(super) cancel: CancellationToken,
    /// Its asker's deadline is over.
    pub(super) late: CancellationToken,
}

impl Early {
    /// What the run has come to if nothing else ended it.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        if self.late.is_cancelled() {
            Some(Outcome::Timeout)
        } else {
            self.cancel.is_cancelled().then_some(Outcome::Cancelled)
        }
    }
}

impl State {
    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What there is to do. At the agent's end nothing is begun any more, and what is under way is not waited for.
    pub(super) fn load(&self) -> Load {
        if self.closed || (self.waiting.is_empty() && self.running.is_empty()) {
            Load::Idle
        } else if self.waiting.is_empty() {
            Load::Running
        } else {
            Load::Queued
        }
    }

    /// Whether the very same waits already, and nobody for it.
    pub(super) fn has_unasked(&self, request: &RunRequest) -> bool {
        self.unasked.contains(&unasked(request))
    }

    pub(super) fn push(&mut self, job: Job) {
        if job.reply.is_none() {
            self.unasked.insert(unasked(&job.request));
        }
        self.waiting.push_back(job);
    }

    /// Forgets all that wait.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.unasked.clear();
    }

    /// The oldest job whose pid namespace is free; those whose asker has left are forgotten.
    pub(super) fn next(&mut self) -> Option<Job> {
        let is_free =
            |job: &Job| !self.running.iter().any(|busy| busy.pid_ns == job.request.container.pid_ns);
        loop {
            let place = self.waiting.iter().position(is_free)?;
            // All that wait are not looked at for each that runs: there may be thousands.
            let job = self.waiting.remove(place)?;
            if job.reply.is_none() {
                self.unasked.remove(&unasked(&job.request));
            }
            if !job.is_abandoned() {
                return Some(job);
            }
        }
    }

    /// Whether it still waited; it does not any more.
    pub(super) fn forget_waiting(&mut self, run: &RunId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|job| job.request.id != *run);
        self.waiting.len() < before
    }

    pub(super) fn forget_abandoned(&mut self) {
        self.waiting.retain(|job| !job.is_abandoned());
    }
}

impl Job {
    fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{container, named};

    fn job(probe: &str, container: &Arc<Container>, reply: Option<oneshot::Sender<RunResult>>) -> Job {
        let request =
            RunRequest::new(ProbeName::new(probe), TriggerName::new("steady"), Arc::clone(container));
        Job { request, reply, hold: false, publish: true, early: Early::default(), until_published: None }
    }

    #[test]
    fn what_waits_is_known_until_its_turn_and_who_has_left_is_passed_over() {
        let [cart, web] = ["a", "b"].map(|id| container(id, named("shop", "cart-0", id)));
        let mut state = State::default();
        let (first, other) = (job("p", &cart, None), job("p", &web, None));
        let (wanted, elsewhere) = (first.request.clone(), other.request);
        let (reply, asker) = oneshot::channel();
        drop(asker);
        state.push(job("asked", &cart, Some(reply)));
        state.push(first);
        assert!(state.has_unasked(&wanted) && !state.has_unasked(&elsewhere));
        assert_eq!(state.next().unwrap().request.id, wanted.id);
        assert!(!state.has_unasked(&wanted) && state.next().is_none());
        state.push(job("p", &cart, None));
        state.clear();
        assert!(!state.has_unasked(&wanted) && state.waiting() == 0);
    }

    #[test]
    fn the_load_is_what_runs_wait_for_and_nothing_at_the_end() {
        let cart = container("a", named("shop", "cart-0", "a"));
        let mut state = State::default();
        assert_eq!(state.load(), Load::Idle);
        state.push(job("p", &cart, None));
        assert_eq!(state.load(), Load::Queued);
        let begun = state.next().unwrap();
        state.running.push(begun.request.container);
        assert_eq!(state.load(), Load::Running);
        state.closed = true;
        assert_eq!(state.load(), Load::Idle);
    }
}
