//! What is answered to who may not ask: a status, and what to do about it. It is the same for a name that is not known and a wrong
//! password, and nothing of the request is in it.

use warp::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use warp::http::{HeaderValue, Method, StatusCode};
use warp::reply::Response;

use super::roles::Roles;
use super::web::Loaded;

const HOW: &str = "Start the agent with --web.config.file FILE, which names users and tokens with their roles, or with \
     --web.token-file FILE; or ask where root alone can, at the Unix socket agent.sock in its \
     run directory: curl --unix-socket /run/parachute/agent.sock http://localhost/, if it is at the usual place; parachute ps and parachute captures do so.";

pub(super) fn unauthenticated(loaded: &Loaded, path: &str, headers: &HeaderMap) -> Response {
    let reason = "name and password, or token, are missing or wrong";
    let mut response = refuse(StatusCode::UNAUTHORIZED, path, headers, reason, "");
    if !loaded.users.is_empty() {
        let basic = HeaderValue::from_static("Basic realm=\"parachute\", charset=\"UTF-8\"");
        response.headers_mut().append(WWW_AUTHENTICATE, basic);
    }
    if loaded.has_tokens() {
        let bearer = HeaderValue::from_static("Bearer realm=\"parachute\"");
        response.headers_mut().append(WWW_AUTHENTICATE, bearer);
    }
    response
}

/// For somebody who is known, and lacks a role; `anonymous` where nobody needs to be known.
pub(super) fn forbidden(lacks: Roles, is_anonymous: bool, path: &str, headers: &HeaderMap) -> Response {
    let (reason, how) = if is_anonymous {
        (format!("this needs the role {lacks}; who asks over TCP without a name has only read"), HOW)
    } else {
        (format!("this needs the role {lacks}"), "")
    };
    refuse(StatusCode::FORBIDDEN, path, headers, &reason, how)
}

/// Over `rate_limit`. Alertmanager takes 429 for final and 503 for "again, later".
pub(super) fn too_many(method: &Method, path: &str, headers: &HeaderMap) -> Response {
    let is_alert = *method == Method::POST && path == "/api/v1/alerts";
    let status = if is_alert { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::TOO_MANY_REQUESTS };
    later(status, path, headers, "there were more requests than rate_limit allows")
}

pub(super) fn busy(path: &str, headers: &HeaderMap) -> Response {
    later(StatusCode::SERVICE_UNAVAILABLE, path, headers, "too many requests are worked on; try again")
}

fn later(status: StatusCode, path: &str, headers: &HeaderMap, reason: &str) -> Response {
    let mut response = refuse(status, path, headers, reason, "");
    response.headers_mut().insert(RETRY_AFTER, 1.into());
    response
}

/// JSON for the API, a page for a browser, text for the others.
fn refuse(status: StatusCode, path: &str, headers: &HeaderMap, reason: &str, how: &str) -> Response {
    let accepts_pages = headers
        .get(ACCEPT)
        .is_some_and(|accept| accept.as_bytes().windows(9).any(|part| part == b"text/html"));
    let said = if how.is_empty() { reason.to_owned() } else { format!("{reason}. {how}") };
    let (content_type, body) = if path.starts_with("/api/") {
        ("application/json", serde_json::json!({ "error": said }).to_string())
    } else if accepts_pages {
        let title = status.canonical_reason().unwrap_or_default();
        let page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>parachute: {title}</title>\
             <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\">\
             </head><body><h1>{title}</h1><p>{reason}.</p><p>{how}</p></body></html>"
        );
        ("text/html; charset=utf-8", page)
    } else {
        ("text/plain; charset=utf-8", said)
    };
    let mut response = Response::new(format!("{body}\n").into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
