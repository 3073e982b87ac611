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
use crate::triggers::alerts::MAX_BODY;

/// A body is read without further ado up to this size; some hundred alerts.
const SMALL: usize = 256 << 10;
/// Larger ones are read so many at a time, as each may take megabytes.
static LARGE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(4));
/// What a sender is told when there is no room; Alertmanager has its own clock, from half a second up.
const RETRY: Duration = Duration::from_secs(1);
/// Decisions that are listed where no limit is asked for, and at most: all that are remembered.
const LISTED: usize = 100;
const MOST_LISTED: usize = 750;

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
    let answer = backend.alerts().receive(body, &asker.to_string()).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, &answer.body);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY.as_secs()));
    }
    response
}
