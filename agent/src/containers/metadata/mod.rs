//! What the runtimes say of the containers, asked once per container: the bundle on disk at once, and one CRI call for
//! what it does not hold (labels). At start there is one list; a run asks nothing.
//!
//! A runtime that is absent, slow or restarted costs nothing but the description: the container is known by its id, and
//! the runtime is asked again, ever more rarely, as long as somebody waits for its answer.

mod cri;
mod generated {
    #![allow(warnings, clippy::all, clippy::pedantic, reason = "made by cargo xtask codegen")]
    include!("generated/runtime.v1.rs");
}
mod merge;
mod oci;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounterVec;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use self::cri::USUAL as USUAL_SOCKETS;
use self::cri::{Client, CriError, Described};
use self::merge::merge;
use crate::config::{RuntimeEndpoint, Runtimes};
use crate::model::{Container, ContainerId, Metadata};

/// Containers whose news may wait for this task; the registry holds no more than that.
const QUEUE: usize = 4096;
/// A runtime lists a sandbox only once RunPodSandbox has returned, which is seconds after its first exec on a busy node.
/// The first container of the pod tells that it has; this is for pods that have none.
const SANDBOX_DELAY: Duration = Duration::from_secs(30);
/// Until an answer without the container is asked for again.
const MISS_DELAY: Duration = Duration::from_secs(2);
/// Between tries after a failure: doubled from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// An answer without the container is asked for again this often: it may have come a moment too early.
const MAX_MISSES: u32 = 2;

/// `runtime`, `call`.
#[derive(Clone, Debug)]
pub struct Counters {
    pub requests: IntCounterVec,
    pub failures: IntCounterVec,
}

/// Where runtimes' sockets are looked for with this configuration, whether there is one or not.
pub fn looked_at(runtimes: &Runtimes) -> Vec<PathBuf> {
    match runtimes {
        Runtimes::Auto => cri::USUAL.iter().map(PathBuf::from).collect(),
        Runtimes::Listed(listed) => {
            listed.iter().map(|RuntimeEndpoint::Cri(socket)| socket.clone()).collect()
        }
    }
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
}

impl std::fmt::Debug for Describer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Describer").finish_non_exhaustive()
    }
}

/// Starts the task. Nobody is asked before [`Describer::scanned`].
pub fn start(runtimes: &Runtimes, counters: Counters, described: OnDescribed) -> Describer {
    let sockets: Vec<PathBuf> = match runtimes {
        Runtimes::Auto => cri::usual_sockets(),
        Runtimes::Listed(list) => list.iter().map(|RuntimeEndpoint::Cri(path)| path.clone()).collect(),
    };
    if sockets.is_empty() {
        tracing::warn!("no runtime socket was found: names come from bundles on disk only; set `runtimes:`");
    }
    let clients: Vec<Client> = sockets
        .iter()
        .filter_map(|socket| {
            Client::new(socket)
                .inspect_err(
                    |error| tracing::error!(socket = %socket.display(), %error, "not a socket's path"),
                )
                .ok()
        })
        .collect();
    for client in &clients {
        for call in cri::CALLS {
            let labels = [client.runtime.as_str(), call];
            // Zeros from the first scrape on, so that a rate does not miss the first failure.
            counters.requests.with_label_values(&labels);
            counters.failures.with_label_values(&labels);
        }
    }
    let described = Arc::new(described);
    let (news, inbox) = mpsc::channel(QUEUE);
    let (tell_listed, listed) = watch::channel(false);
    let asker = Asker {
        clients,
        counters,
        described: Arc::clone(&described),
        known: HashMap::new(),
        listed: tell_listed,
        retry: None,
        backoff: BACKOFF.0,
    };
    tokio::spawn(asker.work(inbox));
    Describer { news, described, listed }
}

impl Describer {
    /// A container is up. Its names are there when this returns if its bundle is on disk; the runtime's answer follows.
    pub async fn up(&self, container: &Arc<Container>, parent_cwd: Option<&Path>) {
        let bundle = oci::read(container.id.as_str(), parent_cwd).unwrap_or_default();
        if bundle.kind.is_some() {
            container.metadata.store(Some(Arc::new(merge(None, &bundle.metadata, None))));
            (self.described)(container);
        }
        let (kind, sandbox_id) = (bundle.kind, bundle.sandbox_id);
        // An error means that the task has ended with the agent.
        let _ = self.news.send(News::Up { container: Arc::clone(container), kind, sandbox_id }).await;
    }

    pub async fn down(&self, container: &Container) {
        let _ = self.news.send(News::Down(container.id.clone())).await;
    }

    /// Returns when every runtime was asked for a list and one or more have answered: what ran before is described by then. One that
    /// does not answer is waited for by nobody: a socket may be there whose runtime is not, or speaks no CRI.
    pub async fn listed(&self) {
        // An error means that the task has ended with the agent.
        let _ = self.listed.clone().wait_for(|listed| *listed).await;
    }

    /// The first scan is over: what it found is described by one list.
    pub async fn scanned(&self) {
        let _ = self.news.send(News::Scanned).await;
    }
}

/// One live container.
struct Known {
    container: Arc<Container>,
    kind: Option<Kind>,
    sandbox_id: String,
    /// When the runtime is to be asked for it; `None` once it has answered.
    due: Option<Instant>,
    misses: u32,
}

