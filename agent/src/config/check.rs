//! From what is written to what is meant: every rule is checked, every mistake is added to `Found`, and what is
//! right is compiled. A `Config` made while anything was found is thrown away by the caller.

mod alert;
mod captures;
mod isolation;
mod metric;
mod names;
mod parse;
mod peers;
mod probe;
mod trigger;
mod units;

pub use names::OWN_METRICS;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::Found;
use super::host::Host;
use super::raw::{RawConfig, RawEndpoint, RawLimits, RawRuntimes};
use super::yaml::at::{At, Tried};
use super::{Config, Limits, RuntimeEndpoint, Runtimes};
use crate::model::{ProbeName, TriggerName};

/// What every check needs.
struct Checker<'a> {
    host: &'a Host<'a>,
    found: &'a Found,
}

pub(super) fn check(raw: &RawConfig, digest: [u8; 32], host: &Host<'_>, found: &Found) -> Config {
    let checker = Checker { host, found };
    let mut declared = metric::Declared::default();
    let mut probes = BTreeMap::new();
    let raw_probes = raw.probes.0.as_ref();
    if let Some(At { place, .. }) = raw_probes.filter(|probes| probes.value.is_empty()) {
        found.add(place, "nothing to run; declare a probe, as in sockets: {command: [ss, -s], parse: none}");
    }
    for (name, raw) in raw_probes.into_iter().flat_map(|probes| &probes.value) {
        let Some(raw) = &raw.0 else { continue };
        if let Some(probe) = checker.probe(name, raw, &mut declared) {
            probes.insert(ProbeName::new(name), Arc::new(probe));
        }
    }
    let mut triggers = BTreeMap::new();
    for (name, raw) in raw.triggers.iter().filter_map(|section| section.0.as_ref()).flatten() {
        let Some(raw) = &raw.0 else { continue };
        // Known is what is named, even where it has mistakes of its own: one mistake is reported once.
        if let Some(trigger) =
            checker.trigger(name, raw, |probe| raw_probes.is_none_or(|all| all.value.contains_key(probe)))
        {
            triggers.insert(TriggerName::new(name), Arc::new(trigger));
        }
    }
    Config {
        runtimes: checker.runtimes(raw.runtimes.as_ref().and_then(|section| section.0.as_ref())),
        limits: checker.limits(raw.limits.as_ref().and_then(|section| section.0.as_ref())),
        captures: checker.captures(raw.captures.as_ref().and_then(|section| section.0.as_ref())),
        store: checker.store(raw.captures.as_ref().and_then(|section| section.0.as_ref())),
        peers: checker.peers(raw.peers.as_ref().and_then(Tried::get)),
        probes,
        triggers,
        digest,
    }
}

impl Checker<'_> {
    fn runtimes(&self, raw: Option<&At<RawRuntimes>>) -> Runtimes {
        let Some(raw) = raw else { return Runtimes::Auto };
        let RawRuntimes::Listed(listed) = &raw.value else { return Runtimes::Auto };
        let endpoint = |endpoint: &Tried<At<RawEndpoint>>| {
            let RawEndpoint::Cri(path) = &endpoint.get()?.value;
            if !path.value.starts_with('/') {
                let message =
                    format!("{:?} is not an absolute path; write the socket's full path", path.value);
                self.found.add(&path.place, message);
            }
            Some(RuntimeEndpoint::Cri((&path.value).into()))
        };
        if listed.is_empty() {
            self.found.add(&raw.place, "the list is empty; name a socket or write auto");
        }
        Runtimes::Listed(listed.iter().filter_map(endpoint).collect())
    }

    fn limits(&self, raw: Option<&RawLimits>) -> Limits {
        let raw = raw.unwrap_or(&RawLimits { concurrent_runs: None, queued_runs: None, results_grace: None });
        Limits {
            concurrent_runs: self.count(raw.concurrent_runs.as_ref(), 8, 1..=256),
            queued_runs: self.count(raw.queued_runs.as_ref(), 1000, 1..=100_000),
            results_grace: self.duration(
                raw.results_grace.as_ref(),
                Duration::from_mins(2),
                Duration::ZERO..=Duration::from_hours(1),
            ),
        }
    }
}
