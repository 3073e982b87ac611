//! What agents tell each other when one passes alerts on to the others.

use std::fmt;
use std::sync::Arc;

/// Request header of alerts that an agent has passed on: `NODE/ID` of that agent. It gives no rights; what has it is never
/// passed on again, whatever it says.
pub const FORWARDED_BY: &str = "parachute-forwarded-by";
/// Header of the answer to such a request: `NODE/ID` of who answers, by which an agent knows itself.
pub const INSTANCE: &str = "parachute-instance";

/// Of a node's name, in a header.
const NODE: usize = 100;

/// One agent, from its start to its end: two on one node, and one before and after a restart, are two.
#[derive(Clone, PartialEq, Eq)]
pub struct Instance(Arc<str>);

impl Instance {
    pub fn fresh(node: &str) -> Self {
        let id = super::RunId::fresh();
        let plain = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
        let node: String = node.chars().filter(plain).take(NODE).collect();
        Self(format!("{node}/{id}-{}", std::process::id()).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Alerts that are passed on together: a webhook's body.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub body: Arc<str>,
    /// How many are in it.
    pub alerts: usize,
}

/// What came of a parcel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Other agents behind the service, when it was last looked at.
    pub peers: usize,
    /// Those that have taken the parcel.
    pub answered: usize,
    /// Of each alert, those that have a container that it means.
    pub took: Vec<usize>,
    /// Those that have not taken it, and why; the first ones.
    pub failures: Vec<String>,
    /// Why nobody could be asked.
    pub error: Option<String>,
    /// Some do not take it as it is, and may take its alerts apart from one another.
    pub spoiled: bool,
}

impl Delivery {
    pub fn failed(why: impl fmt::Display) -> Self {
        Self { error: Some(why.to_string()), ..Self::default() }
    }

    /// The word for one of its alerts; one of [`Self::OUTCOMES`].
    pub fn outcome(&self, alert: usize) -> &'static str {
        let took = self.took.get(alert).is_some_and(|peers| *peers > 0);
        match (took, self.error.is_some() || self.answered < self.peers) {
            (true, _) => "taken",
            (false, true) if self.answered > 0 => "unknown",
            (false, true) => "failed",
            (false, false) if self.peers == 0 => "no_peers",
            (false, false) => "nowhere",
        }
    }

    /// A peer has a container that the alert means; all were asked and none has; some were not reached, and the others have
    /// none; nobody was reached; there is nobody else.
    pub const OUTCOMES: [&str; 5] = ["taken", "nowhere", "unknown", "failed", "no_peers"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_header_and_is_like_no_other() {
        let one = Instance::fresh("nöde 1\r\nx: y");
        assert!(one.as_str().starts_with("nde1xy/") && one.as_str().is_ascii(), "{one:?}");
        assert_ne!(one, Instance::fresh("nöde 1\r\nx: y"));
    }

    #[test]
    fn outcomes() {
        for (peers, answered, took, error, outcome) in [
            (3, 3, 1, None, "taken"),
            (3, 1, 1, None, "taken"),
            (3, 3, 0, None, "nowhere"),
            (3, 2, 0, None, "unknown"),
            (3, 0, 0, None, "failed"),
            (0, 0, 0, Some("no name server"), "failed"),
            (0, 0, 0, None, "no_peers"),
        ] {
            let error = error.map(str::to_owned);
            let delivery = Delivery { peers, answered, took: vec![took], error, ..Delivery::default() };
            assert_eq!(delivery.outcome(0), outcome, "{delivery:?}");
            assert!(Delivery::OUTCOMES.contains(&outcome));
        }
    }
}
