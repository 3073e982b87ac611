//! Pure: which containers a trigger, or a person, means.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Match, Trigger, When};
use crate::model::{Container, RunRequest, TriggerName};

/// Every probe of `trigger` in every container that it matches.
pub(super) fn requests<'a>(
    trigger: &'a Trigger,
    live: &'a [Arc<Container>],
) -> impl Iterator<Item = RunRequest> + 'a {
    live.iter().filter(|container| matches(&trigger.matches, container)).flat_map(|container| {
        trigger
            .probes
            .iter()
            .map(|probe| RunRequest::new(probe.clone(), trigger.name.clone(), Arc::clone(container)))
    })
}

pub(super) fn matches(rule: &Match, container: &Container) -> bool {
    let labels = container.labels();
    let all = [
        (&rule.namespace, &labels.namespace),
        (&rule.pod, &labels.pod),
        (&rule.container, &labels.container),
    ];
    // Of a container without a description a glob can say nothing, and a negated one least of all.
    let known = container.metadata.load().is_some() || all.iter().all(|(glob, _)| glob.is_none());
    known
        && (rule.sandboxes || !container.is_sandbox())
        && all.iter().all(|(glob, text)| glob.as_ref().is_none_or(|glob| glob.matches(text)))
}

/// Whom a person means: what is absent matches everything, what is there must be equal. Also the `target` of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    pub namespace: Option<String>,
    pub pod: Option<String>,
    pub container: Option<String>,
    /// Beginning of a container id, of at least [`MIN_ID`] characters.
    pub id: Option<String>,
}

impl Target {
    /// Reads `[NS/][POD/]NAME`. A name alone may also be the beginning of an id, of at least six characters. A target that
    /// was named by a path is called by it, and that begins with a slash.
    pub fn parse(text: &str) -> Self {
        if text.starts_with('/') {
            return Self { container: Some(text.to_owned()), ..Self::default() };
        }
        let mut parts = text.rsplitn(3, '/').map(|part| Some(part.to_owned()));
        let mut next = || parts.next().flatten();
        Self { container: next(), pod: next(), namespace: next(), id: None }
    }
}

impl From<Resolved> for Vec<Arc<Container>> {
    fn from(resolved: Resolved) -> Self {
        match resolved {
            Resolved::One(container) => vec![container],
            Resolved::None => Vec::new(),
            Resolved::Several(all) => all,
        }
    }
}

/// What a target came to.
#[derive(Clone, Debug)]
pub enum Resolved {
    One(Arc<Container>),
    None,
    Several(Vec<Arc<Container>>),
}

/// Shortest beginning of an id that is taken for one.
pub const MIN_ID: usize = 6;

/// Finds the one container that `target` means. A sandbox is meant only by its id.
pub fn resolve(live: &[Arc<Container>], target: &Target) -> Resolved {
    let is = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|wanted| wanted == has);
    let by_id = |id: &str, c: &Container| id.len() >= MIN_ID && c.id.as_str().starts_with(id);
    let mut found: Vec<_> = live
        .iter()
        .filter(|c| {
            let labels = c.labels();
            let in_pod = is(&target.namespace, &labels.namespace) && is(&target.pod, &labels.pod);
            match &target.id {
                Some(id) => by_id(id, c) && in_pod && is(&target.container, &labels.container),
                None => !c.is_sandbox() && in_pod && is(&target.container, &labels.container),
            }
        })
        .cloned()
        .collect();
    if let (true, None, None, Some(name)) =
        (found.is_empty(), &target.pod, &target.namespace, &target.container)
    {
        found = live.iter().filter(|c| by_id(name, c)).cloned().collect();
    }
    match <[_; 1]>::try_from(found) {
        Ok([one]) => Resolved::One(one),
        Err(found) if found.is_empty() => Resolved::None,
        Err(found) => Resolved::Several(found),
    }
}

/// The `http: {}` trigger that lets a request run this probe in this container.
pub fn http_trigger<'a>(config: &'a Config, probe: &str, container: &Container) -> Option<&'a TriggerName> {
    let lists = |t: &Trigger| t.probes.iter().any(|p| p.as_str() == probe);
    let allows = |t: &Trigger| matches!(t.when, When::Http) && lists(t) && matches(&t.matches, container);
    config.triggers.values().find(|trigger| allows(trigger)).map(|trigger| &trigger.name)
}
