//! `GET /probe`: one probe in one container, run because of this scrape and answered with its metrics alone. It is Prometheus'
//! multi-target pattern (<https://prometheus.io/docs/guides/multi-target-exporter/>), and where blackbox_exporter has a word,
//! a status or a rule for something, it is the same here.

mod debug;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use warp::http::header::{CONTENT_ENCODING, HeaderMap, ORIGIN, RETRY_AFTER, VARY};
use warp::http::{HeaderValue, Method, StatusCode};
use warp::reply::Response;

use super::deadline::Deadline;
use super::query::Query;
use super::routes::{TEXT, answer, refuse, set, wrong_method};
use super::{Asker, Backend, CONNECTION_TIMEOUT, gzip};
use crate::config::Probe;
use crate::metrics;
use crate::metrics::samples::{Alone, alone};
use crate::model::{Container, RunResult, TriggerName};

/// Scrapes that wait for a run at once. Own places: others' requests for runs do not take them.
pub(super) const MAX_WAITING: usize = 64;
/// What a scrape without the header may take, as blackbox_exporter has it.
const NO_HEADER: Duration = Duration::from_mins(2);
/// The longest scrape timeout that makes sense.
const LONGEST: Duration = Duration::from_hours(1);
/// How long a command that was ended for being late is waited for, so that the answer still comes in time.
const PATIENCE: Duration = Duration::from_millis(250);
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// What one scrape asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAsk {
    /// Name of a configured probe.
    pub module: String,
    /// `[NS/][POD/]NAME`, or the beginning of an id.
    pub target: String,
    /// From now; the probe's own deadline counts besides.
    pub within: Duration,
    /// How much longer the answer may take when a command that is too late does not end at once.
    pub patience: Duration,
}

/// What was found, and what came of it.
#[derive(Clone, Debug)]
pub struct ProbeAnswer {
    pub probe: Arc<Probe>,
    pub container: Arc<Container>,
    /// The trigger that lets a request run this probe there.
    pub trigger: TriggerName,
    /// The deadline that counted.
    pub timeout: Duration,
    /// From the request until the answer was there, the time in the queue included.
    pub took: Duration,
    /// The reason is for people, where nothing was run or nothing came back.
    pub run: Result<Box<RunResult>, String>,
}

/// Why a scrape is refused: mistakes in what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeRefusal {
    #[error("Unknown module {0:?}")]
    UnknownModule(String),
    #[error(
        "module {module:?} may not be asked for in {container}: no trigger with `http: {{}}` lists it for that container"
    )]
    NotByRequest { module: String, container: String },
    #[error("unknown target {target:?}: it is none of the {live} containers that run here")]
    NoContainer { target: String, live: usize },
    #[error("ambiguous target {target:?}: it fits {} containers, name one of: {}", .fits.len(), .fits.join(", "))]
    Ambiguous { target: String, fits: Vec<String> },
}

/// What the request itself says of the time that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    scrape: Option<Duration>,
    within: Duration,
}

