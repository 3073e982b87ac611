//! `/api/v1/captures`: which there are, each one's record, and what its run printed. The output of a container is hostile: it is
//! handed out as a file to save, never as something that a browser draws.

use std::io::{self, Read as _};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::unfold;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use warp::Filter;
use warp::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, ORIGIN, RANGE, RETRY_AFTER,
};
use warp::http::{Method, StatusCode};
use warp::reply::{Reply as _, Response};

use super::deadline::Deadline;
use super::query::Query;
use super::range::{Range, names, range};
use super::routes::{Shared, json, refuse, set, wrong_method};
use super::{Asker, Backend};
use crate::captures::{
    Captures, Fault, Filter as Wanted, MAX_LIMIT, Record, StreamReader, USUAL_LIMIT, moment,
};
use crate::model::{RunId, Stream};

/// For what waits for a disk.
const DISK_TIMEOUT: Duration = Duration::from_secs(20);
/// From the first byte of a stream to its last one.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_mins(10);
/// Captures that are read or removed at once: a stream has a window of its own, and where the disk hangs each has a thread.
static READERS: Semaphore = Semaphore::const_new(32);
/// Read and sent at once, in bytes.
const PIECE: usize = 64 * 1024;
const NAMES: [&str; 11] = [
    "namespace",
    "pod",
    "container",
    "probe",
    "trigger",
    "alert",
    "outcome",
    "since",
    "until",
    "limit",
    "before",
];

