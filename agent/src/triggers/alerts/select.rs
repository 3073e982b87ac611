//! Pure: which triggers answer an alert, to which containers its labels lead there, and in words why they do not.

use std::fmt::Write as _;
use std::sync::Arc;

use super::payload::{Status, Told, shortened};
use crate::config::{AlertRule, AlertWhen, Config, Trigger, When};
use crate::model::{Container, ContainerLabels};
use crate::triggers::select::matches;

/// Of a label's value in a reason.
const SHOWN: usize = 100;

/// A live container with its names, which are asked for once for all alerts of a webhook.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) labels: ContainerLabels,
    pub(super) container: Arc<Container>,
}

/// In the order in which they are taken where a trigger may not have them all: by namespace, pod, container and id.
pub(super) fn candidates(live: &[Arc<Container>]) -> Vec<Candidate> {
    let named = |container: &Arc<Container>| Candidate {
        labels: container.labels(),
        container: Arc::clone(container),
    };
    let mut all: Vec<_> = live.iter().map(named).collect();
    all.sort_by(|a, b| (&a.labels, &a.container.id).cmp(&(&b.labels, &b.container.id)));
    all
}

/// What an alert trigger makes of an alert.
#[derive(Debug)]
pub(super) struct Considered<'a> {
    pub(super) trigger: &'a Trigger,
    pub(super) rule: &'a AlertRule,
    pub(super) answer: Answer<'a>,
    /// It may mean containers of other nodes, as well or alone; see [`elsewhere`].
    pub(super) elsewhere: bool,
}

#[derive(Debug)]
pub(super) enum Answer<'a> {
    /// Its labels are not those that the trigger is for; the reason says which.
    NotMeant(String),
    /// It is over, or begins, and the trigger is for the other; whether there is a container here, if that was looked at.
    NotNow { here: bool },
    /// No container; the reason says which was looked for.
    Nowhere(String),
    /// At least one, and how many there are beyond `max_targets`.
    Targets(Vec<&'a Candidate>, usize),
}

/// Every alert trigger of the configuration's, with what it makes of the alert.
pub(super) fn consider<'a>(
    config: &'a Config,
    told: &Told,
    candidates: &'a [Candidate],
) -> Vec<Considered<'a>> {
    let rules = config.triggers.values().filter_map(|trigger| match &trigger.when {
        When::Alert(rule) => Some((&**trigger, &**rule)),
        _ => None,
    });
    rules
        .map(|(trigger, rule)| {
            let (answer, elsewhere) = answer(trigger, rule, told, candidates);
            Considered { trigger, rule, answer, elsewhere }
        })
        .collect()
}

fn answer<'a>(
    trigger: &Trigger,
    rule: &AlertRule,
    told: &Told,
    candidates: &'a [Candidate],
) -> (Answer<'a>, bool) {
    let labels = &told.alert.labels;
    if let Some((name, pattern)) = rule.mismatch(labels) {
        let is =
            labels.get(name).map_or("absent".to_owned(), |value| format!("{:?}", shortened(value, SHOWN)));
        return (Answer::NotMeant(format!("label {name} is {is} and not {:?}", pattern.text)), false);
    }
    let meant = match rule.when {
        AlertWhen::Both => true,
        AlertWhen::Firing => told.status == Status::Firing,
        AlertWhen::Resolved => told.status == Status::Resolved,
    };
    // What it led to elsewhere is to be ended there.
    let ends = told.status == Status::Resolved && rule.cancel_on_resolve;
    if !meant && !ends {
        return (Answer::NotNow { here: false }, false);
    }
    // A field with a label in it that the alert lacks is None: it matches everything.
    let wanted: Vec<(&str, Result<String, String>)> = rule
        .target
        .fields(&ContainerLabels::default())
        .map(|(field, template, _)| (field, template.render(labels).map_err(str::to_owned)))
        .collect();
    let fits = |candidate: &&Candidate| {
        let mut fields = rule.target.fields(&candidate.labels).zip(&wanted);
        fields.all(|((_, _, is), (_, wanted))| {
            wanted.as_ref().is_ok_and(|wanted| wanted == is) || wanted.is_err()
        }) && matches(&trigger.matches, &candidate.container)
    };
    let mut found: Vec<&Candidate> = candidates.iter().filter(fits).collect();
    let elsewhere = elsewhere(&wanted, found.is_empty());
    if !meant {
        return (Answer::NotNow { here: !found.is_empty() }, elsewhere);
    }
    if found.is_empty() {
        return (Answer::Nowhere(nowhere(trigger, &wanted, candidates)), elsewhere);
    }
    let left_out = found.len().saturating_sub(rule.max_targets);
    found.truncate(rule.max_targets);
    (Answer::Targets(found, left_out), elsewhere)
}

/// Whether other nodes may have containers that are meant: always where this one has none. Where it has, unless the alert
/// names one pod, with its namespace: a pod is on one node. Whoever names less means all that there are.
fn elsewhere(wanted: &[(&str, Result<String, String>)], none_here: bool) -> bool {
    let names =
        |wanted_field: &str| wanted.iter().any(|(field, value)| *field == wanted_field && value.is_ok());
    none_here || !(names("namespace") && names("pod"))
}

fn nowhere(trigger: &Trigger, wanted: &[(&str, Result<String, String>)], candidates: &[Candidate]) -> String {
    // Writing to a String cannot fail.
    let mut reason = String::from("no container matches");
    for (field, value) in wanted {
        if let Ok(value) = value {
            let _ = write!(reason, " {field}={}", shortened(value, SHOWN));
        }
    }
    let rule = &trigger.matches;
    if rule.namespace.is_some() || rule.pod.is_some() || rule.container.is_some() {
        reason += " within the trigger's `match`";
    } else if wanted.iter().all(|(_, value)| value.is_err()) {
        reason += ": none runs that a trigger may look into";
    }
    for (field, value) in wanted {
        if let Err(label) = value {
            let _ = write!(reason, "; the alert has no label {label}, so every {field} was looked at");
        }
    }
    let unknown = candidates.iter().filter(|candidate| candidate.container.metadata.load().is_none()).count();
    if unknown > 0 {
        let _ = write!(reason, "; of {unknown} running containers the runtime has not said the names yet");
    }
    reason
}
