//! Alerts' runs are the pool's, and are kept where the pool keeps them; what is not for this node is the peers'.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;

use super::{alert_counters, peer_counters};
use crate::captures::Captures;
use crate::config::{Config, node_name};
use crate::containers::Registry;
use crate::metrics::AgentMetrics;
use crate::model::{Instance, Outcome};
use crate::peers::{Peers, Rest};
use crate::probes::{Pool, Refusal, Terms, UntilPublished};
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
    let run = move |request, cancel, turn| {
        let pool = pool.clone();
        async move {
            let until_published: Option<UntilPublished> = Some(Box::new(turn));
            let terms = Terms { cancel, hold: false, reserved: true, until_published, ..Terms::default() };
            match pool.run(request, terms).await {
                Ok(result) => RunEnd::Done(result.outcome),
                Err(Refusal::ShuttingDown) => RunEnd::ShuttingDown,
                Err(Refusal::Cancelled) => RunEnd::Done(Outcome::Cancelled),
                Err(refusal) => RunEnd::Refused(refusal.to_string()),
            }
        }
        .boxed()
    };
    let instance = Instance::fresh(&node_name());
    let peers = Peers::new(Arc::clone(config), instance.clone(), peer_counters(metrics));
    let at_start = peers.clone();
    tokio::spawn(async move { at_start.look().await });
    let wiring = alerts::Wiring {
        config: Arc::clone(config),
        live: Box::new(move || live.containers()),
        ready: async move { ready.described().await }.boxed(),
        run: Box::new(run),
        kept: Box::new(move |run| captures.contains(run)),
        pass_on: Box::new(move |parcel| {
            let peers = peers.clone();
            let goes_on = |rest: Rest| -> alerts::Rest { Box::new(move |on| rest.finish(on).boxed()) };
            async move { peers.pass_on(parcel).await.map_continue(goes_on) }.boxed()
        }),
        instance,
        counters: alert_counters(metrics),
    };
    Alerts::open(folder, wiring)
}
