//! Where the dashboards' links lead, and what the runbooks tell people to type.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use testbed::{Agent, Prometheus};

use super::ROOT;
use crate::common::Rig;

/// The pages of the agent that `${scheme}://${__data.fields.instance}/…` leads to.
pub(super) async fn links_lead_somewhere(agent: &Agent, prometheus: &Prometheus) {
    let queries = [
        ("id", "containers", "parachute_container_info{namespace=\"shop\", pod=\"cart-0\", container=\"cart\"}"),
        ("capture", "captures", "parachute_capture_last_timestamp_seconds{alert=\"ParachutePodDnsFailing\"}"),
    ];
    for (label, folder, query) in queries {
        for series in prometheus.query(query).await.unwrap() {
            let labels = &series["metric"];
            assert_eq!(labels["instance"], agent.address().to_string(), "{labels}");
            let page = agent.get(&format!("/{folder}/{}", labels[label].as_str().unwrap())).await.unwrap();
            assert_eq!(page.status, 200, "{labels}: {}", page.body);
            assert!(page.body.contains("cart-0"), "{}", page.body);
        }
    }
}

/// Every line `# parachute …` and `# curl …` of every runbook, as it stands there but for where this agent is. What asks systemd,
/// the kernel's log or a cluster is another program's.
pub(super) fn runbooks_commands_run(rig: &Rig, agent: &Agent) {
    let mut commands = BTreeSet::new();
    for page in fs::read_dir(format!("{ROOT}/docs/runbooks")).unwrap() {
        let text = fs::read_to_string(page.unwrap().path()).unwrap();
        let block = text.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
        commands.extend(block.lines().map(|line| line.strip_prefix("# ").unwrap().to_owned()));
    }
    let mut run = 0;
    for line in commands {
        let Some(program) = line.split(' ').next().filter(|name| ["parachute", "curl"].contains(name)) else {
            continue;
        };
        let run_directory = agent.run_directory().to_str().unwrap();
        let line = line.replace("/run/parachute", run_directory);
        let file = rig.path("parachute.yml");
        let mut words: Vec<&str> = line.split(' ').skip(1).collect();
        let mut command = Command::new(if program == "curl" { "curl" } else { env!("CARGO_BIN_EXE_parachute") });
        match words[0] {
            "check-config" => words[1] = file.to_str().unwrap(),
            "run" | "doctor" => words.extend(["--config.file", file.to_str().unwrap()]),
            _ => {}
        }
        if program == "curl" {
            words.push("--fail-with-body");
        }
        command.env("PARACHUTE_RUN_DIRECTORY", run_directory);
        command.env("PARACHUTE_STORAGE_PATH", agent.run_directory().join("storage"));
        let output = command.args(&words).output().unwrap();
        // A doctor who finds something says so with his status.
        let fine = output.status.success() || words[0] == "doctor" && output.status.code() == Some(1);
        assert!(fine && !output.stdout.is_empty(), "{line}: {output:?}");
        run += 1;
    }
    assert!(run > 20, "{run} commands");
}
