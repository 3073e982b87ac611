//! Passes alerts on to the agents of the other nodes, once. Which alerts, is decided in `triggers`; this room finds out who
//! the others are, shows them the token, and knows who has taken what.
//!
//! - Who the others are: all addresses behind the service's name, looked up anew for each round. This agent is among them,
//!   and is known by what answers, not by its address: behind NAT or with several addresses that would tell nothing.
//! - One hop: each request says by a header that it was passed on, and whoever takes it passes it on no more. The header gives
//!   no rights. The token does: the peers' web configuration gives it the role `trigger`, as it does Alertmanager's.
//! - Bounded: addresses (`max_peers`), connections at once, one request (`timeout`), all rounds together (`give_up_after`),
//!   the answer's length. A peer that cannot be reached or has no room is asked again, in each round, after a pause that grows;
//!   one that refuses is not. An address that has gone from the name by then was an agent that has gone, and is forgotten.
//! - Those that did not answer lately are asked last, so that a hole in the network costs the others nothing.

mod counts;
mod resolve;
mod secrets;
mod send;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use self::counts::Failure;
pub use self::counts::{Counters, FAILURES, RESULTS};
use self::secrets::Secrets;
use self::send::{Round, Said};
use crate::config::{self, Config};
use crate::model::{Delivery, Instance, Parcel};

/// Connections to peers at once, of all parcels together.
const CONNECTIONS: usize = 64;
/// How long the name server may take.
const RESOLVE: Duration = Duration::from_secs(5);
/// Pause after the first round; each is twice as long as the one before, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(8);
/// Failures that are told in words.
const TOLD: usize = 10;

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    #[error("the configuration has no `peers` any more")]
    NotConfigured,
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} must be a file of root's that others cannot change, nor read if it holds the token", .0.display())]
    Careless(PathBuf),
    #[error("{} has no token of at least 16 plain characters in its first line", .0.display())]
    Token(PathBuf),
    #[error("{} cannot be used as an authority: {why}", path.display())]
    Authority { path: PathBuf, why: String },
    #[error("the addresses of {host} cannot be found: {why}")]
    Unresolved { host: String, why: String },
}

impl PeersError {
    fn reason(&self) -> &'static str {
        if matches!(self, Self::Unresolved { .. }) { "unresolved" } else { "settings" }
    }
}

/// Handle to the room; cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Arc<ArcSwap<Config>>,
    own: Instance,
    counters: Counters,
    connections: Semaphore,
    /// Did not answer when they were last asked; at most as many as there are peers.
    silent: Mutex<BTreeSet<SocketAddr>>,
}

/// What has come of a parcel so far.
#[derive(Default)]
struct Progress {
    /// Those that need not be asked again, with why not if they have not taken it.
    settled: BTreeMap<SocketAddr, Option<Failure>>,
    /// Addresses of this agent.
    itself: BTreeSet<SocketAddr>,
    /// Those that may take it in another round.
    pending: BTreeMap<SocketAddr, Failure>,
    took: Vec<usize>,
    beyond: usize,
    error: Option<PeersError>,
}

impl Peers {
    pub fn new(config: Arc<ArcSwap<Config>>, own: Instance, counters: Counters) -> Self {
        let (connections, silent) = (Semaphore::new(CONNECTIONS), Mutex::default());
        Self(Arc::new(Inner { config, own, counters, connections, silent }))
    }

    /// Says in the log whether alerts could be passed on now: what is wrong with a file or a name is not to be found out by an
    /// alert.
    pub async fn look(&self) {
        let Some(settings) = self.0.config.load().peers.clone() else { return };
        let host = &settings.service.host;
        match find(&settings).await {
            Ok((_, found)) => {
                tracing::info!(%host, addresses = found.len(), "alerts can be passed on to peers");
            }
            Err(error) => {
                self.0.counters.failure(error.reason());
                tracing::error!(%host, %error, "alerts could not be passed on to peers now");
            }
        }
    }

