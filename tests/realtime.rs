//! `--realtime`: the agent's own thread and its launcher go before others, and neither their helpers nor any command does.

use std::fs;
use std::process::Command;

use testbed::{Agent, Pod, WORKLOAD_IMAGE};

use crate::common::{self, Rig};

const CONFIGURATION: &str = "
probes:
  joined: { command: [cat, /proc/self/stat], isolation: joined, parse: none }
  observer: { command: [cat, /proc/self/stat], parse: none }
triggers:
  by-hand: { http: {}, probes: [joined, observer] }
";
/// SCHED_OTHER and SCHED_RR of sched(7).
const OTHER: &str = "0";
const RR: &str = "2";

/// Priority and policy, fields 40 and 41 of proc_pid_stat(5).
fn scheduled(stat: &str) -> (String, String) {
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[37].to_owned(), fields[38].to_owned())
}

async fn container(rig: &Rig) -> Pod {
    let pod = rig.bed.pod("shop", "cart-0").container("cart", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    pod.start().await.unwrap()
}

/// What the probe prints there.
async fn printed(agent: &Agent, pod: &Pod, probe: &str) -> String {
    let body = serde_json::json!({ "probe": probe, "target": { "id": pod.containers[0].id } });
    let answer = agent.post("/api/v1/run", &body.to_string()).await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    answer["stdout"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_and_launcher_go_first_and_no_command_does() {
    let rig = Rig::new().await;
    let pod = container(&rig).await;
    let agent = rig.agent_with(CONFIGURATION, &["--realtime"]).await;
    common::knows(&agent, std::slice::from_ref(&pod)).await;
    for probe in ["joined", "observer"] {
        let stat = printed(&agent, &pod, probe).await;
        assert_eq!(scheduled(&stat), ("0".to_owned(), OTHER.to_owned()), "{probe}: {stat}");
    }
    let tasks = common::family(agent.pid()).into_iter().flat_map(|pid| {
        fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().map(|entry| entry.path())
    });
    let told = |task: std::path::PathBuf| {
        let read = |name| fs::read_to_string(task.join(name)).ok();
        Some((read("comm")?.trim().to_owned(), scheduled(&read("stat")?).1))
    };
    let found: Vec<_> = tasks.filter_map(told).collect();
    for (name, policy) in &found {
        let goes_first = ["parachute", "parachute-launc"].contains(&name.as_str());
        assert_eq!(policy, if goes_first { RR } else { OTHER }, "{name}: {found:?}");
    }
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["parachute", "parachute-launc", "parachute-keep", "parachute-spawn"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    drop(pod);
    rig.finish(agent);
}

/// A unit's `LimitRTPRIO=1` is for agent and launcher. A root without CAP_SYS_RESOURCE cannot give it, as on some machines that
/// tests run on: there it is the class alone that the commands do not have.
#[tokio::test(flavor = "multi_thread")]
async fn no_command_inherits_the_right_to_it() {
    let rig = Rig::new().await;
    let pod = container(&rig).await;
    let words = "prlimit --pid $$ --rtprio=1\nexec \"$AGENT\" \"$@\" --realtime\n";
    let agent = rig.agent_by(&rig.script(words), &CONFIGURATION.replace("/stat]", "/limits]")).await;
    common::knows(&agent, std::slice::from_ref(&pod)).await;
    let priority = |limits: &str| -> Vec<String> {
        let line = limits.lines().find(|line| line.starts_with("Max realtime priority")).unwrap();
        line.split_whitespace().skip(3).take(2).map(str::to_owned).collect()
    };
    let own = priority(&fs::read_to_string(format!("/proc/{}/limits", agent.pid())).unwrap());
    println!("the agent's own: {own:?}");
    for probe in ["joined", "observer"] {
        let limits = printed(&agent, &pod, probe).await;
        assert_eq!(priority(&limits), ["0", "0"], "{probe}, of an agent with {own:?}");
    }
    drop(pod);
    rig.finish(agent);
}

#[test]
fn who_may_not_have_it_is_told_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("parachute.yml");
    fs::write(&configuration, "probes: { nothing: { command: ['true'], parse: none } }\n").unwrap();
    let said = Command::new("setpriv")
        .args([
            "--bounding-set",
            "-sys_nice",
            "prlimit",
            "--rtprio=0",
            env!("CARGO_BIN_EXE_parachute"),
            "agent",
        ])
        .args(["--realtime", "--web.allow-unauthenticated", "--web.listen-address", "127.0.0.1:0"])
        .arg("--config.file")
        .arg(&configuration)
        .arg("--run-directory")
        .arg(folder.path().join("run"))
        .arg("--storage.path")
        .arg(folder.path().join("storage"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{error}");
    assert!(
        error.contains("--realtime needs CAP_SYS_NICE") && error.contains("Operation not permitted"),
        "{error}"
    );
}
