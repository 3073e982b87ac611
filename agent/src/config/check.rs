//! From what is written to what is meant: every rule is checked, every mistake is added to `Found`, and what is
//! right is compiled. A `Config` made while anything was found is thrown away by the caller.

mod alert;
mod captures;
mod isolation;
pub(super) mod metric;
mod names;
mod parse;
mod peers;
mod probe;
mod targets;
mod trigger;
mod units;

pub use names::OWN_METRICS;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::{Found, Place};
use super::host::Host;
use super::raw::{RawConfig, RawEndpoint, RawLimits, RawProbeRoot, RawRuntimes};
use super::root::ProbeRoot;
use super::yaml::at::{At, Tried};
use super::{Config, Limits, RuntimeEndpoint, Runtimes, include};
use crate::model::{ProbeName, TriggerName};

/// What every check needs.
pub(super) struct Checker<'a> {
    pub(super) host: &'a Host<'a>,
    pub(super) found: &'a Found,
    /// Whose programs are looked for.
    pub(super) root: ProbeRoot,
    /// Of probes that come with the program: what they need may be missing on a host, and is no mistake of anybody's.
    pub(super) included: bool,
}

pub(super) fn check(raw: &RawConfig, digest: [u8; 32], host: &Host<'_>, found: &Found) -> Config {
    let root = raw.probe_root.as_ref().and_then(Tried::get);
    let root = root.map_or_else(ProbeRoot::default, |root| match root.value {
        RawProbeRoot::Host => ProbeRoot::Host,
        RawProbeRoot::Image => ProbeRoot::Image,
    });
    let checker = Checker { host, found, root, included: false };
    let mut declared = metric::Declared::default();
    let mut probes = BTreeMap::new();
    let included = include::named(raw, found);
    let raw_probes = raw.probes.as_ref().and_then(|probes| probes.0.as_ref());
    if raw.probes.is_none() && raw.include.is_none() {
        let start = Place { line: 1, column: 1, field: "".into() };
        found.add(
            &start,
            "nothing to run; declare a probe under `probes:`, or include some, as in include: [network]",
        );
    }
    if let Some(At { place, .. }) =
        raw_probes.filter(|probes| probes.value.is_empty() && raw.include.is_none())
    {
        found.add(place, "nothing to run; declare a probe, as in sockets: {command: [ss, -s], parse: none}");
    }
    for (name, raw) in raw_probes.into_iter().flat_map(|probes| &probes.value) {
        let Some(raw) = &raw.0 else { continue };
        if let Some(probe) = checker.probe(name, raw, &mut declared) {
            probes.insert(ProbeName::new(name), Arc::new(probe));
        }
    }
    // Known is what is named, even where it has mistakes of its own: one mistake is reported once.
    let is_own = |probe: &str| raw_probes.is_some_and(|all| all.value.contains_key(probe));
    let unread = (raw.probes.is_none() && raw.include.is_none())
        || raw.probes.as_ref().is_some_and(|probes| probes.0.is_none())
        || raw.include.as_ref().is_some_and(|include| include.0.is_none());
    let mut triggers = BTreeMap::new();
    for (name, raw) in raw.triggers.iter().filter_map(|section| section.0.as_ref()).flatten() {
        let Some(raw) = &raw.0 else { continue };
        let known = |probe: &str| unread || is_own(probe) || include::has(&included, probe);
        if let Some(trigger) = checker.trigger(name, raw, known) {
            triggers.insert(TriggerName::new(name), Arc::new(trigger));
        }
    }
    let mut config = Config {
        probe_root: root,
        runtimes: checker.runtimes(raw.runtimes.as_ref().and_then(|section| section.0.as_ref())),
        targets: Arc::new(checker.targets(raw.targets.as_ref().and_then(Tried::get))),
        limits: checker.limits(raw.limits.as_ref().and_then(|section| section.0.as_ref())),
        captures: checker.captures(raw.captures.as_ref().and_then(|section| section.0.as_ref())),
        store: checker.store(raw.captures.as_ref().and_then(|section| section.0.as_ref())),
        peers: checker.peers(raw.peers.as_ref().and_then(Tried::get)),
        probes,
        triggers,
        included: Vec::new(),
        digest,
    };
    include::add(&included, &checker, &mut declared, &mut config, is_own);
    config
}

impl Checker<'_> {
    fn runtimes(&self, raw: Option<&At<RawRuntimes>>) -> Runtimes {
        let Some(raw) = raw else { return Runtimes::Auto };
        let RawRuntimes::Listed(listed) = &raw.value else { return Runtimes::Auto };
        let endpoint = |endpoint: &Tried<At<RawEndpoint>>| {
            type Made = fn(PathBuf) -> RuntimeEndpoint;
            let (path, what, made): (_, _, Made) = match &endpoint.get()?.value {
                RawEndpoint::Cri(path) => (path, "socket", RuntimeEndpoint::Cri),
                RawEndpoint::Docker(path) => (path, "socket", RuntimeEndpoint::Docker),
                RawEndpoint::Podman(path) => (path, "socket", RuntimeEndpoint::Podman),
                RawEndpoint::PodmanStorage(path) => (path, "folder", RuntimeEndpoint::PodmanStorage),
            };
            if !path.value.starts_with('/') {
                let message =
                    format!("{:?} is not an absolute path; write the {what}'s full path", path.value);
                self.found.add(&path.place, message);
            }
            Some(made((&path.value).into()))
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
