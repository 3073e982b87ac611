//! Makes the agent's own metrics from the rows of their table and registers them. Which there are, `docs` says and `agent` holds.

use std::cell::Cell;

use prometheus::core::Collector;
use prometheus::{HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::docs;

#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("metric {0} is not in the table of metrics")]
    Undocumented(&'static str),
    #[error("metric could not be made: {0}")]
    Prometheus(#[from] prometheus::Error),
}

/// Makes metrics from rows of the table and registers them. In the place of one that cannot be made stands a spare one, until
/// [`Maker::end`] says so: to end at once would take code for each metric that drops all that were made before it, 60 KB in all.
pub(super) struct Maker {
    registry: Registry,
    spare: (IntCounter, IntCounterVec, IntGauge, IntGaugeVec),
    failed: Cell<Option<MetricsError>>,
}

impl Maker {
    pub(super) fn new() -> Result<Self, MetricsError> {
        let opts = || Opts::new("spare", "Not registered.");
        let spare = (
            IntCounter::with_opts(opts())?,
            IntCounterVec::new(opts(), &[])?,
            IntGauge::with_opts(opts())?,
            IntGaugeVec::new(opts(), &[])?,
        );
        Ok(Self { registry: Registry::new(), spare, failed: Cell::new(None) })
    }

    /// One that has no row of its own.
    pub(super) fn register(&self, others: impl Collector + 'static) -> Result<(), MetricsError> {
        Ok(self.registry.register(Box::new(others))?)
    }

    pub(super) fn keep<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, MetricsError> {
        self.register(metric.clone())?;
        Ok(metric)
    }

    fn of_row<C: Collector + Clone + 'static>(
        &self,
        name: &'static str,
        spare: &C,
        new: impl FnOnce(Opts, &[&str]) -> prometheus::Result<C>,
    ) -> C {
        let made = opts(name).and_then(|(opts, labels)| self.keep(new(opts, labels)?));
        made.unwrap_or_else(|error| {
            self.failed.set(self.failed.take().or(Some(error)));
            spare.clone()
        })
    }

    pub(super) fn counter(&self, name: &'static str) -> IntCounter {
        self.of_row(name, &self.spare.0, |opts, _| IntCounter::with_opts(opts))
    }

    pub(super) fn counters(&self, name: &'static str) -> IntCounterVec {
        self.of_row(name, &self.spare.1, IntCounterVec::new)
    }

    pub(super) fn gauge(&self, name: &'static str) -> IntGauge {
        self.of_row(name, &self.spare.2, |opts, _| IntGauge::with_opts(opts))
    }

    pub(super) fn gauges(&self, name: &'static str) -> IntGaugeVec {
        self.of_row(name, &self.spare.3, IntGaugeVec::new)
    }

    /// The registry, or the first error of all that were made.
    pub(super) fn end(self) -> Result<Registry, MetricsError> {
        self.failed.into_inner().map_or(Ok(self.registry), Err)
    }
}

pub(super) fn opts(name: &'static str) -> Result<(Opts, &'static [&'static str]), MetricsError> {
    let doc = docs::find(name).ok_or(MetricsError::Undocumented(name))?;
    Ok((Opts::new(doc.name, doc.help), doc.labels))
}

pub(super) fn histogram_opts(name: &'static str, buckets: &[f64]) -> Result<HistogramOpts, MetricsError> {
    Ok(HistogramOpts::from(opts(name)?.0).buckets(buckets.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_made_is_said_at_the_end() {
        let make = Maker::new().unwrap();
        make.gauge("parachute_containers").set(1);
        assert_eq!(make.end().unwrap().gather().len(), 1);
        // Of no row, and twice.
        for names in [["parachute_containers", "parachute_nothing"], ["parachute_containers"; 2]] {
            let make = Maker::new().unwrap();
            let _made = names.map(|name| make.gauge(name));
            assert!(make.end().is_err(), "{names:?}");
        }
    }
}
