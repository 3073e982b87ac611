//! When a scheduled trigger is due next. A late wake-up (a stall, a suspended machine) gives one run, never a burst.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Trigger, When, node_hash};
use crate::model::TriggerName;

/// A cron expression that can never match is looked at again after this.
const NEVER: Duration = Duration::from_hours(24);

/// A cron expression names minutes; within its minute every node has a place of its own.
const CRON_STEP: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Schedule {
    trigger: TriggerName,
    rule: Rule,
    next: Instant,
}

#[derive(Debug)]
enum Rule {
    Every(Duration),
    /// The expression, and this node's place in its minute.
    Cron(Box<cronexpr::Crontab>, Duration),
}

impl Schedule {
    /// `None` for a trigger that has no schedule.
    pub(super) fn of(trigger: &Trigger, node: &str) -> Option<Self> {
        let now = Instant::now();
        let (rule, next) = match &trigger.when {
            When::Every(every) => (Rule::Every(*every), now + offset(node, &trigger.name, *every)),
            When::Cron(crontab) => {
                let within = offset(node, &trigger.name, CRON_STEP);
                let rule = Rule::Cron(Box::new(crontab.clone()), within);
                let next = rule.after(now, now);
                (rule, next)
            }
            When::ContainerStart { .. } | When::Http | When::Alert(_) => return None,
        };
        Some(Self { trigger: trigger.name.clone(), rule, next })
    }

    /// The same trigger with the same period.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let same_rule = match (&self.rule, &other.rule) {
            (Rule::Every(one), Rule::Every(another)) => one == another,
            // Bound to the clock on the wall: a new one has the same turns.
            _ => false,
        };
        self.trigger == other.trigger && same_rule
    }

    pub(super) fn trigger(&self) -> &TriggerName {
        &self.trigger
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Moves on after having fired at `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        self.next = self.rule.after(self.next, now);
    }
}

impl Rule {
    fn after(&self, last: Instant, now: Instant) -> Instant {
        match self {
            // In step with the last due time, so that it does not drift; or from now if that has been missed too.
            Self::Every(every) => (last + *every).max(now),
            Self::Cron(crontab, within) => {
                // Asked from this node's place in the present minute, so that its turn there still counts.
                let wall = jiff::Timestamp::now();
                let next = jiff::SignedDuration::try_from(*within).ok().and_then(|within| {
                    let next = crontab.find_next(wall.checked_sub(within).ok()?).ok()?;
                    next.timestamp().checked_add(within).ok()
                });
                let wait = next.and_then(|next| Duration::try_from(next.duration_since(wall)).ok());
                now + wait.unwrap_or(NEVER)
            }
        }
    }
}

/// Where in its period this node starts: the same on every start of one node, spread evenly over the nodes.
fn offset(node: &str, trigger: &TriggerName, every: Duration) -> Duration {
    let place = node_hash(node, trigger.as_str());
    every.mul_f64(place as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_spread_over_the_period_and_stay_where_they_are() {
        let every = Duration::from_secs(30);
        let trigger = TriggerName::new("steady");
        let at = |node: usize| offset(&format!("node-{node}"), &trigger, every);
        let mut in_third = [0; 3];
        for node in 0..3000 {
            assert!(at(node) <= every && at(node) == at(node));
            in_third[(at(node).as_secs() / 10).min(2) as usize] += 1;
        }
        assert!(in_third.iter().all(|nodes| (900..1100).contains(nodes)), "{in_third:?}");
    }

    #[test]
    fn a_stall_gives_one_run_and_no_drift() {
        let every = Duration::from_secs(10);
        let rule = Rule::Every(every);
        let start = Instant::now();
        assert_eq!(rule.after(start, start + Duration::from_millis(5)), start + every);
        let late = start + Duration::from_hours(1);
        assert_eq!(rule.after(start, late), late, "an hour missed is one run at once");
        assert_eq!(rule.after(late, late), late + every);
    }

    #[test]
    fn cron_is_due_within_its_period() {
        let crontab = cronexpr::parse_crontab("* * * * * UTC").unwrap();
        let now = Instant::now();
        let next = Rule::Cron(Box::new(crontab), Duration::from_secs(7)).after(now, now);
        assert!(next > now && next <= now + Duration::from_mins(1));
    }
}
