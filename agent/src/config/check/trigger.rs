//! One entry under `triggers:`.

use std::time::Duration;

use cronexpr::{FallbackTimezoneOption, ParseOptions};
use globset::{GlobBuilder, GlobMatcher};

use super::{Checker, names};
use crate::config::error::Place;
use crate::config::raw::{RawMatch, RawSchedule, RawTrigger};
use crate::config::yaml::at::{At, Tried};
use crate::config::{Glob, Match, Trigger, When, include};
use crate::model::{ProbeName, TriggerName};

const DAY: Duration = Duration::from_hours(24);

impl Checker<'_> {
    pub(super) fn trigger(
        &self,
        name: &str,
        raw: &At<RawTrigger>,
        known: impl Fn(&str) -> bool,
    ) -> Option<Trigger> {
        self.found.ok(&raw.place, names::key(name));
        if name == TriggerName::CLI {
            self.found.add(&raw.place, "`cli` is the trigger of `parachute run`; choose another name");
        }
        let trigger = &raw.value;
        if let Some(probes) = trigger.probes.get().filter(|probes| probes.value.is_empty()) {
            self.found.add(&probes.place, "the list is empty; name at least one probe");
        }
        let listed = trigger.probes.get().map(|probes| probes.value.as_slice()).unwrap_or_default();
        let probes: Vec<&At<String>> = listed.iter().filter_map(Tried::get).collect();
        for (i, At { place, value: probe }) in probes.iter().enumerate() {
            if !known(probe) {
                let shipped = include::file_of(probe).map(|file| format!("write include: [{file}], or "));
                let hint = shipped.unwrap_or_default();
                self.found.add(place, format!("there is no probe {probe:?}; {hint}name one of `probes:`"));
            }
            if probes[..i].iter().any(|other| other.value == *probe) {
                self.found.add(place, format!("{probe} is listed twice; remove one of the two"));
            }
        }
        let when = self.when(name, raw);
        let matches =
            trigger.matches.as_ref().and_then(Tried::get).map(|raw| self.matches(raw)).unwrap_or_default();
        Some(Trigger {
            name: TriggerName::new(name),
            when: when?,
            probes: probes.iter().map(|probe| ProbeName::new(&probe.value)).collect(),
            matches,
            allow_unsafe_joined: is_set(trigger.allow_unsafe_joined.as_ref()),
        })
    }

    /// What is written is checked also where there is too much of it.
    fn when(&self, name: &str, raw: &At<RawTrigger>) -> Option<When> {
        let trigger = &raw.value;
        let start = trigger.container_start.as_ref().map(|start| {
            let allowed = Duration::ZERO..=Duration::from_hours(1);
            let delay = self.duration(start.get()?.value.delay.as_ref(), Duration::ZERO, allowed);
            Some(When::ContainerStart { delay })
        });
        let schedule = trigger.schedule.as_ref().map(|schedule| self.schedule(name, schedule.get()?));
        let http = trigger.http.as_ref().map(|http| http.get().map(|_| When::Http));
        let alert = trigger
            .alert
            .as_ref()
            .map(|alert| Some(When::Alert(Box::new(self.alert(alert.get()?, trigger)))));
        if alert.is_none() {
            self.no_alert(trigger);
        }
        let mut given = [start, schedule, http, alert].into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(when), None) => when,
            (first, _) => {
                let what = if first.is_none() { "nothing says when" } else { "more than one says when" };
                let message = format!("{what}; write exactly one of container_start, schedule, http, alert");
                self.found.add(&raw.place, message);
                None
            }
        }
    }

    fn schedule(&self, name: &str, raw: &At<RawSchedule>) -> Option<When> {
        let every = raw.value.every.as_ref().map(|every| {
            Some(When::Every(self.duration(Some(every), DAY, Duration::from_secs(1)..=7 * DAY)))
        });
        let cron = raw.value.cron.as_ref().map(|cron| self.cron(self.host.hash(name), cron.get()?));
        match (every, cron) {
            (Some(when), None) | (None, Some(when)) => when,
            _ => {
                self.found.add(&raw.place, "write exactly one of every, cron");
                None
            }
        }
    }

    fn cron(&self, hash: u64, raw: &At<String>) -> Option<When> {
        let text = match raw.value.trim() {
            "@hourly" => "H * * * *",
            "@daily" | "@midnight" => "H H * * *",
            "@weekly" => "H H * * H",
            "@monthly" => "H H H * *",
            "@yearly" => "H H H H *",
            other => other,
        };
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC;
        options.hashed_value = Some(hash);
        let text = independent(text, hash);
        let crontab =
            cronexpr::parse_crontab_with(&text, options).map_err(|error| cron_message(&raw.value, &error));
        let crontab = self.found.ok(&raw.place, crontab)?;
        // An expression that never fires (31 February) would otherwise be found out by silence.
        if crontab.find_next(jiff::Timestamp::now()).is_err() {
            self.found.add(&raw.place, format!("{:?} never fires; write a date that exists", raw.value));
        }
        Some(When::Cron(crontab))
    }

    fn matches(&self, raw: &RawMatch) -> Match {
        let glob = |raw: &Option<Tried<At<String>>>| self.negatable(raw.as_ref()?.get()?);
        Match {
            namespace: glob(&raw.namespace),
            pod: glob(&raw.pod),
            container: glob(&raw.container),
            sandboxes: is_set(raw.sandboxes.as_ref()),
        }
    }

    fn negatable(&self, raw: &At<String>) -> Option<Glob> {
        let (negated, pattern) = match raw.value.strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, raw.value.as_str()),
        };
        self.glob(pattern, &raw.place).map(|matcher| Glob { negated, matcher })
    }

    pub(super) fn glob(&self, pattern: &str, place: &Place) -> Option<GlobMatcher> {
        let glob = match pattern {
            "" => Err("the glob is empty; write `*` for anything".to_owned()),
            _ => GlobBuilder::new(pattern).build().map_err(|error| {
                format!("{pattern:?} is not a glob: {}; use `*`, `?`, [a-z] and {{a,b}}", error.kind())
            }),
        };
        self.found.ok(place, glob).map(|glob| glob.compile_matcher())
    }
}

/// A flag is off unless it is written.
fn is_set(flag: Option<&Tried<bool>>) -> bool {
    flag.and_then(Tried::get).is_some_and(|flag| *flag)
}

/// First value and number of values of each field; like Jenkins, with days that every month has.
const HASHED: [(u64, u64); 5] = [(0, 60), (0, 24), (1, 28), (1, 12), (0, 7)];

/// Puts a value of its own in the place of each field that is just `H`. The library takes one number modulo each
/// field's range, which ties the hour to the minute and may choose the 31st; `H/15` and lists are left to it.
fn independent(text: &str, hash: u64) -> String {
    let mut fields: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    for (i, (field, (first, values))) in fields.iter_mut().zip(HASHED).enumerate() {
        if field == "H" {
            *field = (first + (hash >> (8 * i)) % values).to_string();
        }
    }
    fields.join(" ")
}

/// The library draws a caret under the text; on one line its last words say it.
fn cron_message(text: &str, error: &cronexpr::Error) -> String {
    let full = error.to_string();
    let last = full.lines().last().unwrap_or_default();
    let reason =
        last.trim_start().trim_start_matches("^ ").split("; for a list of time zones").next().unwrap_or(last);
    format!(
        "{text:?} is not a cron expression: {reason}; write one such as `H 3 * * * Europe/Berlin` or @daily"
    )
}
