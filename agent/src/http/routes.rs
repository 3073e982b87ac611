//! Paths, methods, statuses and headers. Every route is matched by its path alone and looks at the method itself,
//! because a wrong method on a known path is a 405 and not a 404.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::Stream;
use tokio::sync::Semaphore;
use warp::Filter;
use warp::http::header::{
    ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{Method, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;

use super::deadline::Deadline;
use super::query::Query;
use super::scrape::Scrapes;
use super::view::{ContainerView, RunView};
use super::{Asker, Backend, Options, Printed, RunAsk, alerts, body, captures, gzip, more, run};
use crate::metrics;
use crate::triggers::{Target, resolve};

/// A request's body must be there by then.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// For everything that waits for no run.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
pub(super) const HTML: &str = "text/html; charset=utf-8";

pub(super) type Shared = Arc<dyn Backend>;

/// All routes; every request gets an answer, and every answer is counted.
pub(super) fn routes(
    backend: Shared,
    options: Options,
    (run_slots, scrape_slots): (Arc<Semaphore>, Arc<Semaphore>),
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let captures = captures::routes(backend.clone());
    let more = more::routes(backend.clone(), &options, scrape_slots);
    let shared = warp::any().map(move || backend.clone());
    let asked = warp::method().and(warp::header::headers_cloned());
    let lifecycle = options.enable_lifecycle;

    let scrapes = Scrapes::default();
    let metrics = warp::path!("metrics")
        .and(asked)
        .and(shared.clone())
        .then(move |method, headers, backend| metrics(method, headers, backend, scrapes.clone()));
    let healthy = warp::path!("-" / "healthy").and(warp::method()).map(|method: Method| {
        get_only(&method).unwrap_or_else(|| answer(StatusCode::OK, TEXT, "parachute is healthy\n".to_owned()))
    });
    let ready = warp::path!("-" / "ready")
        .and(warp::method())
        .and(shared.clone())
        .map(|method: Method, backend: Shared| ready(&method, &*backend));
    let reload = warp::path!("-" / "reload")
        .and(asked)
        .and(warp::ext::get::<Asker>())
        .and(shared.clone())
        .then(move |method, headers, asker, backend| reload(method, headers, asker, backend, lifecycle));
    let containers = warp::path!("api" / "v1" / "containers")
        .and(warp::method())
        .and(warp::query::<Asked>())
        .and(shared.clone())
        .map(|method: Method, asked: Asked, backend: Shared| containers(&method, &asked, &*backend));
    let run = warp::path!("api" / "v1" / "run")
        .and(asked)
        .and(warp::body::stream())
        .and(warp::ext::get::<Deadline>())
        .and(warp::ext::get::<Asker>())
        .and(shared.clone())
        .then(move |method, headers, body, deadline, asker, backend| {
            run_probe(method, headers, body, deadline, asker, backend, run_slots.clone())
        });
    let alerts = warp::path!("api" / "v1" / "alerts")
        .and(asked)
        .and(warp::query::<Vec<(String, String)>>().map(Query))
        .and(warp::ext::get::<Asker>())
        .and(warp::body::stream())
        .and(shared)
        .then(async |method, headers, query, asker, body, backend: Shared| {
            alerts::alerts(method, headers, query, asker, body, &*backend).await
        });
    let nowhere = warp::path::full().map(|path: FullPath| not_found(&path));
    // To warp's `path!` a slash at the end is nothing; here it makes another path.
    let slash = warp::path::full().and_then(async |path: FullPath| match path.as_str() {
        "/" => Err(warp::reject::not_found()),
        text if text.ends_with('/') => Ok(not_found(&path)),
        _ => Err(warp::reject::not_found()),
    });

    let all = slash
        .or(metrics)
        .unify()
        .or(healthy)
        .unify()
        .or(ready)
        .unify()
        .or(reload)
        .unify()
        .or(containers)
        .unify();
    all.or(run).unify().or(alerts).unify().or(captures).unify().or(more).unify().or(nowhere).unify().map(
        move |mut response: Response| {
            options.requests.with_label_values(&[response.status().as_str()]).inc();
            set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
            response
        },
    )
}

async fn metrics(method: Method, headers: HeaderMap, backend: Shared, scrapes: Scrapes) -> Response {
    if let Some(refused) = get_only(&method) {
        return refused;
    }
    let zip = gzip::accepted(&headers);
    match tokio::time::timeout(ANSWER_TIMEOUT, scrapes.text(zip, move |room| backend.metrics(room))).await {
        Ok(Ok(body)) => {
            let mut response = answer(StatusCode::OK, metrics::CONTENT_TYPE, body);
            set(&mut response, VARY, "accept-encoding");
            if zip {
                set(&mut response, CONTENT_ENCODING, "gzip");
            }
            response
        }
        Err(_) => refuse(false, StatusCode::GATEWAY_TIMEOUT, "the metrics were not ready in time"),
        Ok(Err(error)) => {
            tracing::error!("metrics could not be rendered: {error}");
            refuse(false, StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be rendered; see the log")
        }
    }
}

fn ready(method: &Method, backend: &dyn Backend) -> Response {
    match (get_only(method), backend.not_ready()) {
        (Some(refused), _) => refused,
        (None, None) => answer(StatusCode::OK, TEXT, "parachute is ready\n".to_owned()),
        (None, Some(reason)) => {
            refuse(false, StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {reason}"))
        }
    }
}

async fn reload(
    method: Method,
    headers: HeaderMap,
    asker: Asker,
    backend: Shared,
    enabled: bool,
) -> Response {
    if let Some(refused) = post_only(false, &method, &headers) {
        return refused;
    }
    if !enabled {
        let reason =
            "reloading over HTTP is off: start the agent with --web.enable-lifecycle, or send it SIGHUP";
        return refuse(false, StatusCode::FORBIDDEN, reason);
    }
    asker.starts("reload", "the configuration");
    match tokio::time::timeout(ANSWER_TIMEOUT, backend.reload()).await {
        Ok(Ok(())) => answer(StatusCode::OK, TEXT, "the configuration was reloaded\n".to_owned()),
        Ok(Err(reason)) => refuse(false, StatusCode::INTERNAL_SERVER_ERROR, &reason),
        Err(_) => refuse(false, StatusCode::GATEWAY_TIMEOUT, "the reload did not end in time; see the log"),
    }
}

/// The query of `/api/v1/containers`.
#[derive(Debug, serde::Deserialize)]
struct Asked {
    /// Only those that a person may mean by this, as `parachute exec` has it.
    target: Option<String>,
}

fn containers(method: &Method, asked: &Asked, backend: &dyn Backend) -> Response {
    get_only(method).unwrap_or_else(|| {
        let mut containers = backend.containers();
        if let Some(target) = &asked.target {
            containers = resolve(&containers, &Target::parse(target)).into();
        }
        let views: Vec<ContainerView> =
            containers.iter().map(|container| ContainerView::from(&**container)).collect();
        json(StatusCode::OK, &serde_json::json!({ "containers": views }))
    })
}

async fn run_probe(
    method: Method,
    headers: HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    deadline: Deadline,
    asker: Asker,
    backend: Shared,
    slots: Arc<Semaphore>,
) -> Response {
    if let Some(refused) = post_only(true, &method, &headers) {
        return refused;
    }
    if !is_json(&headers) {
        return refuse(true, StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json");
    }
    if content_length(&headers).is_some_and(|length| length > body::MAX_DRAIN) {
        return refuse(true, StatusCode::PAYLOAD_TOO_LARGE, &body::too_large(body::MAX_BODY));
    }
    let body = match tokio::time::timeout(BODY_TIMEOUT, body::read(body, body::MAX_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err((status, reason))) => return refuse(true, status, &reason),
        Err(_) => return refuse(true, StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
    };
    let ask = match RunAsk::parse(&body) {
        Ok(ask) => ask,
        Err(reason) => return refuse(true, StatusCode::BAD_REQUEST, &reason),
    };
    asker.starts("run", &ask);
    let by_hand = ask.by_hand.as_ref().map(|by_hand| by_hand.output);
    match run::wait(ask, &*backend, &asker, &slots, &deadline).await {
        Ok(result) if let Some(format) = by_hand => match Printed::of(&result, format) {
            Ok(printed) => json(StatusCode::OK, &printed.wire()),
            Err(error) => refuse(true, StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        },
        Ok(result) if asker.roles.view => json(StatusCode::OK, &RunView::from(&result)),
        Ok(result) => json(StatusCode::OK, &RunView::from(&result).without_output()),
        Err(refusal) => {
            let mut response = refuse(true, refusal.status(), &refusal.to_string());
            if let Some(seconds) = refusal.retry_after() {
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            response
        }
    }
}

fn not_found(path: &FullPath) -> Response {
    refuse(path.as_str().starts_with("/api/"), StatusCode::NOT_FOUND, "there is nothing at this path")
}

pub(super) fn get_only(method: &Method) -> Option<Response> {
    (method != Method::GET && method != Method::HEAD).then(|| wrong_method(false, "GET, HEAD"))
}

/// Refuses what is no POST, and every POST that a web page sent: browsers put `Origin` on those, also after a name
/// of the page's own was made to lead to this address, which no check of the content type would notice.
pub(super) fn post_only(api: bool, method: &Method, headers: &HeaderMap) -> Option<Response> {
    if method != Method::POST {
        return Some(wrong_method(api, "POST"));
    }
    let reason = "requests from web pages (with an Origin header) are refused";
    headers.contains_key(ORIGIN).then(|| refuse(api, StatusCode::FORBIDDEN, reason))
}

pub(super) fn wrong_method(api: bool, allowed: &'static str) -> Response {
    let mut response =
        refuse(api, StatusCode::METHOD_NOT_ALLOWED, &format!("this path takes only: {allowed}"));
    set(&mut response, ALLOW, allowed);
    response
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type
        .and_then(|text| text.split(';').next())
        .is_some_and(|text| text.trim().eq_ignore_ascii_case(JSON))
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// An error: JSON under `/api`, plain text elsewhere.
pub(super) fn refuse(api: bool, status: StatusCode, reason: &str) -> Response {
    if api {
        json(status, &serde_json::json!({ "error": reason }))
    } else {
        answer(status, TEXT, format!("{reason}\n"))
    }
}

pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            answer(status, JSON, body)
        }
        Err(error) => {
            tracing::error!("answer could not be written as JSON: {error}");
            answer(StatusCode::INTERNAL_SERVER_ERROR, JSON, "{\"error\":\"see the log\"}\n".to_owned())
        }
    }
}

pub(super) fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let body: Bytes = body.into();
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, content_type);
    response
}

pub(super) fn set(response: &mut Response, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}
