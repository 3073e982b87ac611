//! The routes of what scrapes ask for besides `/metrics`, and of what people look at. As in `routes`, each is matched by its
//! path alone.

use std::sync::Arc;

use tokio::sync::Semaphore;
use warp::Filter;
use warp::http::header::HeaderMap;
use warp::http::{Method, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;

use super::deadline::Deadline;
use super::query::Query;
use super::routes::{Shared, get_only, json, refuse};
use super::{Asker, Options, page, probe, runs, sd};
use crate::config::node_name;

pub(super) fn routes(
    backend: Shared,
    options: &Options,
    // Own places, so that no request for a run keeps a scrape from its numbers.
    slots: Arc<Semaphore>,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static + use<> {
    let shared = warp::any().map(move || backend.clone());
    let query = warp::query::<Vec<(String, String)>>().map(Query);
    let offset = options.timeout_offset;

    let probe = warp::path!("probe")
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(query)
        .and(warp::ext::get::<Deadline>())
        .and(warp::ext::get::<Asker>())
        .and(shared.clone())
        .then(move |method, headers: HeaderMap, query, deadline, asker, backend| {
            probe::probe(method, headers, query, deadline, asker, backend, (slots.clone(), offset))
        });
    let sd = warp::path!("api" / "v1" / "sd")
        .and(warp::method())
        .and(query)
        .and(shared.clone())
        .map(|method, query, backend| targets(&method, &query, &backend));
    let runs = warp::path!("api" / "v1" / "runs")
        .and(warp::method())
        .and(query)
        .and(shared.clone())
        .map(|method, query, backend| history(&method, &query, &backend));
    let pages = warp::path::full().and(warp::method()).and(query).and(shared).and_then(
        async |path: FullPath, method, query, backend| {
            page::serve(path.as_str(), &method, query, backend).await.ok_or_else(warp::reject::not_found)
        },
    );
    probe.or(sd).unify().or(runs).unify().or(pages).unify()
}

fn targets(method: &Method, query: &Query, backend: &Shared) -> Response {
    if let Some(refused) = get_only(method) {
        return refused;
    }
    if let Err(reason) = query.only(&["module"]) {
        return refuse(true, StatusCode::BAD_REQUEST, &reason);
    }
    let module = query.get("module");
    let Some(containers) = backend.targets(module) else {
        let reason = format!("Unknown module {:?}", module.unwrap_or_default());
        return refuse(true, StatusCode::BAD_REQUEST, &reason);
    };
    json(StatusCode::OK, &sd::groups(&containers, &node_name()))
}

fn history(method: &Method, query: &Query, backend: &Shared) -> Response {
    if let Some(refused) = get_only(method) {
        return refused;
    }
    match runs::answer(query, backend.history()) {
        Ok(body) => json(StatusCode::OK, &body),
        Err(reason) => refuse(true, StatusCode::BAD_REQUEST, &reason),
    }
}
