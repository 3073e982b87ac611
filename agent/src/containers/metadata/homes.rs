//! Looks into users' homes, for what their Podman has left there of their containers. A home may be on a disk that does not answer:
//! one look at one user's goes on at a time, on a thread of its own, and answers for all who have come meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::{JoinHandle, spawn_blocking};

use super::OnDescribed;
use super::merge::merge;
use super::storage::Storage;
use crate::model::Container;

/// Users whose homes may not answer: each holds one of tokio's blocking threads.
const MAX_USERS: usize = 32;
/// Containers of one user that may wait for one look.
const MAX_WAITING: usize = 1024;

/// Who waits for the looks that go on, by user.
#[derive(Clone, Default)]
pub(super) struct Homes(Arc<Mutex<HashMap<u32, Vec<Arc<Container>>>>>);

impl Homes {
    /// Has the container described, now or when its user's home answers. Gives the look that it has begun; who has joined
    /// another's need not wait for it.
    pub(super) fn look(
        &self,
        user: u32,
        container: &Arc<Container>,
        described: &Arc<OnDescribed>,
    ) -> Option<JoinHandle<()>> {
        {
            let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(waiting) = users.get_mut(&user) {
                if waiting.len() < MAX_WAITING {
                    waiting.push(Arc::clone(container));
                }
                return None;
            }
            if users.len() >= MAX_USERS {
                return None;
            }
            users.insert(user, vec![Arc::clone(container)]);
        }
        let (homes, described) = (self.clone(), Arc::clone(described));
        Some(spawn_blocking(move || {
            while let Some(waiting) = homes.taken(user) {
                let storage = Storage::of_user(user);
                for container in waiting {
                    let found = storage.as_ref().and_then(|storage| storage.find(container.id.as_str()));
                    // What a runtime has said meanwhile is more.
                    if let Some(found) = found.filter(|_| container.metadata.load().is_none()) {
                        container.metadata.store(Some(Arc::new(merge(None, &found, None))));
                        described(&container);
                    }
                }
            }
        }))
    }

    /// Those who wait now; when there are none, the look is over.
    fn taken(&self, user: u32) -> Option<Vec<Arc<Container>>> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = std::mem::take(users.get_mut(&user)?);
        if waiting.is_empty() {
            users.remove(&user);
        }
        Some(waiting).filter(|waiting| !waiting.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;

    #[tokio::test]
    async fn one_users_stuck_look_takes_all_of_theirs_and_keeps_nobody_elses_from_beginning() {
        let (homes, described): (_, Arc<OnDescribed>) = (Homes::default(), Arc::new(Box::new(|_| {})));
        let container = testing::container("a", None);
        homes.0.lock().unwrap().insert(1000, Vec::new());
        for _ in 0..2 {
            assert!(homes.look(1000, &container, &described).is_none());
        }
        // Nobody has this number, and so no home.
        homes.look(999_999, &container, &described).unwrap().await.unwrap();
        assert_eq!(
            homes.0.lock().unwrap().iter().map(|(user, all)| (*user, all.len())).collect::<Vec<_>>(),
            [(1000, 2)]
        );
        // The stuck one answers.
        assert_eq!(homes.taken(1000).unwrap().len(), 2);
        assert!(homes.taken(1000).is_none() && homes.0.lock().unwrap().is_empty());
        homes.0.lock().unwrap().extend((0..32).map(|user| (user, Vec::new())));
        assert!(homes.look(999_999, &container, &described).is_none());
    }
}
