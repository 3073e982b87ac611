//! Alerts' runs are the pool's, and are kept where the pool keeps them.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;

use super::alert_counters;
use crate::captures::Captures;
use crate::config::Config;
use crate::containers::Registry;
use crate::metrics::AgentMetrics;
use crate::model::Outcome;
use crate::probes::{Pool, Refusal, Terms};
use crate::triggers::alerts::{self, Alerts, RunEnd};

/// Opens the room of alerts, with its journal in `folder` if there is one.
pub(super) fn open(
    folder: Option<&Path>,
    config: &Arc<ArcSwap<Config>>,
    registry: &Registry,
    pool: &Pool,
    captures: Captures,
    metrics: &AgentMetrics,
) -> Alerts {
    let (live, ready, pool) = (registry.clone(), registry.clone(), pool.clone());
    let run = move |request, cancel| {
        let pool = pool.clone();
        async move {
            let terms = Terms { cancel, hold: false, reserved: true, ..Terms::default() };
            match pool.run(request, terms).await {
                Ok(result) => RunEnd::Done(result.outcome),
                Err(Refusal::ShuttingDown) => RunEnd::ShuttingDown,
                Err(Refusal::Cancelled) => RunEnd::Done(Outcome::Cancelled),
                Err(refusal) => RunEnd::Refused(refusal.to_string()),
            }
        }
        .boxed()
    };
    let wiring = alerts::Wiring {
        config: Arc::clone(config),
        live: Box::new(move || live.containers()),
        ready: async move { ready.described().await }.boxed(),
        run: Box::new(run),
        kept: Box::new(move |run| captures.contains(run)),
        counters: alert_counters(metrics),
    };
    Alerts::open(folder, wiring)
}