pub(super) fn routes(
    backend: Shared,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static {
    let shared = warp::any().map(move || backend.clone());
    let asked = warp::method().and(warp::header::headers_cloned());
    let query = warp::query::<Vec<(String, String)>>().map(Query);
    let all = warp::path!("api" / "v1" / "captures")
        .and(warp::method())
        .and(query)
        .and(shared.clone())
        .then(async |method, query, backend: Shared| list(&method, &query, &*backend).await);
    let one = warp::path!("api" / "v1" / "captures" / String)
        .and(asked)
        .and(warp::ext::get::<Asker>())
        .and(shared.clone())
        .then(async |id: String, method, headers, asker, backend: Shared| {
            one(&id, &method, &headers, &asker, &*backend).await
        });
    let stream = warp::path!("api" / "v1" / "captures" / String / String)
        .and(asked)
        .and(warp::ext::get::<Deadline>())
        .and(shared)
        .then(async |id: String, stream: String, method, headers, deadline, backend: Shared| {
            output((&id, &stream), &method, &headers, &deadline, &*backend).await
        });
    all.or(one).unify().or(stream).unify()
}

async fn list(method: &Method, query: &Query, backend: &dyn Backend) -> Response {
    if !looks(method) {
        return wrong_method(true, "GET, HEAD");
    }
    let (wanted, limit, before) = match read(query, SystemTime::now()) {
        Ok(asked) => asked,
        Err(reason) => return refuse(true, StatusCode::BAD_REQUEST, &reason),
    };
    let captures = backend.captures();
    // After the agent's start the folder is still being read; what is not complete then says so.
    let _ = tokio::time::timeout(DISK_TIMEOUT, captures.settled()).await;
    let listed = tokio::task::spawn_blocking(move || captures.list(&wanted, limit, before.as_ref())).await;
    match listed {
        Ok(listing) => json(StatusCode::OK, &listing),
        Err(_) => refuse(true, StatusCode::INTERNAL_SERVER_ERROR, "the list could not be made; see the log"),
    }
}

/// The filter, the limit, and where to begin; the error says which parameter is wrong.
pub(super) fn read(query: &Query, now: SystemTime) -> Result<(Wanted, usize, Option<RunId>), String> {
    query.only(&NAMES)?;
    let text = |name: &str| query.get(name).map(str::to_owned);
    let time = |name: &str| {
        let given = query.get(name).map(|text| moment(text, now));
        given.transpose().map_err(|reason| format!("{name}: {reason}"))
    };
    let outcome = text("outcome");
    if outcome.as_deref().is_some_and(|word| !Wanted::outcomes().any(|known| known == word)) {
        let words: Vec<_> = Wanted::outcomes().collect();
        return Err(format!("outcome must be one of {}", words.join(", ")));
    }
    let before = match query.get("before") {
        None => None,
        Some(text) => {
            Some(RunId::parse(text).ok_or("before must be the `next` of an earlier answer".to_owned())?)
        }
    };
    let wanted = Wanted {
        namespace: text("namespace"),
        pod: text("pod"),
        container: text("container"),
        probe: text("probe"),
        trigger: text("trigger"),
        alert: text("alert"),
        outcome,
        since: time("since")?,
        until: time("until")?,
    };
    Ok((wanted, query.number("limit", USUAL_LIMIT, MAX_LIMIT)?, before))
}

async fn one(
    id: &str,
    method: &Method,
    headers: &HeaderMap,
    asker: &Asker,
    backend: &dyn Backend,
) -> Response {
    let removes = *method == Method::DELETE;
    if !removes && !looks(method) {
        return wrong_method(true, "GET, HEAD, DELETE");
    }
    if removes && headers.contains_key(ORIGIN) {
        let reason = "requests from web pages (with an Origin header) are refused";
        return refuse(true, StatusCode::FORBIDDEN, reason);
    }
    let Some(id) = RunId::parse(id) else { return no_id(id) };
    let Ok(place) = READERS.try_acquire() else { return too_many() };
    let captures = backend.captures();
    if removes {
        asker.starts("the removal of a capture", &id);
        let removing = id.clone();
        return match off(place, move || captures.remove(&removing)).await {
            Ok((Ok(true), _)) => json(StatusCode::OK, &serde_json::json!({ "removed": id })),
            Ok((Ok(false), _)) => faulty(&Fault::Missing, &id),
            Ok((Err(error), _)) => faulty(&Fault::Io(error), &id),
            Err(refused) => refused,
        };
    }
    let asked = id.clone();
    match off(place, move || captures.record(&asked)).await {
        Ok((Ok(record), _)) => json(StatusCode::OK, &record),
        Ok((Err(fault), _)) => faulty(&fault, &id),
        Err(refused) => refused,
    }
}

async fn output(
    (id, stream): (&str, &str),
    method: &Method,
    headers: &HeaderMap,
    deadline: &Deadline,
    backend: &dyn Backend,
) -> Response {
    let Some(stream) = Stream::BOTH.into_iter().find(|known| known.as_str() == stream) else {
        return refuse(true, StatusCode::NOT_FOUND, "there is nothing at this path");
    };
    if !looks(method) {
        return wrong_method(true, "GET, HEAD");
    }
    let Some(id) = RunId::parse(id) else { return no_id(id) };
    let Ok(place) = READERS.try_acquire() else { return too_many() };
    let captures = backend.captures();
    let (asked, of) = (captures.clone(), id.clone());
    let (record, place) = match off(place, move || asked.record(&of)).await {
        Ok((Ok(record), place)) => (record, place),
        Ok((Err(fault), _)) => return faulty(&fault, &id),
        Err(refused) => return refused,
    };
    let part = record.part(stream);
    let etag = format!("\"{}\"", part.sha256);
    if text(headers, &IF_NONE_MATCH).is_some_and(|given| names(given, &etag)) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        put(&mut response, ETAG, &etag);
        return response;
    }
    let range = match text(headers, &RANGE) {
        Some(asked)
            if *method == Method::GET && text(headers, &IF_RANGE).is_none_or(|given| given == etag) =>
        {
            range(asked, part.bytes)
        }
        _ => Range::All,
    };
    let (from, length) = match range {
        Range::All => (0, part.bytes),
        Range::Part { from, to } => (from, to - from + 1),
        Range::Beyond => {
            let mut response = refuse(
                true,
                StatusCode::RANGE_NOT_SATISFIABLE,
                &format!("there are {} bytes, and none in that range", part.bytes),
            );
            put(&mut response, CONTENT_RANGE, &format!("bytes */{}", part.bytes));
            return response;
        }
    };
    let mut response = if *method == Method::HEAD || length == 0 {
        Response::default()
    } else {
        deadline.reset(DOWNLOAD_TIMEOUT);
        match body(captures, &id, stream, (from, length), place).await {
            Ok(response) => response,
            Err(refused) => return refused,
        }
    };
    if let Range::Part { from, to } = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        put(&mut response, CONTENT_RANGE, &format!("bytes {from}-{to}/{}", part.bytes));
    }
    describe(&mut response, &record, stream, &etag);
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

