//! Everybody who can be asked for descriptions, as one kind of thing: which they are by the configuration, and
//! what they are asked.

use std::path::{Path, PathBuf};

use futures_util::future::join_all;

use super::cri::{self, CriError, Described};
use super::engine::{self, EngineError};
use super::{Counters, Kind};
use crate::config::{RuntimeEndpoint, Runtimes};
use crate::model::Runtime;

#[derive(Debug)]
pub(super) enum Source {
    Cri(cri::Client),
    Engine(engine::Client),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Cri(#[from] CriError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl AskError {
    /// Whether it will answer so until its configuration is another one.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self, Self::Cri(CriError::NoCri { .. }))
    }
}

/// The sockets at the usual places, whether there is one or not, and whose they are.
fn usual() -> Vec<RuntimeEndpoint> {
    let engines = engine::USUAL.iter().map(|(runtime, path)| match runtime {
        Runtime::Podman => RuntimeEndpoint::Podman(path.into()),
        _ => RuntimeEndpoint::Docker(path.into()),
    });
    cri::USUAL.iter().map(|path| RuntimeEndpoint::Cri(path.into())).chain(engines).collect()
}

/// The sockets that are asked with this configuration: those listed, or the usual ones.
pub(super) fn all(runtimes: &Runtimes) -> Vec<Source> {
    let endpoints = match runtimes {
        Runtimes::Auto => usual(),
        Runtimes::Listed(listed) => listed.clone(),
    };
    let sources = endpoints.iter().filter_map(|endpoint| match endpoint {
        RuntimeEndpoint::Cri(socket) => cri::Client::new(socket)
            .inspect_err(|error| tracing::error!(socket = %socket.display(), %error, "not a socket's path"))
            .ok()
            .map(Source::Cri),
        RuntimeEndpoint::Docker(socket) => Some(Source::Engine(engine::Client::new(Runtime::Docker, socket))),
        RuntimeEndpoint::Podman(socket) => Some(Source::Engine(engine::Client::new(Runtime::Podman, socket))),
        RuntimeEndpoint::PodmanStorage(_) => None,
    });
    sources.collect()
}

/// Where runtimes' sockets are looked for with this configuration, whether there is one or not.
pub fn looked_at(runtimes: &Runtimes) -> Vec<PathBuf> {
    let usual = usual();
    let endpoints = match runtimes {
        Runtimes::Auto => &usual,
        Runtimes::Listed(listed) => listed,
    };
    endpoints.iter().filter_map(RuntimeEndpoint::socket).map(Path::to_owned).collect()
}

/// What one says that is asked now.
#[derive(Debug)]
pub struct Said {
    pub socket: PathBuf,
    /// How many containers it has, pods' sandboxes among them, or why it does not say.
    pub answer: Result<usize, String>,
    /// It will answer so until its configuration is another one, as a socket that speaks no CRI.
    pub is_lasting: bool,
}

/// Asks all that would be asked, at once.
pub async fn ask_all(runtimes: &Runtimes, counters: &Counters) -> Vec<Said> {
    let is_there = |source: &Source| !matches!(runtimes, Runtimes::Auto) || source.socket().exists();
    let asked = all(runtimes).into_iter().filter(is_there).map(async |source| {
        let answer = source.list(counters).await;
        let is_lasting = answer.as_ref().is_err_and(AskError::is_lasting);
        let answer = answer.map(|all| all.len()).map_err(|error| error.to_string());
        Said { socket: source.socket().to_owned(), answer, is_lasting }
    });
    join_all(asked).await
}

impl Source {
    pub(super) fn runtime(&self) -> Runtime {
        match self {
            Self::Cri(client) => client.runtime,
            Self::Engine(client) => client.runtime,
        }
    }

    pub(super) fn socket(&self) -> &Path {
        match self {
            Self::Cri(client) => client.socket(),
            Self::Engine(client) => &client.socket,
        }
    }

    /// Zeros from the first scrape on, so that a rate does not miss the first failure.
    pub(super) fn declare(&self, counters: &Counters) {
        let calls: &[&str] = match self {
            Self::Cri(_) => &cri::CALLS,
            Self::Engine(_) => &[engine::CALL],
        };
        for call in calls {
            let labels = [self.runtime().as_str(), call];
            counters.requests.with_label_values(&labels);
            counters.failures.with_label_values(&labels);
        }
    }

    /// All containers that it runs, sandboxes first.
    pub(super) async fn list(&self, counters: &Counters) -> Result<Vec<Described>, AskError> {
        match self {
            Self::Cri(client) => {
                let mut all = client.sandboxes(None, counters).await?;
                all.extend(client.containers(None, counters).await?);
                Ok(all)
            }
            Self::Engine(client) => Ok(client.containers(None, counters).await?),
        }
    }

    /// One call if the kind is known from the bundle or there is but one, else two.
    pub(super) async fn find(
        &self,
        id: &str,
        kind: Option<Kind>,
        counters: &Counters,
    ) -> Result<Option<Described>, AskError> {
        let client = match self {
            Self::Cri(client) => client,
            Self::Engine(client) => {
                return Ok(client.containers(Some(id), counters).await?.into_iter().next());
            }
        };
        if kind != Some(Kind::Sandbox)
            && let Some(found) = client.containers(Some(id), counters).await?.into_iter().next()
        {
            return Ok(Some(found));
        }
        if kind != Some(Kind::Container)
            && let Some(found) = client.sandboxes(Some(id), counters).await?.into_iter().next()
        {
            return Ok(Some(found));
        }
        Ok(None)
    }
}
