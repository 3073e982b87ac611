//! From a listening socket to the routes: every connection gets a seat at once, its handshake if the web configuration asks for
//! TLS, a deadline, and for each request a name. Whoever may not ask hears so here, and the routes never hear of him.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;

use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use prometheus::{IntCounterVec, IntGauge};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::http::header::HeaderMap;
use warp::reply::Response;

use super::access::Stranger;
use super::deadline::Deadline;
use super::listen::{Peer, Stream};
use super::roles::{Roles, needed};
use super::seats::{Seat, Table};
use super::stream::{Coming, Watched};
use super::web::{Loaded, identity};
use super::{
    ACCEPT_PAUSE, Access, Asker, Bound, CONNECTION_TIMEOUT, HANDSHAKE_TIMEOUT, HEADER_TIMEOUT, refusal,
};

/// Of a request's head; Prometheus' has some hundred bytes. Larger ones are answered with 431.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// Of an answer, beside what is still in the body, until the client takes some.
const MAX_SEND: usize = 64 * 1024;

/// What stands between listening sockets and the routes; clones are of the same one.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) access: Access,
    pub(super) requests: IntCounterVec,
    /// Whether the last reading of the web configuration went well.
    pub(super) config_good: IntGauge,
    pub(super) table: Arc<Table>,
}

/// What is known of a connection's client before it asks.
#[derive(Clone, Debug)]
struct Client {
    peer: Peer,
    /// The name in its certificate, if that was verified.
    certificate: Option<String>,
    /// What the files said when it came.
    loaded: Arc<Loaded>,
    seat: Arc<Seat>,
    deadline: Deadline,
}

pub(super) async fn accept<F>(
    bound: Bound,
    routes: F,
    door: Door,
    graceful: Arc<GracefulShutdown>,
    stop: CancellationToken,
) where
    F: Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static,
    F::Future: Send,
{
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => return,
            accepted = bound.accept() => match accepted {
                Ok(accepted) => accepted,
                // That one client has gone is nothing to pause for: others would wait.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    tracing::warn!("connection was not accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let seat = door.table.arrive();
        let (door, routes, watcher, stop) = (door.clone(), routes.clone(), graceful.watcher(), stop.clone());
        tokio::spawn(async move {
            let cut = seat.cut.clone();
            tokio::select! {
                () = cut.cancelled() => tracing::debug!(%peer, "connection had to make room"),
                () = attend(stream, peer, seat, door, routes, watcher, stop) => {}
            }
        });
    }
}

/// One connection, to its end.
async fn attend<F>(
    stream: Box<dyn Stream>,
    peer: Peer,
    seat: Arc<Seat>,
    door: Door,
    routes: F,
    watcher: Watcher,
    stop: CancellationToken,
) where
    F: Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static,
    F::Future: Send,
{
    let stream = Watched::new(stream, Arc::clone(&seat));
    let loaded = match &peer {
        Peer::Tcp(_) => door.access.current(&door.config_good).await,
        Peer::Unix(_) => Arc::default(),
    };
    // The head of an HTTP/2 connection's first request has this deadline alone.
    let deadline = Deadline::after(HEADER_TIMEOUT);
    let client = Client { peer, certificate: None, loaded, seat, deadline };
    let Some(tls) = &client.loaded.tls else {
        return serve(stream, false, client, door, routes, watcher).await;
    };
    let accepting = TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream);
    let accepted = tokio::select! {
        () = stop.cancelled() => return,
        accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting) => accepted,
    };
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            client.seat.closed("handshake");
            return tracing::debug!(peer = %client.peer, "TLS handshake failed: {error}");
        }
        Err(_) => return client.seat.closed("deadline"),
    };
    let (_, connection) = stream.get_ref();
    let given = connection.peer_certificates().and_then(<[_]>::first).filter(|_| tls.verifies);
    let certificate = given.map(identity);
    let is_h2 = connection.alpn_protocol() == Some(b"h2");
    let client = Client { certificate, deadline: Deadline::after(HEADER_TIMEOUT), ..client };
    serve(stream, is_h2, client, door, routes, watcher).await;
}

