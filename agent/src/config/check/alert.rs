//! A trigger that answers alerts: its `alert`, and the keys beside it that only such a trigger has.

use std::collections::BTreeMap;
use std::time::Duration;

use globset::{GlobBuilder, GlobSet};

use super::Checker;
use crate::config::alert::is_label;
use crate::config::raw::RawTrigger;
use crate::config::raw::alert::{RawAlert, RawAlertWhen, RawTarget};
use crate::config::yaml::at::{At, Tried};
use crate::config::{AlertRule, AlertWhen, LabelPattern, TargetRule, Template};

const COOLDOWN: Duration = Duration::from_mins(10);
const MAX_COOLDOWN: Duration = Duration::from_hours(7 * 24);

impl Checker<'_> {
    pub(super) fn alert(&self, raw: &At<RawAlert>, trigger: &RawTrigger) -> AlertRule {
        let alert = &raw.value;
        let when = alert.when.as_ref().and_then(Tried::get);
        let cancel = alert.cancel_on_resolve.as_ref().and_then(Tried::get).filter(|cancel| cancel.value);
        if let (Some(cancel), Some(RawAlertWhen::Resolved)) = (cancel, when.map(|when| when.value)) {
            self.found
                .add(&cancel.place, "there is nothing to end with `when: resolved`; write firing or both");
        }
        let target = trigger.target.as_ref().and_then(Tried::get);
        let names = |target: &RawTarget| {
            [&target.namespace, &target.pod, &target.container].iter().any(|f| f.is_some())
        };
        let led = trigger.target.is_some() && target.is_none_or(|target| names(&target.value));
        if !led && trigger.matches.is_none() {
            let message = "nothing says in which containers; write target, as in {namespace: \"{{namespace}}\", \
                           pod: \"{{pod}}\"}, or match";
            self.found.add(target.map_or(&raw.place, |target| &target.place), message);
        }
        AlertRule {
            labels: self.label_patterns(alert),
            when: match when.map(|when| when.value) {
                None | Some(RawAlertWhen::Firing) => AlertWhen::Firing,
                Some(RawAlertWhen::Resolved) => AlertWhen::Resolved,
                Some(RawAlertWhen::Both) => AlertWhen::Both,
            },
            cancel_on_resolve: cancel.is_some(),
            target: target.map(|target| self.target(&target.value)).unwrap_or_default(),
            max_targets: self.count(trigger.max_targets.as_ref(), 20, 1..=1000),
            cooldown: self.duration(trigger.cooldown.as_ref(), COOLDOWN, Duration::ZERO..=MAX_COOLDOWN),
        }
    }

    /// The keys that would do nothing, silently, on a trigger of another kind.
    pub(super) fn no_alert(&self, trigger: &RawTrigger) {
        let target = trigger.target.as_ref().map(|target| ("target", target.get().map(|at| &at.place)));
        let targets =
            trigger.max_targets.as_ref().map(|count| ("max_targets", count.get().map(|at| &at.place)));
        let cooldown = trigger.cooldown.as_ref().map(|time| ("cooldown", time.get().map(|at| &at.place)));
        for (key, place) in [target, targets, cooldown].into_iter().flatten() {
            if let Some(place) = place {
                self.found.add(place, format!("only a trigger with `alert` has a {key}; remove it"));
            }
        }
    }

    fn label_patterns(&self, raw: &RawAlert) -> BTreeMap<String, LabelPattern> {
        let Some(labels) = raw.labels.get() else { return BTreeMap::new() };
        if labels.value.is_empty() {
            self.found.add(&labels.place, "no label is named; name at least one, as in alertname: \"*\"");
        }
        let each = labels.value.iter().filter_map(|(name, pattern)| {
            let pattern = pattern.get()?;
            if !is_label(name) {
                self.found.add(
                    &pattern.place,
                    format!("{name:?} is not a label's name; write one such as alertname"),
                );
            }
            Some((name.clone(), self.label_pattern(pattern)?))
        });
        each.collect()
    }

    fn label_pattern(&self, raw: &At<String>) -> Option<LabelPattern> {
        let (negated, alternatives) =
            raw.value.strip_prefix('!').map_or((false, raw.value.as_str()), |rest| (true, rest));
        let mut any = GlobSet::builder();
        for pattern in alternatives.split('|') {
            let glob = match pattern {
                "" => Err("a pattern is empty; write `*` for anything, or `!?*` for a label that is absent"
                    .to_owned()),
                _ => GlobBuilder::new(pattern).build().map_err(|error| {
                    format!("{pattern:?} is not a glob: {}; use `*`, `?`, [a-z] and {{a,b}}", error.kind())
                }),
            };
            any.add(self.found.ok(&raw.place, glob)?);
        }
        let any = any.build().map_err(|error| format!("{:?} is too large: {}", raw.value, error.kind()));
        Some(LabelPattern { negated, any: self.found.ok(&raw.place, any)?, text: raw.value.clone() })
    }

    fn target(&self, raw: &RawTarget) -> TargetRule {
        let template = |raw: &Option<Tried<At<String>>>| self.template(raw.as_ref()?.get()?);
        TargetRule {
            namespace: template(&raw.namespace),
            pod: template(&raw.pod),
            container: template(&raw.container),
        }
    }

    fn template(&self, At { place, value }: &At<String>) -> Option<Template> {
        self.found.ok(place, Template::parse(value))
    }
}
