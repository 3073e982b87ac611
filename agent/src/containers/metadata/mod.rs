//! What the runtimes say of the containers, asked once per container: what is on disk at once, and one call over CRI, or to
//! Docker or Podman, for what is not there (labels). At start there is one list; a run asks nothing.
//!
//! A runtime that is absent, slow or restarted costs nothing but the description: the container is known by its id, and
//! the runtime is asked again, ever more rarely, as long as somebody waits for its answer.

mod cri;
mod engine;
mod generated {
    #![allow(warnings, clippy::all, clippy::pedantic, reason = "made by cargo xtask codegen")]
    include!("generated/runtime.v1.rs");
}
mod homes;
mod known;
mod lists;
mod merge;
mod names;
mod oci;
mod source;
mod storage;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounterVec;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::cri::Described;
use self::homes::Homes;
use self::known::{Known, describe};
use self::lists::Lists;
use self::merge::merge;
use self::oci::Bundle;
pub use self::source::{Said, ask_all, looked_at};
use self::storage::Storage;
use crate::config::{RuntimeEndpoint, Runtimes};
use crate::detect::cgroup::is_users;
use crate::model::{Container, ContainerId, Runtime};

/// Containers whose news may wait for this task; the registry holds no more than that.
const QUEUE: usize = 4096;
/// A runtime lists a sandbox only once RunPodSandbox has returned, which is seconds after its first exec on a busy node.
/// The first container of the pod tells that it has; this is for pods that have none.
const SANDBOX_DELAY: Duration = Duration::from_secs(30);
/// Until an answer without the container is asked for again.
const MISS_DELAY: Duration = Duration::from_secs(2);
/// How long a look into a user's home may take.
const HOME_DEADLINE: Duration = Duration::from_millis(500);
/// An answer without the container is asked for again this often: it may have come a moment too early.
const MAX_MISSES: u32 = 2;

/// `runtime`, `call`.
#[derive(Clone, Debug)]
pub struct Counters {
    pub requests: IntCounterVec,
    pub failures: IntCounterVec,
}

/// Told each time a container's metadata has become richer.
pub type OnDescribed = Box<dyn Fn(&Arc<Container>) + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sandbox,
    Container,
}

enum News {
    Up { container: Arc<Container>, kind: Option<Kind>, sandbox_id: String },
    Down(ContainerId),
    Scanned,
}

/// Handle to the task that asks the runtimes; cheap to clone.
#[derive(Clone)]
pub struct Describer {
    news: mpsc::Sender<News>,
    described: Arc<OnDescribed>,
    listed: watch::Receiver<bool>,
    /// Podman's storages of root's.
    storages: Arc<[Storage]>,
    /// `None` where no home is looked into.
    homes: Option<Homes>,
}

impl std::fmt::Debug for Describer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Describer").finish_non_exhaustive()
    }
}

/// Starts the task. Nobody is asked before [`Describer::scanned`].
pub fn start(runtimes: &Runtimes, counters: Counters, described: OnDescribed) -> Describer {
    let is_usual = matches!(runtimes, Runtimes::Auto);
    let lists = Lists::new(source::all(runtimes), is_usual, counters.clone());
    if lists.is_empty() {
        tracing::warn!(
            "no runtime socket was found yet: names come from what is on disk only; set `runtimes:`"
        );
    }
    let (storages, homes) = match runtimes {
        Runtimes::Auto => (vec![Storage::of_root(Path::new(storage::USUAL))], true),
        // Whoever names Podman wants its users' containers named, too.
        Runtimes::Listed(listed) => {
            (listed.iter().filter_map(of_root).collect(), listed.iter().any(is_podman))
        }
    };
    let described = Arc::new(described);
    let (news, inbox) = mpsc::channel(QUEUE);
    let (tell_listed, listed) = watch::channel(false);
    let asker = Asker {
        lists,
        counters,
        described: Arc::clone(&described),
        known: HashMap::new(),
        listed: tell_listed,
    };
    tokio::spawn(asker.work(inbox));
    let homes = homes.then(Homes::default);
    Describer { news, described, listed, storages: storages.into(), homes }
}

fn is_podman(endpoint: &RuntimeEndpoint) -> bool {
    matches!(endpoint, RuntimeEndpoint::Podman(_) | RuntimeEndpoint::PodmanStorage(_))
}

