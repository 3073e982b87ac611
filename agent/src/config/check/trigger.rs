//! One entry under `triggers:`.

use std::time::Duration;

use cronexpr::{FallbackTimezoneOption, ParseOptions};
use globset::{GlobBuilder, GlobMatcher};

use super::{Checker, names};
use crate::config::error::Place;
use crate::config::raw::{RawMatch, RawSchedule, RawTrigger};
use crate::config::yaml::at::At;
use crate::config::{Glob, Match, Trigger, When};
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
        let probes = &trigger.probes;
        if probes.value.is_empty() {
            self.found.add(&probes.place, "the list is empty; name at least one probe");
        }
        for (i, probe) in probes.value.iter().enumerate() {
            if !known(&probe.value) {
                self.found
                    .add(&probe.place, format!("there is no probe {:?}; name one of `probes:`", probe.value));
            }
            if probes.value[..i].iter().any(|other| other.value == probe.value) {
                self.found
                    .add(&probe.place, format!("{} is listed twice; remove one of the two", probe.value));
            }
        }
        let when = self.when(name, raw);
        let matches = trigger.matches.as_ref().map(|raw| self.matches(raw)).unwrap_or_default();
        Some(Trigger {
            name: TriggerName::new(name),
            when: when?,
            probes: probes.value.iter().map(|probe| ProbeName::new(&probe.value)).collect(),
            matches,
            allow_unsafe_joined: trigger.allow_unsafe_joined,
        })
    }

    fn when(&self, name: &str, raw: &At<RawTrigger>) -> Option<When> {
        match (&raw.value.container_start, &raw.value.schedule, &raw.value.http) {
            (Some(start), None, None) => {
                let allowed = Duration::ZERO..=Duration::from_hours(1);
                let delay = self.duration(start.value.delay.as_ref(), Duration::ZERO, allowed);
                Some(When::ContainerStart { delay })
            }
            (None, Some(schedule), None) => self.schedule(name, schedule),
            (None, None, Some(_)) => Some(When::Http),
            (start, schedule, http) => {
                let given = usize::from(start.is_some())
                    + usize::from(schedule.is_some())
                    + usize::from(http.is_some());
                let what = if given == 0 { "nothing says when" } else { "more than one says when" };
                let message = format!("{what}; write exactly one of container_start, schedule, http");
                self.found.add(&raw.place, message);
                None
            }
        }
    }

    fn schedule(&self, name: &str, raw: &At<RawSchedule>) -> Option<When> {
        match (&raw.value.every, &raw.value.cron) {
            (Some(every), None) => {
                Some(When::Every(self.duration(Some(every), DAY, Duration::from_secs(1)..=7 * DAY)))
            }
            (None, Some(cron)) => self.cron(self.host.hash(name), cron),
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
        let glob = |raw: &Option<At<String>>| raw.as_ref().and_then(|raw| self.negatable(raw));
        Match {
            namespace: glob(&raw.namespace),
            pod: glob(&raw.pod),
            container: glob(&raw.container),
            sandboxes: raw.sandboxes,
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
