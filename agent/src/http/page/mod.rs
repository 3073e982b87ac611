//! The page for people on call: server-rendered, without scripts, fit for a phone. What it says is what the rooms behind the
//! front door say; it decides nothing. Each page is a file here, and all of them write through `html`.

mod alerts;
mod capture;
mod captures;
mod container;
mod frame;
mod html;
mod overview;
mod readable;
mod runs;
#[cfg(test)]
mod tests;
mod words;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use warp::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use warp::http::{HeaderValue, Method, StatusCode};
use warp::reply::Response;

use self::frame::{Place, STYLE, frame};
use self::html::Html;
use super::Backend;
use super::query::Query;
use super::routes::{HTML, answer, get_only, set};

/// Pages that are made at once: each has a thread, also while a disk hangs.
static MAKERS: Semaphore = Semaphore::const_new(16);
/// Of those that are read from a disk, so many, so that it leaves places for the others.
static DISK_MAKERS: Semaphore = Semaphore::const_new(4);
const TIMEOUT: Duration = Duration::from_secs(20);

/// Nothing is loaded and nothing runs: the one style sheet is let in by its digest, so that not even a style that somebody
/// smuggled in would count. Forms send only to the agent itself, and nobody may frame the page.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    // Base64 is ASCII, so this always is a header's value.
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The answer for a path that is a page's; None for all others.
pub(super) async fn serve(
    path: &str,
    method: &Method,
    query: Query,
    backend: Arc<dyn Backend>,
) -> Option<Response> {
    let page = match (path, path.rsplit_once('/')) {
        ("/", _) => Page::Overview,
        ("/runs", _) => Page::Runs,
        ("/alerts", _) => Page::Alerts,
        ("/captures", _) => Page::Captures,
        (_, Some(("/captures", id))) => Page::Capture(id.to_owned()),
        (_, Some(("/containers", id))) => Page::Container(id.to_owned()),
        _ => return None,
    };
    if let Some(refused) = get_only(method) {
        return Some(refused);
    }
    let makers = if matches!(page, Page::Capture(_)) { &DISK_MAKERS } else { &MAKERS };
    let Ok(turn) = makers.try_acquire() else {
        return Some(Wrong::Busy("Too many pages are asked for at once; try again in a second.").answer());
    };
    // A page may have a thousand rows, and a capture's is read from a disk.
    let made = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        match page {
            Page::Overview => Ok(overview::page(&*backend)),
            Page::Runs => runs::page(&query, &*backend),
            Page::Alerts => alerts::page(&query, &*backend),
            Page::Captures => captures::page(&query, &*backend),
            Page::Capture(id) => capture::page(&id, &*backend),
            Page::Container(id) => container::page(&id, &*backend),
        }
    });
    let made = match tokio::time::timeout(TIMEOUT, made).await {
        Ok(Ok(made)) => made,
        Ok(Err(_)) => Err(Wrong::Broken("The page could not be made; see the log.".to_owned())),
        Err(_) => Err(Wrong::Busy("The page was not ready in time; the disk may hang.")),
    };
    Some(made.map_or_else(|wrong| wrong.answer(), |html| document(StatusCode::OK, html)))
}

enum Page {
    Overview,
    Runs,
    Alerts,
    Captures,
    Capture(String),
    Container(String),
}

/// Why there is no such page.
#[derive(Debug)]
enum Wrong {
    Query(String),
    Nothing(&'static str),
    Busy(&'static str),
    Broken(String),
}

impl Wrong {
    fn answer(&self) -> Response {
        let (status, title, reason) = match self {
            Self::Query(reason) => (StatusCode::BAD_REQUEST, "That cannot be asked", reason.as_str()),
            Self::Nothing(reason) => (StatusCode::NOT_FOUND, "Not here", *reason),
            Self::Busy(reason) => (StatusCode::SERVICE_UNAVAILABLE, "Not now", *reason),
            Self::Broken(reason) => (StatusCode::INTERNAL_SERVER_ERROR, "Broken", reason.as_str()),
        };
        let mut body = Html::default();
        body.raw("<h1>").text(title).raw("</h1><p class=\"card pad\">").text(reason).raw("</p>");
        document(status, frame(title, Place::Nowhere, &body))
    }
}

fn document(status: StatusCode, html: Html) -> Response {
    let mut response = answer(status, HTML, html.into_string());
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    // Addresses have the names of containers in them.
    set(&mut response, REFERRER_POLICY, "no-referrer");
    set(&mut response, CACHE_CONTROL, "no-store");
    response
}