fn of_root(endpoint: &RuntimeEndpoint) -> Option<Storage> {
    match endpoint {
        RuntimeEndpoint::PodmanStorage(folder) => Some(Storage::of_root(folder)),
        _ => None,
    }
}

impl Describer {
    /// A container is up. Its names are there when this returns if they are on disk; the runtime's answer follows.
    pub async fn up(&self, container: &Arc<Container>, parent_cwd: Option<&Path>) {
        // What a user's systemd has is called what the user likes, a container's id included: root's runtimes are not asked
        // for it, nor their files.
        let is_users = is_users(&container.cgroup_path);
        let mut bundle = if is_users {
            Bundle::default()
        } else {
            oci::read(container.id.as_str(), parent_cwd).unwrap_or_default()
        };
        let is_podmans = container.runtime == Runtime::Podman;
        let storages = if is_podmans && !is_users { &*self.storages } else { &[] };
        let stored = storages.iter().find_map(|storage| storage.find(container.id.as_str()));
        let is_described = bundle.kind.is_some() || stored.is_some();
        if is_podmans && stored.is_none() {
            self.look_into_home(container).await;
        }
        if let Some(stored) = stored {
            bundle.metadata = stored;
        }
        if is_described {
            container.metadata.store(Some(Arc::new(merge(None, &bundle.metadata, None))));
            (self.described)(container);
        }
        if is_users {
            return;
        }
        let (kind, sandbox_id) = (bundle.kind, bundle.sandbox_id);
        // An error means that the task has ended with the agent.
        let _ = self.news.send(News::Up { container: Arc::clone(container), kind, sandbox_id }).await;
    }

    /// Has a user's container described from what their Podman has left, now or when their home answers.
    async fn look_into_home(&self, container: &Arc<Container>) {
        let Some(user) = storage::user_of(&container.cgroup_path) else { return };
        let look = self.homes.as_ref().and_then(|homes| homes.look(user, container, &self.described));
        if let Some(look) = look {
            let _ = tokio::time::timeout(HOME_DEADLINE, look).await;
        }
    }

    pub async fn down(&self, container: &Container) {
        let _ = self.news.send(News::Down(container.id.clone())).await;
    }

    /// Returns when every runtime was asked for a list and has answered or met its deadline, and one or more have answered: what
    /// ran before is described by then. Where none answers it does not return.
    pub async fn listed(&self) {
        // An error means that the task has ended with the agent.
        let _ = self.listed.clone().wait_for(|listed| *listed).await;
    }

    /// The first scan is over: what it found is described by one list.
    pub async fn scanned(&self) {
        let _ = self.news.send(News::Scanned).await;
    }
}

struct Asker {
    lists: Lists,
    counters: Counters,
    described: Arc<OnDescribed>,
    /// As many as the registry holds, which is bounded.
    known: HashMap<ContainerId, Known>,
    /// The one list has been answered by every runtime that answers.
    listed: watch::Sender<bool>,
}