async fn serve<S, F>(stream: S, is_h2: bool, client: Client, door: Door, routes: F, watcher: Watcher)
where
    S: Stream + 'static,
    F: Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static,
    F::Future: Send,
{
    let routes = TowerToHyperService::new(warp::service(routes));
    let (seat, deadline) = (Arc::clone(&client.seat), client.deadline.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (client, door, routes) = (client.clone(), door.clone(), routes.clone());
        async move {
            let headers = client.loaded.headers.clone();
            let mut response = match door.admits(&client, &request).await {
                Ok(asker) => {
                    let mut request = request.map(|body| Coming::new(body, Arc::clone(&client.seat)));
                    request.extensions_mut().insert(client.deadline.clone());
                    request.extensions_mut().insert(asker);
                    routes.call(request).await?
                }
                Err(refused) => {
                    door.requests.with_label_values(&[refused.status().as_str()]).inc();
                    refused
                }
            };
            for (name, value) in headers {
                // What a route sets itself is stricter, as in the toolkit.
                response.headers_mut().entry(name).or_insert(value);
            }
            let held = response.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
            client.seat.takes(held.unwrap_or(MAX_SEND));
            Ok::<_, Infallible>(response)
        }
    });
    let stream = TokioIo::new(stream);
    if is_h2 {
        let mut server = http2::Builder::new(TokioExecutor::new());
        // One request at a time, as everywhere here: a connection waits, or is worked on, or takes its answer.
        server.max_concurrent_streams(1).max_header_list_size(16 * 1024).max_send_buf_size(MAX_SEND);
        server.timer(TokioTimer::new());
        end(&seat, deadline, watcher.watch(server.serve_connection(stream, service))).await;
    } else {
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(false);
        server.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
        end(&seat, deadline, watcher.watch(server.serve_connection(stream, service))).await;
    }
}

/// Awaits the connection's end, or the deadline's.
async fn end(seat: &Seat, deadline: Deadline, connection: impl Future<Output = hyper::Result<()>>) {
    match deadline.bound(connection).await {
        Some(Ok(())) => {}
        Some(Err(error)) if error.is_timeout() => seat.closed("deadline"),
        Some(Err(error)) => {
            tracing::debug!("connection ended early: {error}");
            seat.closed("client_error");
        }
        None => {
            tracing::debug!("connection met its deadline");
            seat.closed("deadline");
        }
    }
}

impl Door {
    /// Who asks, if that may be asked; else the answer.
    async fn admits(&self, client: &Client, request: &Request<Incoming>) -> Result<Asker, Response> {
        client.deadline.reset(CONNECTION_TIMEOUT);
        let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
        let needs = needed(method, path);
        let address = client.peer.to_string();
        // A health check is answered whatever else is refused: who asks would restart the agent.
        if needs == Roles::NONE {
            return Ok(Asker { name: "anonymous".to_owned(), roles: Roles::NONE, address });
        }
        if !client.seat.may_work() {
            return Err(refusal::busy(path, headers));
        }
        if let Peer::Unix(uid) = client.peer {
            return Ok(Asker { name: format!("unix:uid={uid}"), roles: Roles::ALL, address });
        }
        let loaded = &client.loaded;
        if loaded.rate.as_ref().is_some_and(|bucket| !bucket.allows(std::time::Instant::now())) {
            return Err(refusal::too_many(method, path, headers));
        }
        let asker = self.named(client, headers, &address).await.map_err(|stranger| match stranger {
            Stranger::Unknown => refusal::unauthenticated(loaded, path, headers),
            Stranger::Busy => refusal::busy(path, headers),
        })?;
        if asker.roles.cover(needs) {
            return Ok(asker);
        }
        let lacks = asker.roles.lacks(needs);
        tracing::debug!(asker = asker.name, %address, %method, path, "refused for want of the role {lacks}");
        Err(refusal::forbidden(lacks, asker.name == "anonymous", path, headers))
    }

    async fn named(&self, client: &Client, headers: &HeaderMap, address: &str) -> Result<Asker, Stranger> {
        self.access.asker(&client.loaded, headers, client.certificate.as_deref(), address).await
    }
}