fn describe(response: &mut Response, record: &Record, stream: Stream, etag: &str) {
    set(response, CONTENT_TYPE, record.part(stream).kind.media_type());
    set(response, ACCEPT_RANGES, "bytes");
    set(response, CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'");
    put(response, ETAG, etag);
    let name = format!("attachment; filename=\"{}\"", record.file_name(stream));
    put(response, CONTENT_DISPOSITION, &name);
}

/// The body, of which the first piece has been read: what cannot be read at all gets a status that says so.
async fn body(
    captures: Captures,
    id: &RunId,
    stream: Stream,
    (from, length): (u64, u64),
    place: SemaphorePermit<'static>,
) -> Result<Response, Response> {
    let of = id.clone();
    let opened = off(place, move || {
        let (_, mut reader) = captures.read(&of, stream, from, Some(length))?;
        let first = piece(&mut reader)?;
        Ok::<_, Fault>((reader, first))
    });
    let ((mut reader, first), place) = match opened.await {
        Ok((Ok(opened), place)) => (opened, place),
        Ok((Err(fault), _)) => return Err(faulty(&fault, id)),
        Err(refused) => return Err(refused),
    };
    // One piece is on its way and one is read; a client that is slow holds no thread.
    let (pieces, sent) = mpsc::channel::<io::Result<Bytes>>(1);
    tokio::spawn(async move {
        let _place = place;
        let mut next = Ok(first);
        loop {
            let is_last = next.as_ref().map_or(true, Bytes::is_empty);
            if matches!(&next, Ok(bytes) if bytes.is_empty()) || pieces.send(next).await.is_err() || is_last {
                return;
            }
            let read = tokio::task::spawn_blocking(move || (piece(&mut reader), reader)).await;
            match read {
                Ok((read, same)) => (next, reader) = (read, same),
                Err(_) => return,
            }
        }
    });
    let stream = unfold(sent, async |mut sent| sent.recv().await.map(|piece| (piece, sent)));
    Ok(warp::reply::stream(stream).into_response())
}

fn piece(reader: &mut StreamReader) -> io::Result<Bytes> {
    let mut bytes = vec![0; PIECE];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match reader.read(room)? {
            0 => break,
            got => filled += got,
        }
    }
    bytes.truncate(filled);
    Ok(bytes.into())
}

/// What waits for a disk, on a thread that may. Its place is taken until that thread is done, also where nobody waits for it any
/// longer: a disk that hangs costs so many threads, and not all that there are.
async fn off<T: Send + 'static>(
    place: SemaphorePermit<'static>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<(T, SemaphorePermit<'static>), Response> {
    let work = tokio::task::spawn_blocking(move || (work(), place));
    match tokio::time::timeout(DISK_TIMEOUT, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) | Err(_) => Err(slow()),
    }
}

fn too_many() -> Response {
    let mut response =
        refuse(true, StatusCode::SERVICE_UNAVAILABLE, "too many captures are being read; try again soon");
    set(&mut response, RETRY_AFTER, "1");
    response
}

fn looks(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

fn no_id(text: &str) -> Response {
    let reason = format!("{text:?} is no id of a capture; those look like 20261126T030412.123Z-4f1c9a02");
    refuse(true, StatusCode::BAD_REQUEST, &reason)
}

fn slow() -> Response {
    refuse(true, StatusCode::GATEWAY_TIMEOUT, "the disk did not answer in time")
}

fn faulty(fault: &Fault, id: &RunId) -> Response {
    let status = match fault {
        Fault::Missing => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refuse(true, status, &format!("capture {id}: {fault}"))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Digests, ids and numbers; what could not be a header is left out.
fn put(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
