//! The front door: it listens, keeps clients within bounds, and passes what they ask to the rooms behind it, which
//! it knows as one [`Backend`]. It decides nothing: not which container is meant, not what may run.
//!
//! One request at a time per connection (and over HTTP/1.1 one in all), and the whole connection under a deadline: that bounds
//! slow readers, slow writers and idle ones alike, which warp's own server does not. A scrape every few seconds does not miss
//! keep-alive. Who asks is found out in `door`, before any route.

pub mod access;
mod alerts;
mod asker;
mod body;
mod captures;
mod deadline;
mod door;
mod gzip;
pub mod listen;
mod more;
mod page;
mod printed;
mod probe;
mod query;
mod range;
mod refusal;
pub mod roles;
mod routes;
mod run;
mod runs;
mod scrape;
mod sd;
pub mod seats;
mod spare;
mod stream;
mod view;
mod visible;
mod web;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper_util::server::graceful::GracefulShutdown;
use prometheus::{IntCounterVec, IntGauge};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use access::{Access, WebError};
pub use asker::Asker;
pub use listen::{Bound, HttpError, ListenAddress};
pub use printed::{Format, Printed};
pub use probe::{ProbeAnswer, ProbeAsk, ProbeRefusal};
pub use roles::Roles;
pub use run::{ByHand, RunAsk, RunRefusal};
pub use seats::Connections;
pub use view::{ContainerView, RunView};
pub use visible::hidden;

use self::door::Door;
use self::seats::{Bounds, Table as Seats};
use crate::captures::Captures;
use crate::config::parse::Table;
use crate::metrics::samples::LastRun;
use crate::model::{Container, RunResult};
use crate::probes::{Quarantined, Record};
use crate::triggers::alerts::Alerts;

/// Requests for a run that wait at once; the next one is refused, so that a client learns at once that it is too many.
const MAX_WAITING_RUNS: usize = 32;
/// A TLS handshake must be done by then.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A request's head must be there by then. Shorter than the 10 s after which Prometheus gives a scrape up.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a run, its time in the queue included; a probe's own deadline is usually seconds.
const RUN_TIMEOUT: Duration = Duration::from_mins(10);
/// From a request's head, or from the end of the run that was waited for, to the last byte of the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);
/// After a failed accept (no file descriptor left, mostly); trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the front door may ask of the rooms behind it.
pub trait Backend: Send + Sync + 'static {
    /// The whole exposition, written where `room` was if it fits. Called on a thread where it may take its time.
    fn metrics(&self, room: String) -> String;
    /// The containers that run now.
    fn containers(&self) -> Vec<Arc<Container>>;
    /// At most `limit`, newest first.
    fn last_runs(&self, limit: usize) -> Vec<LastRun>;
    /// What ran and what was refused, newest first; at most some thousand.
    fn history(&self) -> Vec<Arc<Record>>;
    /// The probes that do not run in a container for a while.
    fn quarantined(&self) -> Vec<Quarantined>;
    /// The containers in which a scrape may ask for `module`, or all of them; None if there is no such module.
    fn targets(&self, module: Option<&str>) -> Option<Vec<Arc<Container>>>;
    /// Runs a probe for one scrape. Dropping the future means that nobody waits any more.
    fn probe(&self, ask: ProbeAsk) -> BoxFuture<'static, Result<ProbeAnswer, ProbeRefusal>>;
    /// Why the agent is not ready yet; None when it is.
    fn not_ready(&self) -> Option<String>;
    /// Loads the configuration anew; the error is for people.
    fn reload(&self) -> BoxFuture<'static, Result<(), String>>;
    /// Runs a probe and waits for its end. Dropping the future means that nobody waits any more.
    fn run(&self, ask: RunAsk) -> BoxFuture<'static, Result<RunResult, RunRefusal>>;
    /// What runs printed.
    fn captures(&self) -> Captures;
    /// How the probe's parser takes rows and columns, if it is of that kind.
    fn table(&self, probe: &str) -> Option<Table>;
    /// Takes alerts, and knows what came of them.
    fn alerts(&self) -> &Alerts;
}

/// What the command line says, and the counter to count on.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--web.enable-lifecycle`: whether `POST /-/reload` reloads.
    pub enable_lifecycle: bool,
    /// `parachute_http_requests_total`, by code.
    pub requests: IntCounterVec,
    /// Who may ask what over TCP.
    pub access: Access,
    /// `--probe.timeout-offset`.
    pub timeout_offset: Duration,
    pub connections: Connections,
    /// `parachute_web_config_last_reload_successful`.
    pub web_config_good: IntGauge,
}

/// Serves until `stop`, then waits at most `grace` for requests under way.
pub async fn serve(
    bound: Vec<Bound>,
    backend: Arc<dyn Backend>,
    options: Options,
    stop: CancellationToken,
    grace: Duration,
) {
    let runs = Arc::new(Semaphore::new(MAX_WAITING_RUNS));
    let scrapes = Arc::new(Semaphore::new(probe::MAX_WAITING));
    let graceful = Arc::new(GracefulShutdown::new());
    let door = Door {
        access: options.access.clone(),
        requests: options.requests.clone(),
        config_good: options.web_config_good.clone(),
        table: Seats::new(Bounds::of_this_process(), options.connections.clone()),
    };
    door.config_good.set(1);
    let routes = routes::routes(backend, options, (runs, scrapes));
    let loops = bound
        .into_iter()
        .map(|bound| door::accept(bound, routes.clone(), door.clone(), graceful.clone(), stop.clone()));
    futures_util::future::join_all(loops).await;
    // The loops have ended and each held one of the clones.
    let Some(graceful) = Arc::into_inner(graceful) else { return };
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("HTTP requests were still under way after {grace:?}; they are cut off");
    }
}

#[cfg(test)]
mod tests;