impl Asker {
    async fn work(mut self, mut inbox: mpsc::Receiver<News>) {
        let mut scanned = false;
        loop {
            let next = if scanned { self.next() } else { None };
            let due = async {
                match next {
                    // A timer would round it up to the next millisecond, which is several times a runtime's answer.
                    Some(at) if at <= Instant::now() => {}
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                news = inbox.recv() => match news {
                    Some(News::Up { container, kind, sandbox_id }) => self.add(container, kind, sandbox_id),
                    Some(News::Down(id)) => {
                        self.known.remove(&id);
                    }
                    Some(News::Scanned) => {
                        scanned = true;
                        self.ask().await;
                    }
                    None => return,
                },
                all = self.lists.next() => self.take(&all),
                () = due => self.ask().await,
            }
        }
    }

    /// When somebody is to be asked next. Where nobody answers, there is nobody to ask before the next list.
    fn next(&self) -> Option<Instant> {
        let due = self.known.values().filter_map(|known| known.due).min()?;
        let retry = self.lists.failing().filter(|_| !self.lists.is_one_answering());
        Some(retry.map_or(due, |retry| due.max(retry)))
    }

    fn add(&mut self, container: Arc<Container>, kind: Option<Kind>, sandbox_id: String) {
        self.lists.look_for_absent();
        let now = Instant::now();
        let is_alone = || !self.known.values().any(|known| known.sandbox_id == container.id.as_str());
        let wait = if kind == Some(Kind::Sandbox) && is_alone() { SANDBOX_DELAY } else { Duration::ZERO };
        if let (Some(Kind::Container), Some(sandbox)) = (kind, self.known.get_mut(sandbox_id.as_str())) {
            // Its pod's sandbox is listed by now.
            sandbox.due = sandbox.due.map(|_| now);
        }
        let known = Known { due: Some(now + wait), container, kind, sandbox_id, misses: 0 };
        self.known.insert(known.container.id.clone(), known);
    }

    /// Whoever is to be asked for a list is asked for it, and the others for each container that is due. Where there are no
    /// others, who is due waits for the lists.
    async fn ask(&mut self) {
        let is_one_answering = self.lists.is_one_answering();
        self.lists.start();
        if is_one_answering {
            return self.ask_for_due().await;
        }
        let (now, over_by) = (Instant::now(), self.lists.over_by);
        let due = self.known.values_mut().filter(|known| known.due.is_some_and(|due| due <= now));
        due.for_each(|known| known.due = Some(over_by));
        // Where nobody can be asked.
        self.over();
    }

    /// One list describes everybody who waits.
    fn take(&mut self, all: &[Described]) {
        // Sandboxes come first, so that every container meets its pod.
        let sandboxes = all.iter().filter(|answer| answer.metadata.sandbox);
        let pods: HashMap<_, _> = sandboxes.map(|it| (&it.id, &it.metadata)).collect();
        for answer in all {
            let pod = pods.get(&answer.sandbox_id).copied();
            describe(&mut self.known, &self.described, answer, pod);
        }
        self.over();
    }

    /// A list has come, or all have failed: who is in none is asked for later, or is no runtime's here.
    fn over(&mut self) {
        let (is_one_answering, are_over) = (self.lists.is_one_answering(), self.lists.are_over());
        if are_over && (is_one_answering || self.lists.is_empty()) {
            self.listed.send_replace(true);
        }
        if are_over || is_one_answering {
            let (now, failing, over_by) = (Instant::now(), self.lists.failing(), self.lists.over_by);
            let waiting = self.known.values_mut().filter(|known| known.due == Some(over_by));
            let answered = is_one_answering || self.lists.is_empty();
            waiting.for_each(|known| known.miss(now, answered, failing));
        }
    }

    /// One call for each container that is due, sandboxes first.
    async fn ask_for_due(&mut self) {
        let now = Instant::now();
        let is_due = |known: &&Known| known.due.is_some_and(|due| due <= now);
        let mut due: Vec<_> = self
            .known
            .values()
            .filter(is_due)
            .map(|known| (Arc::clone(&known.container), known.kind, known.misses < MAX_MISSES))
            .collect();
        due.sort_by_key(|(_, kind, _)| *kind != Some(Kind::Sandbox));
        for (container, kind, is_asked_for) in due {
            let (id, runtime) = (&container.id, container.runtime);
            let answer = if is_asked_for { self.find((id, kind, runtime)).await } else { None };
            let Some(answer) = answer else {
                let (answered, failing) = (self.lists.is_one_answering(), self.lists.failing());
                if let Some(known) = self.known.get_mut(id) {
                    known.miss(now, answered, failing);
                }
                continue;
            };
            let is_alone = !answer.metadata.sandbox
                && !answer.sandbox_id.is_empty()
                && !self.known.contains_key(answer.sandbox_id.as_str());
            // It has no process of its own: CRI-O makes none unless the pod's containers share a pid namespace
            // (`drop_infra_ctr` in crio.conf(5)).
            let sandbox = ContainerId::new(&answer.sandbox_id);
            let pod = if is_alone { self.find((&sandbox, Some(Kind::Sandbox), runtime)).await } else { None };
            describe(&mut self.known, &self.described, &answer, pod.as_ref().map(|pod| &pod.metadata));
        }
    }

    /// Asks whose container it seems to be first, and the others if those do not know it. A runtime that tells of another
    /// container has not answered; one that fails keeps nobody from asking the next, and is not asked again for a while.
    async fn find(&mut self, sought: (&ContainerId, Option<Kind>, Runtime)) -> Option<Described> {
        let (id, kind, runtime) = sought;
        let mut others: Vec<_> = self.lists.answering().collect();
        others.sort_by_key(|asked| asked.source.runtime() != runtime);
        for asked in others {
            match asked.source.find(id.as_str(), kind, &self.counters).await {
                Ok(Some(found)) if found.id == id.as_str() => return Some(found),
                Ok(_) => {}
                Err(error) => asked.fail(&error),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
