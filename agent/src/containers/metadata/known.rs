//! The containers that the describer waits for or has described, and how an answer is taken over into them. Nobody is asked here.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::cri::Described;
use super::merge::merge;
use super::{Kind, MAX_MISSES, MISS_DELAY, OnDescribed};
use crate::model::{Container, ContainerId, Metadata};

/// One live container.
pub(super) struct Known {
    pub(super) container: Arc<Container>,
    pub(super) kind: Option<Kind>,
    pub(super) sandbox_id: String,
    /// When the runtime is to be asked for it; `None` once it has answered.
    pub(super) due: Option<Instant>,
    pub(super) misses: u32,
}

impl Known {
    /// Nobody answered for this container; `answered` tells whether anybody answered at all. Where one is `failing` until
    /// then, it waits for that one.
    pub(super) fn miss(&mut self, now: Instant, answered: bool, failing: Option<Instant>) {
        if self.due.is_some() {
            self.misses = self.misses.saturating_add(u32::from(answered));
            let again = (self.misses < MAX_MISSES).then(|| now + MISS_DELAY);
            self.due = again.into_iter().chain(failing).min();
        }
    }
}

/// Takes an answer over into its container; a sandbox's labels go to all containers of its pod. `listed` is the pod of one
/// whose sandbox is none of the known ones.
pub(super) fn describe(
    all: &mut HashMap<ContainerId, Known>,
    described: &OnDescribed,
    answer: &Described,
    listed: Option<&Metadata>,
) {
    let Some(known) = all.get_mut(answer.id.as_str()) else { return };
    known.due = None;
    known.kind = Some(if answer.metadata.sandbox { Kind::Sandbox } else { Kind::Container });
    if !answer.sandbox_id.is_empty() {
        known.sandbox_id.clone_from(&answer.sandbox_id);
    }
    let pod = known.sandbox_id.clone();
    let pod = pod_of(all, &pod);
    let is_sandbox = Some(answer.metadata.sandbox);
    take_over(all, described, &answer.id, (&answer.metadata, is_sandbox), pod.as_deref().or(listed));
    if answer.metadata.sandbox {
        let members: Vec<_> = all
            .values()
            .filter(|k| k.sandbox_id == answer.id && k.container.id.as_str() != answer.id)
            .map(|k| k.container.id.clone())
            .collect();
        let pod = pod_of(all, &answer.id);
        for id in members {
            take_over(all, described, id.as_str(), (&Metadata::default(), None), pod.as_deref());
        }
    }
}

fn pod_of(all: &HashMap<ContainerId, Known>, sandbox_id: &str) -> Option<Arc<Metadata>> {
    all.get(sandbox_id)?.container.metadata.load_full()
}

fn take_over(
    all: &HashMap<ContainerId, Known>,
    described: &OnDescribed,
    id: &str,
    (newer, is_sandbox): (&Metadata, Option<bool>),
    pod: Option<&Metadata>,
) {
    let Some(known) = all.get(id) else { return };
    let older = known.container.metadata.load_full();
    // What a runtime says of it is more than what was guessed from a name.
    let guess = older
        .as_deref()
        .map(|older| Metadata { sandbox: is_sandbox.unwrap_or(older.sandbox), ..older.clone() });
    let merged = merge(guess.as_ref(), newer, pod);
    if older.as_deref() != Some(&merged) {
        known.container.metadata.store(Some(Arc::new(merged)));
        described(&known.container);
    }
}
