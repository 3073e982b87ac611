//! The init of a service ends, and the service goes on: by daemon(3), after a helper of `ExecStartPre=`, when it has started
//! a new version of itself. Its life is that of its cgroup; who stands for it may change. A runtime's container ends with
//! its init, and none of this is for it.

use std::sync::Arc;
use std::time::Duration;

use super::{Actor, Ended, Known, Origin};
use crate::containers::init::{Init, Look, look};
use crate::detect::{self, Cgroup, Reason};
use crate::model::{Container, ContainerEvent};

/// Between a helper's end and the start of what it has prepared, a service is without a process.
pub(super) const NEXT_WITHIN: Duration = Duration::from_secs(1);

impl Actor {
    /// Has the init's end watched; `None` where that is not possible.
    pub(super) fn hold(&mut self, container: Container) -> Option<Arc<Container>> {
        let end = match container.pidfd.try_clone().and_then(crate::enter::watch) {
            Ok(end) => end,
            Err(error) => {
                tracing::error!(id = %container.id, %error, "a container's end cannot be watched: it is left out");
                return None;
            }
        };
        let container = Arc::new(container);
        let ended = Ended { container: Arc::clone(&container), waited: false };
        self.ends.spawn(async move {
            // An error would mean that the runtime is shutting down.
            let _ = end.readable().await;
            ended
        });
        Some(container)
    }

    /// The next exec in it, or below it where it is not a runtime's own and so may come to life again, writes a record.
    pub(super) fn forget(&mut self, cgroup: &Cgroup) {
        let Some(seen) = &mut self.seen else { return };
        seen.forget(cgroup.id);
        if matches!(cgroup.named.name, detect::cgroup::Name::Own(_)) {
            cgroup.ids().into_iter().for_each(|id| seen.forget(id));
        }
    }

    pub(super) async fn ended(&mut self, ended: &Ended) {
        let container = &ended.container;
        let is_current =
            |known: &Known| Arc::ptr_eq(&known.container, container) && super::has_ended(&known.container);
        let Some(known) = self.known.get(&container.id).filter(|known| is_current(known)) else { return };
        if let Origin::PidFile { path, .. } = &known.origin {
            let path = path.clone();
            self.down(container).await;
            self.look_at_pid_file(&path).await;
            return;
        }
        if self.succeed(container).await {
            return;
        }
        if !ended.waited && self.goes_on(container) {
            let ended = Ended { container: Arc::clone(container), waited: true };
            self.ends.spawn(async move {
                tokio::time::sleep(NEXT_WITHIN).await;
                ended
            });
            return;
        }
        self.down(container).await;
    }

    /// Whether the cgroup is still there, and for a service in the same start of it, so that a process may follow.
    pub(super) fn goes_on(&mut self, container: &Container) -> bool {
        let Some(cgroup) = self.cgroup_of_a_group(container) else { return false };
        let goes_on = self.hierarchies.again(&cgroup).is_some_and(|now| now.container == container.id);
        if goes_on {
            self.forget(&cgroup);
        }
        goes_on
    }

    fn cgroup_of_a_group(&self, container: &Container) -> Option<Cgroup> {
        match &self.known.get(&container.id)?.origin {
            Origin::Cgroup(cgroup) if !cgroup.named.runtime.is_container() => Some(cgroup.clone()),
            Origin::Cgroup(_) | Origin::PidFile { .. } => None,
        }
    }

    /// Puts another process of the same life in the place of one that has ended; false where there is none.
    pub(super) async fn succeed(&mut self, before: &Arc<Container>) -> bool {
        let Some(cgroup) = self.cgroup_of_a_group(before) else { return false };
        if self.hierarchies.again(&cgroup).is_none_or(|now| now.container != before.id) {
            return false;
        }
        let Ok(Look::Found(init)) = look(&cgroup, &self.launcher, true).await else { return false };
        self.put_in_place(before, init)
    }

    fn put_in_place(&mut self, before: &Arc<Container>, init: Init) -> bool {
        let Some(known) = self.known.get(&before.id) else { return false };
        let (origin, up) = (known.origin.clone(), known.up);
        let Some(container) = self.hold(origin.container(init, Some(before))) else { return false };
        let known = Known { container: Arc::clone(&container), origin, up };
        self.known.insert(container.id.clone(), known);
        self.publish();
        tracing::debug!(container = %container, pid = container.pid, "another process stands for it");
        (self.tell)(&ContainerEvent::Moved(container));
        true
    }

    /// The life before this one of the same service, if it is over and that has not been taken note of yet.
    pub(super) fn former(&self, origin: &Origin) -> Option<Arc<Container>> {
        let Origin::Cgroup(cgroup) = origin else { return None };
        let is_former = |known: &&Known| {
            matches!(&known.origin, Origin::Cgroup(other) if other.named == cgroup.named)
                && known.container.id != cgroup.container
                && super::has_ended(&known.container)
        };
        self.known.values().find(is_former).map(|known| Arc::clone(&known.container))
    }

    /// What has ended may have been a helper that passed through, be started again already, or never have been the init. What
    /// is left of a container that `is_over` is mostly on its way out, but for the first process of a pid namespace.
    pub(super) async fn look_again(&mut self, cgroup: &Cgroup, is_over: bool) {
        let Some(now) = self.hierarchies.again(cgroup) else { return };
        if self.known.contains_key(&now.container) {
            return;
        }
        match look(&now, &self.launcher, true).await {
            Ok(Look::Found(init)) if !is_over || init.about.inner_pid == 1 => {
                self.up(Origin::Cgroup(now), init, None).await;
            }
            Ok(Look::Found(_) | Look::NotYet) => self.later.look(now),
            Ok(Look::Empty) => {}
            Err(error) => self.missed(&now, &error),
        }
    }

    /// The configuration names other targets.
    pub(super) async fn aim_anew(&mut self) {
        let targets = self.targets();
        let is_none = |known: &&Known| match &known.origin {
            Origin::Cgroup(cgroup) => {
                detect::cgroup::parse(&cgroup.named.path, &targets).as_ref() != Some(&cgroup.named)
            }
            Origin::PidFile { path, .. } => !targets.pid_files.contains(path),
        };
        let gone: Vec<_> =
            self.known.values().filter(is_none).map(|known| Arc::clone(&known.container)).collect();
        for container in gone {
            // It lives on, and is not looked for by its old name.
            self.let_go(&container).await;
        }
        self.watch_pid_files();
        self.scan(Reason::Reload).await;
        self.look_at_pid_files().await;
    }
}