pub(super) async fn probe(
    method: Method,
    headers: HeaderMap,
    query: Query,
    deadline: Deadline,
    asker: Asker,
    backend: Arc<dyn Backend>,
    (slots, offset): (Arc<Semaphore>, Duration),
) -> Response {
    // No HEAD: it would run the probe for nothing.
    if method != Method::GET {
        return wrong_method(false, "GET");
    }
    if is_of_another_page(&headers) {
        return refuse(
            false,
            StatusCode::FORBIDDEN,
            "web pages may not start probes; open the address itself",
        );
    }
    let wrong = |reason: &str| refuse(false, StatusCode::BAD_REQUEST, reason);
    let times = match times(&headers, offset) {
        Ok(times) => times,
        Err(reason) => return wrong(&reason),
    };
    let Some(module) = query.get("module") else { return wrong("Module parameter is missing") };
    let Some(target) = query.get("target") else { return wrong("Target parameter is missing") };
    let wants_debug = query.get("debug") == Some("true");
    if wants_debug && !asker.roles.view {
        let reason = "debug=true shows command lines and output: it needs the role view";
        return refuse(false, StatusCode::FORBIDDEN, reason);
    }
    let Ok(_slot) = slots.try_acquire() else {
        let reason = "too many scrapes wait for a probe already";
        let mut response = refuse(false, StatusCode::SERVICE_UNAVAILABLE, reason);
        set(&mut response, RETRY_AFTER, "1");
        return response;
    };
    asker.starts("probe", format_args!("module {module:?} target {target:?}"));
    let patience = PATIENCE.min(offset / 2);
    let ask =
        ProbeAsk { module: module.to_owned(), target: target.to_owned(), within: times.within, patience };
    deadline.reset(times.within + patience + CONNECTION_TIMEOUT);
    let answered = backend.probe(ask.clone()).await;
    deadline.reset(CONNECTION_TIMEOUT);
    match answered {
        Ok(found) if wants_debug => {
            answer(StatusCode::OK, TEXT, debug::page(&ask, times.scrape, offset, &found))
        }
        Ok(found) => exposition(exposed(&found).text, gzip::accepted(&headers)),
        Err(refusal) => wrong(&refusal.to_string()),
    }
}

/// What browsers say of a request that another page makes, an image's address for instance. A person who types the address,
/// and a link on the agent's own page, may: Prometheus and curl say nothing of the kind.
fn is_of_another_page(headers: &HeaderMap) -> bool {
    let says = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let typed = matches!(says("sec-fetch-site"), None | Some(b"none"));
    let followed =
        says("sec-fetch-site") == Some(b"same-origin") && says("sec-fetch-mode") == Some(b"navigate");
    headers.contains_key(ORIGIN) || !(typed || followed)
}

/// The time that there is: what Prometheus gives itself, less the offset. Of a time that is no longer than the offset, half.
fn times(headers: &HeaderMap, offset: Duration) -> Result<Times, String> {
    let Some(header) = headers.get(SCRAPE_TIMEOUT) else {
        return Ok(Times { scrape: None, within: NO_HEADER });
    };
    let wrong = || {
        let shown = super::visible::visible_bytes(&header.as_bytes()[..header.len().min(100)]);
        format!("Failed to parse timeout from Prometheus header: {shown:?} is no number of seconds")
    };
    let seconds: f64 = header.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
    let given = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?.min(LONGEST);
    if given.is_zero() {
        return Ok(Times { scrape: None, within: NO_HEADER });
    }
    let within = given.checked_sub(offset).filter(|left| !left.is_zero()).unwrap_or(given / 2);
    Ok(Times { scrape: Some(given), within })
}

/// The run's metrics, and the three that say how it went.
fn exposed(found: &ProbeAnswer) -> Alone {
    let run = found.run.as_ref().ok().filter(|run| run.outcome.is_ok());
    let families = run.map(|run| run.families.as_slice()).unwrap_or_default();
    let notes = [
        (
            "probe_success",
            "1 if the probe ended well in time, else 0.",
            if run.is_some() { 1.0 } else { 0.0 },
        ),
        (
            "probe_duration_seconds",
            "Time that the probe took, its wait for a turn included.",
            found.took.as_secs_f64(),
        ),
        ("probe_timeout_seconds", "Time that the probe was given.", found.timeout.as_secs_f64()),
    ];
    alone(families, &notes)
}

fn exposition(text: String, zip: bool) -> Response {
    let zipped = if zip { gzip::compress(&text).ok() } else { None };
    let is_zipped = zipped.is_some();
    let body = zipped.unwrap_or_else(|| text.into_bytes());
    let mut response = answer(StatusCode::OK, metrics::CONTENT_TYPE, body);
    set(&mut response, VARY, "accept-encoding");
    if is_zipped {
        set(&mut response, CONTENT_ENCODING, "gzip");
    }
    response
}
