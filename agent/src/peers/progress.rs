//! What has come of one parcel so far, and in the end. Pure: who is asked and when is decided elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::PeersError;
use super::counts::{Counters, Failure};
use crate::model::{Delivery, Parcel};

/// Failures that are told in words.
const TOLD: usize = 10;

/// What has come of a parcel so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Those that need not be asked again, with why not if they have not taken it.
    pub(super) settled: BTreeMap<SocketAddr, Option<Failure>>,
    /// Addresses of this agent.
    pub(super) itself: BTreeSet<SocketAddr>,
    /// Those that may take it in another round.
    pub(super) pending: BTreeMap<SocketAddr, Failure>,
    pub(super) took: Vec<usize>,
    pub(super) beyond: usize,
    pub(super) error: Option<PeersError>,
}

impl Progress {
    pub(super) fn of(parcel: &Parcel) -> Self {
        Self { took: vec![0; parcel.alerts], ..Self::default() }
    }

    /// Nobody is to be asked again: for nothing comes of it, or because it is to be taken apart first.
    pub(super) fn is_over(&self) -> bool {
        self.is_spoiled() || (self.error.is_none() && self.pending.is_empty())
    }

    fn is_spoiled(&self) -> bool {
        self.took.len() > 1 && self.failed().any(|(_, failure)| matches!(failure, Failure::Spoiled(_)))
    }

    fn failed(&self) -> impl Iterator<Item = (&SocketAddr, &Failure)> {
        let refused = self.settled.iter().filter_map(|(peer, failure)| Some((peer, failure.as_ref()?)));
        self.pending.iter().chain(refused)
    }

    /// Counts those that are given up, which nobody is where all are asked again for each part.
    pub(super) fn end(self, counters: &Counters) -> Delivery {
        if !self.is_spoiled() {
            self.failed().for_each(|(_, failure)| counters.failure(failure.as_str()));
            (0..self.beyond).for_each(|_| counters.failure("beyond_max_peers"));
            self.error.iter().for_each(|error| counters.failure(error.reason()));
        }
        self.into()
    }
}

impl From<Progress> for Delivery {
    fn from(progress: Progress) -> Self {
        let mut failures: Vec<String> = progress
            .failed()
            .take(TOLD)
            .map(|(peer, failure)| format!("{peer}: {}", failure.words()))
            .collect();
        if progress.beyond > 0 {
            failures.push(format!("{} addresses beyond peers.max_peers were not asked", progress.beyond));
        }
        Self {
            peers: progress.settled.len() + progress.pending.len() + progress.beyond,
            answered: progress.settled.values().filter(|failure| failure.is_none()).count(),
            spoiled: progress.is_spoiled(),
            took: progress.took,
            failures,
            error: progress.error.map(|error| error.to_string()),
        }
    }
}
