//! The front door: it listens, keeps clients within bounds, and passes what they ask to the rooms behind it, which
//! it knows as one [`Backend`]. It decides nothing: not which container is meant, not what may run.
//!
//! One request per connection, and the whole connection under a deadline: that bounds slow readers, slow writers
//! and idle ones alike, which warp's own server does not. A scrape every few seconds does not miss keep-alive.

pub mod access;
mod alerts;
mod asker;
mod body;
mod captures;
mod deadline;
mod gzip;
pub mod listen;
mod more;
mod page;
mod probe;
mod query;
pub mod roles;
mod routes;
mod run;
mod runs;
mod sd;
mod view;
mod visible;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus::IntCounterVec;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::reply::Response;

pub use access::{Access, Token};
pub use asker::Asker;
pub use listen::{Bound, HttpError, ListenAddress};
pub use probe::{ProbeAnswer, ProbeAsk, ProbeRefusal};
pub use roles::Roles;
pub use run::{RunAsk, RunRefusal};
pub use view::{ContainerView, RunView};

use self::deadline::Deadline;
use crate::captures::Captures;
use crate::metrics::samples::LastRun;
use crate::model::{Container, RunResult};
use crate::probes::{Quarantined, Record};
use crate::triggers::alerts::Alerts;

/// Connections served at once; more wait in the kernel's backlog. Scrapers are few, and waiting runs have a bound of
/// their own, far below: a scrape or a health check finds a connection however many runs are asked for.
const MAX_CONNECTIONS: usize = 256;
/// Requests for a run that wait at once; the next one is refused, so that a client learns at once that it is too many.
const MAX_WAITING_RUNS: usize = 32;
/// A request's head must be there by then. Shorter than the 10 s after which Prometheus gives a scrape up.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a run, its time in the queue included; a probe's own deadline is usually seconds.
const RUN_TIMEOUT: Duration = Duration::from_mins(10);
/// From accept, or from the end of the run that was waited for, to the last byte of the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);
/// After a failed accept (no file descriptor left, mostly); trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the front door may ask of the rooms behind it.
pub trait Backend: Send + Sync + 'static {
    /// The whole exposition. Called on a thread where it may take its time.
    fn metrics(&self) -> String;
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
}

/// Serves until `stop`, then waits at most `grace` for requests under way.
pub async fn serve(
    bound: Vec<Bound>,
    backend: Arc<dyn Backend>,
    options: Options,
    stop: CancellationToken,
    grace: Duration,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let runs = Arc::new(Semaphore::new(MAX_WAITING_RUNS));
    let scrapes = Arc::new(Semaphore::new(probe::MAX_WAITING));
    let graceful = Arc::new(GracefulShutdown::new());
    let loops = bound.into_iter().map(|bound| {
        let routes = routes::routes(backend.clone(), options.clone(), (runs.clone(), scrapes.clone()));
        // A Unix socket is its folder's and its mode's to guard.
        let access = if bound.is_unix() { Access::Open } else { options.access.clone() };
        let door = Door { access, requests: options.requests.clone(), slots: slots.clone() };
        accept(bound, routes, door, graceful.clone(), stop.clone())
    });
    futures_util::future::join_all(loops).await;
    // The loops have ended and each held one of the clones.
    let Some(graceful) = Arc::into_inner(graceful) else { return };
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("HTTP requests were still under way after {grace:?}; they are cut off");
    }
}

/// What stands between a listening socket and the routes.
#[derive(Clone)]
struct Door {
    access: Access,
    requests: IntCounterVec,
    slots: Arc<Semaphore>,
}

async fn accept(
    bound: Bound,
    routes: impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static,
    door: Door,
    graceful: Arc<GracefulShutdown>,
    stop: CancellationToken,
) {
    let service = warp::service(routes);
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(false);
    loop {
        let accepted = async {
            // A slot first: what cannot be served stays in the kernel's backlog.
            let slot = door.slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
            bound.accept().await.map(|stream| (slot, stream))
        };
        let (slot, stream) = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("connection was not accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let deadline = Deadline::after(CONNECTION_TIMEOUT);
        let (service, of_request) = (TowerToHyperService::new(service.clone()), deadline.clone());
        let of_door = door.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let refused = of_door.access.refuses(&request);
            request.extensions_mut().insert(of_request.clone());
            // Until the door knows who it is.
            let asker = Asker { name: "anonymous".into(), roles: Roles::ALL, address: String::new() };
            request.extensions_mut().insert(asker);
            let answer = refused.is_none().then(|| service.call(request));
            let requests = of_door.requests.clone();
            async move {
                match (refused, answer) {
                    (Some(refused), _) => {
                        requests.with_label_values(&[refused.status().as_str()]).inc();
                        Ok(refused)
                    }
                    (None, Some(answer)) => answer.await,
                    (None, None) => Ok(Response::default()),
                }
            }
        });
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            match deadline.bound(connection).await {
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::debug!("connection ended early: {error}"),
                None => tracing::debug!("connection met its deadline"),
            }
            drop(slot);
        });
    }
}

#[cfg(test)]
mod tests;
