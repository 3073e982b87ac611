//! What follows from a configuration before anything runs: the counters of its probes begin, and what cannot run is told.

use crate::config::Config;
use crate::metrics::AgentMetrics;

/// Shipped probes whose tools this host lacks do not stop the agent, and are not to be found out by silence.
pub(super) fn declare(metrics: &AgentMetrics, config: &Config) {
    metrics.declare(config);
    for (probe, missing) in config.probes.values().filter_map(|it| Some((&it.name, it.missing.as_ref()?))) {
        tracing::warn!(%probe, missing, "every run of this probe will be refused");
    }
}
