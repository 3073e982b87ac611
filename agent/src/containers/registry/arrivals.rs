//! A cgroup was met with, in a record or in a scan: what becomes of it, a container or one to be looked at again.

use std::sync::Arc;

use agent_ebpf::ExecSeen;
use futures_util::stream::{self, StreamExt as _};

use super::later::Due;
use super::{Actor, Origin};
use crate::containers::init::{Look, look};
use crate::detect::{self, Cgroup, Reason};
use crate::enter::EnterError;

/// A cgroup in which only a runtime's helpers were seen is believed to have no init yet this often.
const MAX_LOOKS: u32 = 3;
/// Cgroups whose processes are looked at together in a scan.
const LOOKS_AT_ONCE: usize = 16;
/// Cgroups of which that is remembered.
const MAX_UNSETTLED: usize = 1024;

impl Actor {
    pub(super) async fn scan(&mut self, reason: Reason) {
        self.counters.resyncs.with_label_values(&[reason.as_str()]).inc();
        let (hierarchies, targets) = (Arc::clone(&self.hierarchies), self.targets());
        let walk = move || detect::walk(&hierarchies, &targets);
        let Ok(scan) = tokio::task::spawn_blocking(walk).await else { return };
        if scan.truncated {
            tracing::warn!(
                "the cgroup tree is too large to be scanned whole: containers that ran before may be missed"
            );
        }
        let mut unknown = Vec::new();
        for cgroup in scan.cgroups {
            if !self.is_up(&cgroup).await {
                unknown.push(cgroup);
            }
        }
        // Several at once, so that launcher and agent do not wait for each other by turns.
        let launcher = self.launcher.clone();
        let looks = unknown.into_iter().map(|cgroup| {
            let launcher = &launcher;
            async move { (look(&cgroup, launcher, true).await, cgroup) }
        });
        let mut looks = stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE);
        let mut unsettled = Vec::new();
        while let Some((looked, cgroup)) = looks.next().await {
            match looked {
                Ok(Look::Found(init)) => self.up(Origin::Cgroup(cgroup), init, None).await,
                Ok(Look::NotYet | Look::Empty) => unsettled.push(cgroup),
                Err(error) => self.missed(&cgroup, &error),
            }
        }
        for cgroup in unsettled {
            if self.later.has_scan() {
                self.forget(&cgroup);
                continue;
            }
            match self.look_anew(&cgroup, cgroup.id, true).await {
                Ok(Look::Found(init)) => self.up(Origin::Cgroup(cgroup), init, None).await,
                Ok(Look::NotYet) => self.later.look(cgroup),
                Ok(Look::Empty) => {}
                Err(error) => self.missed(&cgroup, &error),
            }
        }
        self.later.scanned();
    }

    /// Whether this container is known and has not ended. One that was started again under its id may be seen before the
    /// end of its first life is: that is taken note of here.
    async fn is_up(&mut self, cgroup: &Cgroup) -> bool {
        let Some(known) = self.known.get(&cgroup.container) else { return false };
        let container = Arc::clone(&known.container);
        let is_users = matches!(&known.origin, Origin::Cgroup(known) if known.named.is_users());
        if is_users && !cgroup.named.is_users() {
            tracing::warn!(id = %container.id, path = container.cgroup_path, "a user's cgroup had a container's id");
            self.let_go(&container).await;
            return false;
        }
        // A service may be between two processes of one life, and then `ended` waits for the next.
        if !super::has_ended(&container) || self.succeed(&container).await || self.goes_on(&container) {
            return true;
        }
        self.down(&container).await;
        // It has been looked into again.
        self.known.contains_key(&cgroup.container)
    }

    /// A cgroup has been seen for the first time: is it a container's, and which process is its init?
    pub(super) async fn first_exec(&mut self, record: ExecSeen) {
        let targets = self.targets();
        let Some(cgroup) = self.hierarchies.resolve(record.cgroup_id, &targets) else { return };
        if self.is_up(&cgroup).await {
            return;
        }
        match self.settle(&cgroup, record.cgroup_id).await {
            Ok(Look::Found(init)) => {
                self.unsettled.remove(&record.cgroup_id);
                self.up(Origin::Cgroup(cgroup), init, Some(record.at_ns)).await;
            }
            Ok(Look::NotYet) => {
                // Most of them have gone without another word.
                if self.unsettled.len() >= MAX_UNSETTLED {
                    self.unsettled.clear();
                }
                *self.unsettled.entry(record.cgroup_id).or_default() += 1;
                self.later.look(cgroup);
            }
            Ok(Look::Empty) => {
                self.unsettled.remove(&record.cgroup_id);
                tracing::debug!(id = %cgroup.container, "a process came and went before it could be held");
            }
            Err(error) => {
                if let Some(seen) = &mut self.seen {
                    seen.forget(record.cgroup_id);
                }
                self.missed(&cgroup, &error);
            }
        }
    }

    /// Looks for the init, and where none is found has the next exec in the cgroup write a record again: there may be the
    /// runtime's helpers alone, or nobody between a service's `ExecStartPre=` and what is started after it.
    async fn settle(&mut self, cgroup: &Cgroup, cgroup_id: u64) -> Result<Look, EnterError> {
        let strict = self.unsettled.get(&cgroup_id).is_none_or(|looks| *looks < MAX_LOOKS);
        let first = look(cgroup, &self.launcher, strict).await?;
        if matches!(first, Look::Found(_)) {
            return Ok(first);
        }
        self.look_anew(cgroup, cgroup_id, strict).await
    }

    /// From here on an exec in the cgroup writes a record. The init may have exec'd just before, so there is a look after it.
    async fn look_anew(&mut self, cgroup: &Cgroup, cgroup_id: u64, strict: bool) -> Result<Look, EnterError> {
        self.forget(cgroup);
        if let Some(seen) = &mut self.seen
            && cgroup_id != cgroup.id
        {
            seen.forget(cgroup_id);
        }
        let looked = look(cgroup, &self.launcher, strict).await?;
        if let (Look::Found(_), Some(seen)) = (&looked, &mut self.seen) {
            seen.remember(cgroup_id);
        }
        Ok(looked)
    }

    /// There may be a container here, and the launcher could not say. It has used up its record, and may never exec again.
    pub(super) fn missed(&mut self, cgroup: &Cgroup, error: &EnterError) {
        tracing::error!(id = %cgroup.container, %error, "a container cannot be looked at now: there will be a scan");
        self.forget(cgroup);
        self.later.scan();
    }

    pub(super) async fn come_due(&mut self, due: Due) {
        match due {
            Due::Look(cgroup) => self.look_late(&cgroup).await,
            Due::Scan => {
                self.scan(Reason::Launcher).await;
                self.look_at_pid_files().await;
            }
        }
    }

    /// What still says that it is setting up the container after so long is called so, and a static program never execs again.
    async fn look_late(&mut self, cgroup: &Cgroup) {
        let Some(now) = self.hierarchies.again(cgroup) else { return };
        if self.is_up(&now).await {
            return;
        }
        match look(&now, &self.launcher, false).await {
            Ok(Look::Found(init)) => self.up(Origin::Cgroup(now), init, None).await,
            Ok(Look::NotYet | Look::Empty) => {}
            Err(error) => self.missed(&now, &error),
        }
    }
}
