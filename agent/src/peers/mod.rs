//! Passes alerts on to the agents of the other nodes, once. Which alerts, is decided in `triggers`; this room finds out who
//! the others are, shows them the token, and knows who has taken what.
//!
//! - Who the others are: all addresses behind the service's name, looked up anew for each round. This agent is among them,
//!   and is known by what answers, not by its address: behind NAT or with several addresses that would tell nothing.
//! - One hop: each request says by a header that it was passed on, and whoever takes it passes it on no more. The header gives
//!   no rights. The token does: the peers' web configuration gives it the role `trigger`, as it does Alertmanager's.
//! - Bounded: addresses (`max_peers`), connections at once, one request (`timeout`), the beginning of the last one
//!   (`give_up_after`), the answer's length. A peer that cannot be reached or has no room is asked again, in each round, after a
//!   pause that grows; one that refuses is not. An address that has gone from the name by then was an agent that has gone, and
//!   is forgotten.
//! - Those that did not answer lately are left out of the first round and have connections of their own, so that a hole in
//!   the network costs the others nothing. Whether there are more rounds is for whoever has the parcels.

mod counts;
mod progress;
mod resolve;
mod secrets;
mod send;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use self::counts::Failure;
pub use self::counts::{Counters, FAILURES, RESULTS};
use self::progress::Progress;
use self::secrets::Secrets;
use self::send::{Round, Said};
use crate::config::{self, Config};
use crate::model::{Delivery, Instance, Parcel};

/// Connections to peers at once, of all parcels together; and to those that did not answer lately, which hold theirs for long.
const CONNECTIONS: usize = 64;
const DOUBTFUL: usize = 32;
/// How long the disk may take, and the name server.
const DISK: Duration = Duration::from_secs(3);
const RESOLVE: Duration = Duration::from_secs(5);
/// Pause after the first round; each is twice as long as the one before, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(8);
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
    #[error("the files of `peers` and /etc/resolv.conf were not read in time; does the disk hang?")]
    SlowDisk,
    #[error("the addresses of {host} cannot be found: {why}")]
    Unresolved { host: String, why: String },
}

impl PeersError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Unresolved { .. } => "unresolved",
            Self::SlowDisk => "slow_disk",
            _ => "settings",
        }
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
    doubtful: Semaphore,
    /// One look at the disk at a time: where it hangs, each would hold a thread.
    disk: Arc<Semaphore>,
    /// Did not answer when they were last asked; at most as many as there are peers.
    silent: Mutex<BTreeSet<SocketAddr>>,
}

/// A parcel that not all have taken yet.
#[derive(Debug)]
pub struct Rest {
    peers: Peers,
    parcel: Parcel,
    progress: Progress,
    /// Then those that have not taken it are given up.
    until: Instant,
}

impl Peers {
    pub fn new(config: Arc<ArcSwap<Config>>, own: Instance, counters: Counters) -> Self {
        Self(Arc::new(Inner {
            config,
            own,
            counters,
            connections: Semaphore::new(CONNECTIONS),
            doubtful: Semaphore::new(DOUBTFUL),
            disk: Arc::new(Semaphore::new(1)),
            silent: Mutex::default(),
        }))
    }

    /// Says in the log whether alerts could be passed on now: what is wrong with a file or a name is not to be found out by an
    /// alert.
    pub async fn look(&self) {
        let Some(settings) = self.0.config.load().peers.clone() else { return };
        let host = &settings.service.host;
        match self.find(&settings).await {
            Ok((_, found)) => {
                tracing::info!(%host, addresses = found.len(), "alerts can be passed on to peers");
            }
            Err(error) => {
                self.0.counters.failure(error.reason());
                tracing::error!(%host, %error, "alerts could not be passed on to peers now");
            }
        }
    }

    /// Passes a parcel on, once, to all peers that answer, and hands out what is left to be done.
    pub async fn pass_on(&self, parcel: Parcel) -> ControlFlow<Delivery, Rest> {
        let lasts = self.0.config.load().peers.as_ref().map(|peers| peers.give_up_after).unwrap_or_default();
        let (peers, progress) = (self.clone(), Progress::of(&parcel));
        let mut rest = Rest { peers, parcel, progress, until: Instant::now() + lasts };
        if rest.round(true).await {
            return ControlFlow::Break(rest.end());
        }
        ControlFlow::Continue(rest)
    }

