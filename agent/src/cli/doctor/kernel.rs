//! What this kernel has of all that the agent could use, found by trying: a line for each that is lacking, with what that costs.

use serde::Serialize;

use super::{Check, Verdict};
use crate::model::{Capability, Without};
use crate::{detect, enter};

/// What was tried.
#[derive(Debug)]
pub(super) struct Kernel {
    lacks: Vec<Capability>,
    /// Why what runs need could not be tried.
    untried: Option<String>,
}

/// One line of the report in JSON.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Tried {
    name: Capability,
    present: bool,
    used: &'static str,
    usual_since: &'static str,
    /// What happens without it.
    without: &'static str,
}

impl Kernel {
    pub(super) fn try_all() -> Self {
        let (mut lacks, untried) = match enter::capabilities::lacking() {
            Ok(lacks) => (lacks, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        lacks.extend(detect::lacking());
        Self { lacks, untried }
    }

    pub(super) fn lacks(&self, capability: Capability) -> bool {
        self.lacks.contains(&capability)
    }

    pub(super) fn tried(&self) -> Vec<Tried> {
        let tried = |name: Capability| {
            let about = name.about();
            let (used, usual_since, without) = (about.used, about.since, about.without.as_str());
            Tried { name, present: !self.lacks(name), used, usual_since, without }
        };
        if self.untried.is_some() { Vec::new() } else { Capability::ALL.into_iter().map(tried).collect() }
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        if let Some(reason) = &self.untried {
            return vec![Check::new("capabilities", Verdict::Fail, format!("cannot be tried: {reason}"))];
        }
        let (all, lacking) = (Capability::ALL.len(), self.lacks.len());
        let counted = match lacking {
            0 => format!("all {all} that the agent could use are there, as was tried"),
            _ => format!(
                "{} of {all} that the agent could use are there, as was tried; without:",
                all - lacking
            ),
        };
        let mut checks = vec![Check::new("capabilities", Verdict::Ok, counted)];
        checks.extend(Capability::ALL.into_iter().filter(|it| self.lacks(*it)).map(line));
        checks
    }
}

fn line(capability: Capability) -> Check {
    let about = capability.about();
    let verdict = match about.without {
        Without::Instead(_) => Verdict::Ok,
        Without::Worse(_) => Verdict::Warn,
        Without::Stops => Verdict::Fail,
    };
    let found = format!(
        "{}: {}: {}; usually there from Linux {}",
        about.name,
        about.used,
        about.without.as_str(),
        about.since
    );
    Check::new("- lacking", verdict, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_that_is_lacking_has_a_line_of_its_own_and_the_others_are_counted() {
        let all = Kernel { lacks: Vec::new(), untried: None }.checks();
        assert_eq!(all.len(), 1);
        assert!(all[0].found.starts_with("all 23 "), "{}", all[0].found);

        let lacks = vec![Capability::SeccompListener, Capability::CgroupKill, Capability::Openat2];
        let kernel = Kernel { lacks, untried: None };
        let said: Vec<_> = kernel.checks().into_iter().map(|check| (check.verdict, check.found)).collect();
        assert_eq!(said.len(), 4);
        assert!(said[0].1.starts_with("20 of 23 "), "{said:?}");
        assert_eq!(said[1].0, Verdict::Ok);
        assert_eq!(
            said[1].1,
            "cgroup_kill: `cgroup.kill`: ends all of a run at once: the cgroup's processes are killed one by one, until it \
             is empty; usually there from Linux 5.14"
        );
        assert_eq!((said[2].0, said[3].0), (Verdict::Fail, Verdict::Warn));
        let present: Vec<_> = kernel.tried().into_iter().filter(|it| !it.present).map(|it| it.name).collect();
        assert_eq!(present, [Capability::CgroupKill, Capability::Openat2, Capability::SeccompListener]);
    }

    #[test]
    fn what_could_not_be_tried_is_not_told_as_there() {
        let kernel = Kernel { lacks: Vec::new(), untried: Some("no cgroup hierarchy".into()) };
        assert_eq!((kernel.checks()[0].verdict, kernel.tried().len()), (Verdict::Fail, 0));
    }
}