struct Asker {
    clients: Vec<Client>,
    counters: Counters,
    described: Arc<OnDescribed>,
    /// As many as the registry holds, which is bounded.
    known: HashMap<ContainerId, Known>,
    /// The one list has been answered by every runtime that answers.
    listed: watch::Sender<bool>,
    /// After a failure nobody is asked before this.
    retry: Option<Instant>,
    backoff: Duration,
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
                        self.ask_for_all().await;
                    }
                    None => return,
                },
                () = due => self.ask().await,
            }
        }
    }

    /// When somebody is to be asked next.
    fn next(&self) -> Option<Instant> {
        let due = self.known.values().filter_map(|known| known.due).min()?;
        Some(self.retry.map_or(due, |retry| due.max(retry)))
    }

    fn add(&mut self, container: Arc<Container>, kind: Option<Kind>, sandbox_id: String) {
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

    async fn ask(&mut self) {
        let asked = if *self.listed.borrow() && self.retry.is_none() {
            self.ask_for_due().await
        } else {
            self.list_all().await
        };
        self.settle(asked);
    }

    async fn ask_for_all(&mut self) {
        let asked = self.list_all().await;
        self.settle(asked);
    }

    /// After a failure everybody waits, and the next answer is a list for all of them.
    fn settle(&mut self, asked: Result<(), CriError>) {
        match asked {
            Ok(()) => {
                self.retry = None;
                self.backoff = BACKOFF.0;
            }
            Err(error) => {
                tracing::warn!(%error, retry_in = ?self.backoff, "containers are known by id only for now");
                self.retry = Some(Instant::now() + self.backoff);
                self.backoff = (self.backoff * 2).min(BACKOFF.1);
            }
        }
    }

    /// One list of containers and one of sandboxes per runtime describe everybody who waits.
    async fn list_all(&mut self) -> Result<(), CriError> {
        let mut failed = None;
        let mut answered = self.clients.is_empty();
        for client in &self.clients {
            let answers = async {
                let sandboxes = client.sandboxes(None, &self.counters).await?;
                Ok((sandboxes, client.containers(None, &self.counters).await?))
            };
            match answers.await {
                Ok((sandboxes, containers)) => {
                    answered = true;
                    tracing::debug!(socket = %client.socket().display(), containers = containers.len(), "listed");
                    for answer in sandboxes.into_iter().chain(containers) {
                        describe(&mut self.known, &self.described, &answer);
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        if answered {
            self.listed.send_replace(true);
        }
        // Sandboxes came first, so every container has met its pod. Who is still waiting is no runtime's here.
        match failed {
            None => {
                let now = Instant::now();
                self.known.values_mut().for_each(|known| known.miss(now));
                Ok(())
            }
            Some(error) => Err(error),
        }
    }

    /// One call for each container that is due, sandboxes first.
    async fn ask_for_due(&mut self) -> Result<(), CriError> {
        let now = Instant::now();
        let is_due = |known: &&Known| known.due.is_some_and(|due| due <= now);
        let mut due: Vec<_> =
            self.known.values().filter(is_due).map(|k| (k.container.id.clone(), k.kind)).collect();
        due.sort_by_key(|(_, kind)| *kind != Some(Kind::Sandbox));
        for (id, kind) in due {
            let answer = find(&self.clients, &id, kind, &self.counters).await?;
            // A runtime that tells of another one has not answered, and is not asked again at once.
            match answer.filter(|answer| answer.id == id.as_str()) {
                Some(answer) => describe(&mut self.known, &self.described, &answer),
                None => {
                    if let Some(known) = self.known.get_mut(&id) {
                        known.miss(now);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Known {
    /// The runtimes answered, but not for this container.
    fn miss(&mut self, now: Instant) {
        if self.due.is_some() {
            self.misses += 1;
            self.due = (self.misses < MAX_MISSES).then(|| now + MISS_DELAY);
        }
    }
}

/// One call per runtime if the kind is known from the bundle, else two.
async fn find(
    clients: &[Client],
    id: &ContainerId,
    kind: Option<Kind>,
    counters: &Counters,
) -> Result<Option<Described>, CriError> {
    for client in clients {
        if kind != Some(Kind::Sandbox)
            && let Some(found) = client.containers(Some(id.as_str()), counters).await?.into_iter().next()
        {
            return Ok(Some(found));
        }
        if kind != Some(Kind::Container)
            && let Some(found) = client.sandboxes(Some(id.as_str()), counters).await?.into_iter().next()
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Takes an answer over into its container; a sandbox's labels go to all containers of its pod.
fn describe(all: &mut HashMap<ContainerId, Known>, described: &OnDescribed, answer: &Described) {
    let Some(known) = all.get_mut(answer.id.as_str()) else { return };
    known.due = None;
    known.kind = Some(if answer.metadata.sandbox { Kind::Sandbox } else { Kind::Container });
    known.sandbox_id.clone_from(&answer.sandbox_id);
    let pod = pod_of(all, &answer.sandbox_id);
    take_over(all, described, &answer.id, &answer.metadata, pod.as_deref());
    if answer.metadata.sandbox {
        let members: Vec<_> = all
            .values()
            .filter(|k| k.sandbox_id == answer.id && k.container.id.as_str() != answer.id)
            .map(|k| k.container.id.clone())
            .collect();
        let pod = pod_of(all, &answer.id);
        for id in members {
            take_over(all, described, id.as_str(), &Metadata::default(), pod.as_deref());
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
    newer: &Metadata,
    pod: Option<&Metadata>,
) {
    let Some(known) = all.get(id) else { return };
    let older = known.container.metadata.load_full();
    let merged = merge(older.as_deref(), newer, pod);
    if older.as_deref() != Some(&merged) {
        known.container.metadata.store(Some(Arc::new(merged)));
        described(&known.container);
    }
}

#[cfg(test)]
mod tests;
