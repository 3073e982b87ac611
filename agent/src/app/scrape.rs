//! What scrapes and people ask of the agent besides its own metrics: one probe in one container, which containers there are,
//! and how a probe's output is read.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::App;
use crate::config::parse::{Parse, Table};
use crate::http::{ProbeAnswer, ProbeAsk, ProbeRefusal};
use crate::model::{Container, RunRequest};
use crate::probes::Terms;
use crate::triggers::{self, Resolved, Target};

impl App {
    /// Runs a probe for one scrape. Its result is that scrape's alone: on the page of all stays what was there.
    pub(super) async fn probe_for_scrape(&self, ask: ProbeAsk) -> Result<ProbeAnswer, ProbeRefusal> {
        let started = Instant::now();
        let config = self.config.load_full();
        let ProbeAsk { module, target, within, patience } = ask;
        let Some(probe) = config.probes.get(module.as_str()) else {
            self.metrics.probe_module_unknown.inc();
            return Err(ProbeRefusal::UnknownModule(module));
        };
        let live = self.registry.containers();
        let container = match triggers::resolve(&live, &Target::parse(&target)) {
            Resolved::One(container) => container,
            Resolved::None => return Err(ProbeRefusal::NoContainer { target, live: live.len() }),
            Resolved::Several(all) => {
                let fits = all.iter().map(ToString::to_string).collect();
                return Err(ProbeRefusal::Ambiguous { target, fits });
            }
        };
        let Some(trigger) = triggers::http_trigger(&config, &module, &container) else {
            return Err(ProbeRefusal::NotByRequest { module, container: container.to_string() });
        };
        let timeout = probe.timeout.min(within);
        let request = RunRequest::new(probe.name.clone(), trigger.clone(), Arc::clone(&container));
        let cancel = CancellationToken::new();
        // Nobody else wants it: when the scrape has left, or was answered without it, the command ends.
        let _until_answered = cancel.clone().drop_guard();
        let terms =
            Terms { within: Some(within), cancel, publish: false, reserved: true, ..Terms::default() };
        // The pool ends the command at the deadline, and at the probe's own, which counts from its turn on. One that hangs
        // in the kernel does not go at once.
        let run = match tokio::time::timeout(within + patience, self.pool.run(request, terms)).await {
            Ok(Ok(result)) => Ok(Box::new(result)),
            Ok(Err(refusal)) => Err(refusal.to_string()),
            Err(_) => Err("the command was ended at its deadline and has not gone yet".to_owned()),
        };
        let took = started.elapsed();
        Ok(ProbeAnswer { probe: Arc::clone(probe), container, trigger: trigger.clone(), timeout, took, run })
    }

    /// How the probe's parser takes rows and columns, if it is of that kind.
    pub(super) fn table(&self, probe: &str) -> Option<Table> {
        match &self.config.load().probes.get(probe)?.parse {
            Parse::Table(table) => Some(table.clone()),
            _ => None,
        }
    }

    /// The containers in which `module` may be asked for, or all of them; None if it is not configured.
    pub(super) fn targets(&self, module: Option<&str>) -> Option<Vec<Arc<Container>>> {
        let live = self.registry.containers();
        let Some(module) = module else { return Some(live.to_vec()) };
        let config = self.config.load();
        if !config.probes.contains_key(module) {
            return None;
        }
        let may = |one: &&Arc<Container>| triggers::http_trigger(&config, module, one).is_some();
        Some(live.iter().filter(may).cloned().collect())
    }
}
