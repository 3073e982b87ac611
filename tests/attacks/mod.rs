//! The attack suite: hostile programs in real containers of every kind, against every way in. Each test's comment says which
//! attack it is and what the kernel's rule is; the numbers are those of the list of requirements, see docs/security.md.

mod bounds;
mod cores;
mod devices;
mod disk;
mod door;
mod exposition;
mod faults;
mod inside;
mod lies;
mod names;
mod owners;
mod pids;
mod sight;
mod terminal;
mod traces;
mod traps;

use std::time::Duration;

use serde_json::{Value, json};
use testbed::{Agent, Kind, PodContainer, UserContainer, WORKLOAD_IMAGE};

use crate::common::{self, Rig, SOON};

/// One container with what runs in it.
pub(crate) struct Held {
    pub(crate) kind: Kind,
    pub(crate) container: PodContainer,
    pod: Option<testbed::Pod>,
    /// Ends the container when it is dropped.
    _user: Option<UserContainer>,
}

impl Held {
    pub(crate) async fn start(rig: &Rig, kind: Kind, name: &str, command: &[&str]) -> Self {
        if kind == Kind::User {
            let user = rig.bed.user_container(command).unwrap();
            return Self { kind, container: user.container.clone(), pod: None, _user: Some(user) };
        }
        let pod = rig.bed.pod("attack", name).kind(kind).container("main", WORKLOAD_IMAGE, command);
        let pod = pod.start().await.unwrap();
        Self { kind, container: pod.containers[0].clone(), pod: Some(pod), _user: None }
    }

    /// One of each of these kinds.
    pub(crate) async fn all(rig: &Rig, kinds: &[Kind], command: &[&str]) -> Vec<Self> {
        let mut held = Vec::new();
        for kind in kinds {
            held.push(Self::start(rig, *kind, &format!("{kind}-0"), command).await);
        }
        held
    }

    /// Waits until the agent lists the container, then runs the probe in it.
    pub(crate) async fn run(&self, agent: &Agent, probe: &str) -> Value {
        let target = json!({ "id": self.container.id });
        let body = json!({ "probe": probe, "target": target }).to_string();
        common::eventually("the agent knows the container", SOON, async || {
            let answer = agent.post("/api/v1/run", &body).await.unwrap();
            match answer.status {
                200 => Ok(serde_json::from_str(&answer.body).unwrap()),
                404 => Err(answer.body),
                other => panic!("{other}: {}", answer.body),
            }
        })
        .await
    }

    /// A file as the container has it.
    pub(crate) fn file(&self, path: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/root{path}", self.container.pid)).unwrap_or_default()
    }

    /// Stops and removes the container with its pod.
    pub(crate) async fn remove(self) {
        if let Some(pod) = self.pod {
            pod.remove().await.unwrap();
        }
    }
}

/// What the hunter in a container has written, once it has looked around several times more.
pub(crate) async fn hunted(held: &Held) -> Vec<String> {
    let loops = || held.file("/out").matches("loops").count();
    let before = loops();
    common::eventually("the hunter goes on", SOON, async || {
        if loops() >= before + 4 { Ok(()) } else { Err(format!("{}: {}", held.kind, held.file("/out"))) }
    })
    .await;
    held.file("/out").lines().filter(|line| !line.contains("loops")).map(str::to_owned).collect()
}

/// Says what was tried where and did not work: the figures in the README and in docs/security.md are counted from these lines.
pub(crate) fn tried(attack: &str, kinds: &[Kind]) {
    let names: Vec<_> = kinds.iter().map(Kind::to_string).collect();
    println!("tried: {attack}: {} kinds of container, 0 hits: {}", kinds.len(), names.join(" "));
}

/// More of a trigger: joins what could take the command over.
pub(crate) const ALLOWED: &str = ", allow_unsafe_joined: true";

/// A configuration in which each probe may be run by hand; `trigger` is more of that trigger.
pub(crate) fn by_hand(probes: &[(&str, &str)], trigger: &str) -> String {
    let mut text = "limits: { concurrent_runs: 8 }\nprobes:\n".to_owned();
    for (name, probe) in probes {
        text.extend(["  ", name, ": { parse: none, ", probe, " }\n"]);
    }
    let names: Vec<_> = probes.iter().map(|(name, _)| *name).collect();
    text + &format!("triggers:\n  by-hand: {{ http: {{}}, probes: [{}]{trigger} }}\n", names.join(", "))
}

pub(crate) fn stdout(answer: &Value) -> &str {
    answer["stdout"].as_str().expect("an answer with an output")
}

/// KiB, of `proc_pid_status(5)`.
pub(crate) fn memory(agent: &Agent, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim();
    line.trim_end_matches(" kB").parse().unwrap()
}

/// A moment in which an attacker that can do something would.
pub(crate) const MOMENT: Duration = Duration::from_secs(2);