    /// Passes a parcel on to all peers, and returns when each has taken it or is given up.
    pub async fn pass_on(&self, parcel: Parcel) -> Delivery {
        let Inner { config, counters, .. } = &*self.0;
        let mut progress = Progress { took: vec![0; parcel.alerts], ..Progress::default() };
        let mut pause = FIRST_PAUSE;
        let mut until = None;
        loop {
            // Reloads count in the middle of it.
            let settings = config.load().peers.clone();
            let Some(settings) = settings else {
                progress.error = Some(PeersError::NotConfigured);
                break;
            };
            let until = *until.get_or_insert_with(|| Instant::now() + settings.give_up_after);
            let round = self.round(&settings, &parcel, &mut progress, until).await;
            progress.error = round.err();
            let done = progress.error.is_none() && progress.pending.is_empty();
            if done || Instant::now() + pause >= until {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
        progress.count(counters);
        progress.into()
    }

    async fn round(
        &self,
        settings: &config::Peers,
        parcel: &Parcel,
        progress: &mut Progress,
        until: Instant,
    ) -> Result<(), PeersError> {
        let (secrets, found) = find(settings).await?;
        progress.beyond = found.len().saturating_sub(settings.max_peers);
        let found: BTreeSet<SocketAddr> = found.into_iter().take(settings.max_peers).collect();
        let mut to_ask: Vec<SocketAddr> = found
            .iter()
            .filter(|peer| !progress.settled.contains_key(*peer) && !progress.itself.contains(*peer))
            .copied()
            .collect();
        {
            let mut silent = self.0.silent.lock().unwrap_or_else(PoisonError::into_inner);
            silent.retain(|peer| found.contains(peer));
            to_ask.sort_by_key(|peer| silent.contains(peer));
        }
        // Those that are not there any more have gone.
        progress.pending.clear();
        let round = Round { service: &settings.service, secrets: &secrets, own: &self.0.own, parcel };
        let asking = to_ask.into_iter().map(|peer| self.one(&round, peer, settings.timeout, until));
        let mut answers = futures_util::stream::iter(asking).buffer_unordered(CONNECTIONS);
        while let Some((peer, said)) = answers.next().await {
            self.note(peer, said, progress);
        }
        let others = found.len() - progress.itself.intersection(&found).count();
        self.0.counters.peers.set(i64::try_from(others).unwrap_or(i64::MAX));
        Ok(())
    }

    /// One request, within its deadline, which begins when there is a connection for it.
    async fn one(
        &self,
        round: &Round<'_>,
        peer: SocketAddr,
        timeout: Duration,
        until: Instant,
    ) -> (SocketAddr, Result<Said, Failure>) {
        let asked = async {
            let _turn = self.0.connections.acquire().await;
            timeout_at(Instant::now() + timeout, round.ask(peer)).await.unwrap_or(Err(Failure::Timeout))
        };
        (peer, timeout_at(until, asked).await.unwrap_or(Err(Failure::Timeout)))
    }

    fn note(&self, peer: SocketAddr, said: Result<Said, Failure>, progress: &mut Progress) {
        let result = match &said {
            Ok(Said::Itself) => "itself",
            Ok(Said::Took(_)) => "ok",
            Err(failure) => failure.as_str(),
        };
        self.0.counters.request(result);
        let mut silent = self.0.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(said, Err(Failure::Unreachable(_) | Failure::Timeout)) {
            silent.insert(peer);
        } else {
            silent.remove(&peer);
        }
        match said {
            Ok(Said::Itself) => _ = progress.itself.insert(peer),
            Ok(Said::Took(which)) => {
                progress.took.iter_mut().zip(which).for_each(|(count, took)| *count += usize::from(took));
                progress.settled.insert(peer, None);
            }
            Err(failure) if failure.may_pass() => _ = progress.pending.insert(peer, failure),
            Err(failure) => _ = progress.settled.insert(peer, Some(failure)),
        }
    }
}

/// What to show, and to whom.
async fn find(settings: &config::Peers) -> Result<(Secrets, BTreeSet<SocketAddr>), PeersError> {
    let for_disk = settings.clone();
    let secrets = tokio::task::spawn_blocking(move || Secrets::read(&for_disk));
    let secrets = secrets.await.map_err(|error| {
        let path = settings.token_file.clone();
        PeersError::Read { path, source: std::io::Error::other(error) }
    })??;
    let resolved = resolve::resolve(&settings.service);
    let found = tokio::time::timeout(RESOLVE, resolved).await.unwrap_or_else(|_| {
        let why = "the name server does not answer in time".to_owned();
        Err(PeersError::Unresolved { host: settings.service.host.clone(), why })
    })?;
    Ok((secrets, found))
}

impl Progress {
    fn failed(&self) -> impl Iterator<Item = (&SocketAddr, &Failure)> {
        let refused = self.settled.iter().filter_map(|(peer, failure)| Some((peer, failure.as_ref()?)));
        self.pending.iter().chain(refused)
    }

    fn count(&self, counters: &Counters) {
        self.failed().for_each(|(_, failure)| counters.failure(failure.as_str()));
        (0..self.beyond).for_each(|_| counters.failure("beyond_max_peers"));
        if let Some(error) = &self.error {
            counters.failure(error.reason());
        }
    }
}

impl From<Progress> for Delivery {
    fn from(progress: Progress) -> Self {
        let mut failures: Vec<String> = progress
            .failed()
            .take(TOLD)
            .map(|(peer, failure)| format!("{peer}: {}", failure.words()))
            .collect();
        if progress.beyond > 0 {
            failures.push(format!("{} addresses beyond peers.max_peers were not asked", progress.beyond));
        }
        Self {
            peers: progress.settled.len() + progress.pending.len() + progress.beyond,
            answered: progress.settled.values().filter(|failure| failure.is_none()).count(),
            took: progress.took,
            failures,
            error: progress.error.map(|error| error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
