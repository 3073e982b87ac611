//! `parachute doctor`: everything that a person pastes into an issue, in both formats, and nothing left behind.

use std::process::Command;

use parachute::model::Capability;

use crate::common::{self, Rig};

const CONFIGURATION: &str = r"
probes:
  same: { command: [cat, /proc/1/comm], parse: none }
  itself: { command: [ps, -e], parse: none }
  rows: { shell: 'ps -e | wc -l', parse: { regex: [{ name: doctor_rows, type: gauge, help: Lines., pattern: '(?P<n>[0-9]+)', value: n }] } }
  traced: { command: [readlink, /proc/self/ns/pid], isolation: joined, parse: none }
";

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_works_and_what_differs() {
    let rig = Rig::new().await;
    let path = rig.configuration(CONFIGURATION);
    let ask = |format: &str, path: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parachute"));
        command.args(["doctor", "-o", format, "--config.file"]).arg(path).output().unwrap()
    };
    let text = ask("text", &path);
    let said = String::from_utf8(text.stdout).unwrap();
    println!("{said}");
    assert!(text.status.success(), "{said}");
    for part in [
        "kernel",
        "capabilities",
        "BTF",
        "exec hook",
        "cgroups",
        "device rule",
        "LSMs",
        "runtimes",
        "ways in",
        "observer",
        "difference",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let json = ask("json", &path);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let probe = |name: &str| report["probes"].as_array().unwrap().iter().find(|p| p["name"] == name).unwrap();
    assert_eq!(
        (&probe("same")["verdict"], &probe("same")["differences"]),
        (&"ok".into(), &serde_json::json!([]))
    );
    // ps sees itself where it is a process of the container.
    assert_eq!(probe("itself")["differences"], serde_json::json!(["lines 2 / 3"]));
    assert_eq!((&probe("rows")["observer"]["series"], &probe("rows")["verdict"]), (&1.into(), &"ok".into()));
    assert_eq!(probe("traced")["isolation"], "joined");

    assert!(common::run_cgroups().is_empty());
    // What the doctor has tried, the agent tells as well.
    let agent = rig.agent(common::ONE_PROBE).await;
    let samples = agent.scrape().await.unwrap();
    let tried = report["capabilities"].as_array().unwrap();
    let told = common::select(&samples, "parachute_kernel_capability", &[]).count();
    assert_eq!((tried.len(), told), (Capability::ALL.len(), Capability::ALL.len()), "{report:#}");
    for one in tried {
        let name = one["name"].as_str().unwrap();
        let value = common::sum(&samples, "parachute_kernel_capability", &[("capability", name)]);
        assert_eq!(value == 1.0, one["present"].as_bool().unwrap(), "{one}");
        assert_eq!(said.contains(&format!("- lacking      {name}:")), one["present"] == false, "{said}");
    }

    // A runtime that is named and asked, and one that is gone.
    let runtimes =
        |socket: &std::path::Path| format!("runtimes: [{{cri: {}}}]\n{CONFIGURATION}", socket.display());
    let line = |path: &std::path::Path| {
        let said = String::from_utf8(ask("text", path).stdout).unwrap();
        said.lines().find(|line| line.contains("runtimes")).unwrap_or_default().to_owned()
    };
    std::fs::write(&path, runtimes(&rig.bed.socket())).unwrap();
    let there = line(&path);
    assert!(there.starts_with("ok") && there.ends_with("answers: 0 containers"), "{there}");
    std::fs::write(&path, runtimes(&rig.path("gone.sock"))).unwrap();
    let gone = line(&path);
    assert!(gone.starts_with("warn") && gone.contains("gone.sock"), "{gone}");

    std::fs::write(&path, CONFIGURATION.replace("cat,", "catt,")).unwrap();
    let broken = ask("text", &path);
    let said = String::from_utf8(broken.stdout).unwrap();
    assert_eq!(broken.status.code(), Some(1), "{said}");
    assert!(said.contains("FAIL  configuration") && said.contains("catt"), "{said}");
    rig.finish(agent);
}