    async fn round(
        &self,
        settings: &config::Peers,
        rest: (&Parcel, &mut Progress, Instant),
        first: bool,
    ) -> Result<(), PeersError> {
        let (parcel, progress, until) = rest;
        let (secrets, found) = self.find(settings).await?;
        progress.beyond = found.len().saturating_sub(settings.max_peers);
        let found: BTreeSet<SocketAddr> = found.into_iter().take(settings.max_peers).collect();
        let mut to_ask: Vec<SocketAddr> = found
            .iter()
            .filter(|peer| !progress.settled.contains_key(*peer) && !progress.itself.contains(*peer))
            .copied()
            .collect();
        {
            let mut silent = self.silent();
            silent.retain(|peer| found.contains(peer));
            to_ask.sort_by_key(|peer| silent.contains(peer));
        }
        // Those that are not there any more have gone.
        progress.pending.clear();
        let round = Round { service: &settings.service, secrets: &secrets, own: &self.0.own, parcel };
        let asking = to_ask.into_iter().map(|peer| self.one(&round, peer, settings.timeout, until, first));
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
        first: bool,
    ) -> (SocketAddr, Result<Said, Failure>) {
        let is_silent = || self.silent().contains(&peer);
        let silent = is_silent();
        let connections = if silent { &self.0.doubtful } else { &self.0.connections };
        let not_asked = (peer, Err(Failure::NotAsked));
        if first && silent {
            return not_asked;
        }
        let Ok(_turn) = timeout_at(until, connections.acquire()).await else { return not_asked };
        // Another parcel may have found out meanwhile.
        if first && is_silent() {
            return not_asked;
        }
        (peer, tokio::time::timeout(timeout, round.ask(peer)).await.unwrap_or(Err(Failure::Timeout)))
    }

    fn note(&self, peer: SocketAddr, said: Result<Said, Failure>, progress: &mut Progress) {
        let result = match &said {
            Ok(Said::Itself) => "itself",
            Ok(Said::Took(_)) => "ok",
            Err(Failure::NotAsked) => {
                progress.pending.insert(peer, Failure::NotAsked);
                return;
            }
            Err(failure) => failure.as_str(),
        };
        self.0.counters.request(result);
        if matches!(said, Err(Failure::Unreachable(_) | Failure::Timeout)) {
            self.silent().insert(peer);
        } else {
            self.silent().remove(&peer);
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

    fn silent(&self) -> MutexGuard<'_, BTreeSet<SocketAddr>> {
        self.0.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to show, and to whom.
    async fn find(&self, settings: &config::Peers) -> Result<(Secrets, BTreeSet<SocketAddr>), PeersError> {
        let (for_disk, disk) = (settings.clone(), Arc::clone(&self.0.disk));
        let read = async {
            let turn = disk.acquire_owned().await;
            let read = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                Ok((Secrets::read(&for_disk)?, resolve::settings()))
            });
            read.await.unwrap_or_else(|error| {
                let path = settings.token_file.clone();
                Err(PeersError::Read { path, source: std::io::Error::other(error) })
            })
        };
        let read = tokio::time::timeout(DISK, read).await;
        let (secrets, name_servers) = read.unwrap_or(Err(PeersError::SlowDisk))?;
        let resolved = resolve::look_up(&settings.service, name_servers);
        let found = tokio::time::timeout(RESOLVE, resolved).await.unwrap_or_else(|_| {
            let why = "the name server does not answer in time".to_owned();
            Err(PeersError::Unresolved { host: settings.service.host.clone(), why })
        })?;
        Ok((secrets, found))
    }
}

impl Rest {
    /// Asks again those that may take it, and returns when all have or are given up: at once if it is not to go `on`.
    pub async fn finish(mut self, on: bool) -> Delivery {
        let mut pause = FIRST_PAUSE;
        while on && Instant::now() + pause < self.until {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
            if self.round(false).await {
                break;
            }
        }
        self.end()
    }

    /// True if there is nobody left to be asked again.
    async fn round(&mut self, first: bool) -> bool {
        let Self { peers, parcel, progress, until } = self;
        // Reloads count in the middle of it.
        let Some(settings) = peers.0.config.load().peers.clone() else {
            progress.error = Some(PeersError::NotConfigured);
            return true;
        };
        progress.error = peers.round(&settings, (&*parcel, &mut *progress, *until), first).await.err();
        progress.is_over()
    }

    fn end(self) -> Delivery {
        self.progress.end(&self.peers.0.counters)
    }
}

#[cfg(test)]
mod tests;
