//! `/api/v1/alerts`: what Alertmanager and Grafana post, and what came of it. The statuses are Alertmanager's to act on: it
//! delivers again after a 5xx and takes everything else for final, also 429.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::Stream;
use serde_json::json;
use tokio::sync::Semaphore;
use warp::http::header::RETRY_AFTER;
use warp::http::{HeaderMap, HeaderValue, Method, StatusCode};
use warp::reply::Response;

use super::query::Query;
use super::routes::{BODY_TIMEOUT, content_length, get_only, is_json, json, post_only, refuse, wrong_method};
use super::{Asker, Backend, body};
use crate::model::{FORWARDED_BY, INSTANCE};
use crate::triggers::alerts::{Alerts, Answer, MAX_BODY};

/// A body is read without further ado up to this size; some hundred alerts.
const SMALL: usize = 256 << 10;
/// Larger ones are read so many at a time, as each may take megabytes.
static LARGE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(4));
/// What a sender is told when there is no room; Alertmanager has its own clock, from half a second up.
const RETRY: Duration = Duration::from_secs(1);
/// Decisions that are listed where no limit is asked for, and at most: all that are remembered.
const LISTED: usize = 100;
const MOST_LISTED: usize = 750;
/// Of the name of who has passed alerts on.
const SHOWN: usize = 100;

pub(super) async fn alerts(
    method: Method,
    headers: HeaderMap,
    query: Query,
    asker: Asker,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    backend: &dyn Backend,
) -> Response {
    if get_only(&method).is_none() {
        let limit = match query.only(&["limit"]).and_then(|()| query.number("limit", LISTED, MOST_LISTED)) {
            Ok(limit) => limit,
            Err(reason) => return refuse(true, StatusCode::BAD_REQUEST, &reason),
        };
        let alerts = backend.alerts();
        let dropped: serde_json::Map<_, _> =
            alerts.dropped().into_iter().map(|(reason, count)| (reason.to_owned(), count.into())).collect();
        let log = alerts.log(limit);
        return json(
            StatusCode::OK,
            &json!({ "queued": alerts.queued(), "dropped": dropped, "alerts": log }),
        );
    }
    if method != Method::POST {
        return wrong_method(true, "GET, HEAD, POST");
    }
    if let Some(refused) = post_only(true, &method, &headers) {
        return refused;
    }
    // Final for the sender: without a trace here nobody would know why its alerts run nothing.
    let told = |status: StatusCode, reason: &str| {
        backend.alerts().refused(status.as_u16(), reason, &asker.to_string());
        refuse(true, status, reason)
    };
    if !is_json(&headers) {
        return told(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json");
    }
    let length = content_length(&headers);
    if length.is_some_and(|length| length > MAX_BODY + body::MAX_DRAIN) {
        return told(StatusCode::PAYLOAD_TOO_LARGE, &body::too_large(MAX_BODY));
    }
    let read = async {
        // Without a length it may become large.
        let _permit = match length {
            Some(length) if length <= SMALL => None,
            _ => LARGE.acquire().await.ok(),
        };
        body::read(body, MAX_BODY).await
    };
    let body: Bytes = match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(body)) => body,
        Ok(Err((status, reason))) => return told(status, &reason),
        // Not the client's fault, perhaps: it is to try again.
        Err(_) => return told(StatusCode::SERVICE_UNAVAILABLE, "the body did not arrive in time"),
    };
    let forwarded = headers.get(FORWARDED_BY);
    let answer = match forwarded {
        None => backend.alerts().receive(body, &asker.to_string()).await,
        Some(by) => from_peer(backend.alerts(), body, &asker, by).await,
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, &answer.body);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY.as_secs()));
    }
    if forwarded.is_some()
        && let Ok(own) = HeaderValue::from_str(backend.alerts().instance().as_str())
    {
        response.headers_mut().insert(INSTANCE, own);
    }
    response
}

/// What an agent has passed on: perhaps this one itself, whose own address is among those behind the service. The header says
/// no more than that it has had its hop.
async fn from_peer(alerts: &Alerts, body: Bytes, asker: &Asker, by: &HeaderValue) -> Answer {
    if by.as_bytes() == alerts.instance().as_str().as_bytes() {
        let body = json!({ "queued": 0, "results": [], "reason": "this agent itself has passed it on" });
        return Answer { status: 200, body };
    }
    let plain = |c: &char| c.is_ascii_graphic() && *c != '/';
    let node: String = by.to_str().unwrap_or_default().chars().take_while(plain).take(SHOWN).collect();
    alerts.receive_forwarded(body, &format!("{asker}, passed on by {node}")).await
}
