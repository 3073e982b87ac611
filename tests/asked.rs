//! A run on request, over HTTP and from a shell: every status and every format, and what a command finds around itself.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use testbed::{Agent, WORKLOAD_IMAGE};

use crate::common::{self, Rig, SOON};

const CONFIGURATION: &str = r"
limits: { concurrent_runs: 1, queued_runs: 1 }
probes:
  listeners:
    command: [ss, -tlnH]
    parse: { regex: [{ name: asked_listeners, type: gauge, help: Listening TCP sockets., pattern: '^LISTEN' }] }
  files: { command: [ls, /proc/self/fd], parse: none }
  core: { command: [cat, /proc/self/limits], parse: none }
  environment: { command: [env], parse: none }
  fails: { command: ['false'], parse: none }
  escapes: { command: [setsid, --fork, sleep, '600'], parse: none }
  slow: { command: [bash, -c, 'setsid --fork sleep 600; sleep 600'], timeout: 2s, parse: none }
  secret: { command: [id], parse: none }
triggers:
  by-hand: { http: {}, probes: [listeners, files, core, environment, fails, escapes, slow] }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_request_answers_what_happened() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let pod = |name: &str| rig.bed.pod("shop", name);
    let workload = ["/workload", "listen", "2", "0"];
    let cart = pod("cart-0").container("main", WORKLOAD_IMAGE, &workload).start().await.unwrap();
    let other = pod("cart-1").container("main", WORKLOAD_IMAGE, &workload).start().await.unwrap();
    let init = cart.containers[0].pid;
    common::knows(&agent, &[cart, other]).await;

    let ok = run(&agent, "listeners").await;
    assert_eq!(ok["outcome"], "ok", "{ok}");
    assert_eq!(ok["families"][0]["samples"][0]["value"], 2.0, "{ok}");
    assert_eq!(ok["stdout"].as_str().unwrap().lines().count(), 2, "{ok}");
    let lines = |answer: &Value| -> Vec<String> {
        answer["stdout"].as_str().unwrap().lines().map(str::to_owned).collect()
    };
    // ls opens the folder that it lists: the fourth.
    assert_eq!(lines(&run(&agent, "files").await), ["0", "1", "2", "3"]);
    // One byte: too little for a file, and the one limit at which no handler is started.
    let limits = lines(&run(&agent, "core").await);
    let core = limits.iter().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["1", "1"], "{core}");
    let environment = lines(&run(&agent, "environment").await);
    assert!(environment.iter().all(|line| !line.starts_with("CARGO")), "{environment:?}");
    let fails = run(&agent, "fails").await;
    assert_eq!((&fails["outcome"], &fails["exit_status"]), (&json!("nonzero"), &json!(1)), "{fails}");

    // Nothing outlives a run, in a session of its own or not.
    for (probe, outcome) in [("escapes", "ok"), ("slow", "timeout")] {
        let answer = run(&agent, probe).await;
        assert_eq!(answer["outcome"], outcome, "{answer}");
        assert_eq!(common::processes_beside(init), ["workload"], "after {probe}");
    }

    let target = json!({ "pod": "cart-0", "container": "main" });
    for (status, body, says) in [
        (404, json!({ "probe": "nothing", "target": target }), "nothing"),
        (404, json!({ "probe": "secret", "target": target }), "secret"),
        (404, json!({ "probe": "files", "target": { "pod": "cart-2" } }), "no running container"),
        (409, json!({ "probe": "files", "target": { "namespace": "shop" } }), "cart-1"),
        (400, json!({ "probe": "files", "target": target, "command": ["sh"] }), "unknown field"),
        (400, json!({ "probe": "files" }), "missing field"),
        (400, json!({ "probe": "files", "target": {} }), "names neither"),
    ] {
        let answer = agent.post("/api/v1/run", &body.to_string()).await.unwrap();
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.body.contains(says), "{body}: {}", answer.body);
    }
    let answer = agent.post("/api/v1/run", &"x".repeat(1 << 20)).await;
    assert!(answer.as_ref().is_ok_and(|answer| answer.status == 413), "a body of 1 MiB: {answer:?}");

    // One runs and one waits: the third is refused.
    let body = json!({ "probe": "slow", "target": target }).to_string();
    let three = tokio::join!(
        agent.post("/api/v1/run", &body),
        agent.post("/api/v1/run", &body),
        agent.post("/api/v1/run", &body)
    );
    let mut three = [three.0.unwrap(), three.1.unwrap(), three.2.unwrap()];
    three.sort_by_key(|answer| answer.status);
    assert_eq!(three.each_ref().map(|answer| answer.status), [200, 200, 503]);
    assert!(three[2].head.to_lowercase().contains("retry-after: 1"), "{}", three[2].head);
    let samples = agent.scrape().await.unwrap();
    let refused = common::sum(&samples, "parachute_runs_refused_total", &[("reason", "queue_full")]);
    assert_eq!(refused, 1.0);
    rig.finish(agent);
}

async fn run(agent: &Agent, probe: &str) -> Value {
    let target = json!({ "namespace": "shop", "pod": "cart-0", "container": "main" });
    let body = json!({ "probe": probe, "target": target }).to_string();
    let answer = agent.post("/api/v1/run", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_needs_no_agent() {
    let rig = Rig::new().await;
    let configuration = rig.configuration(CONFIGURATION);
    let workload = ["/workload", "listen", "2", "0"];
    let pods = [rig.bed.pod("shop", "cart-0"), rig.bed.pod("shop", "cart-1")]
        .map(|pod| pod.container("main", WORKLOAD_IMAGE, &workload).start());
    futures_util::future::try_join_all(pods).await.unwrap();
    let parachute = |arguments: &[&str]| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parachute"));
        command.args(arguments).arg("--config.file").arg(&configuration).stdin(Stdio::null());
        command.output().unwrap()
    };
    let said = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();

    // The bed's lock keeps demos and other tests away from the usual address.
    let list = parachute(&["containers", "-o", "json"]);
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    let mains = list["containers"].as_array().unwrap().iter().filter(|c| c["container"] == "main").count();
    assert_eq!(mains, 2, "{list}");
    let table = said(&parachute(&["containers"]));
    assert!(table.lines().any(|line| line.contains("cart-0") && line.contains(WORKLOAD_IMAGE)), "{table}");

    // Port 9 (discard) is nobody's, and who names an agent does not want another answer.
    let named = parachute(&["containers", "--agent", "127.0.0.1:9"]);
    assert!(!named.status.success() && named.stdout.is_empty(), "{named:?}");

    let metrics = parachute(&["run", "listeners", "--container", "shop/cart-0/main"]);
    let text = said(&metrics);
    assert!(metrics.status.success(), "{metrics:?}");
    common::promtool(&text);
    let expected = r#"asked_listeners{namespace="shop",pod="cart-0",container="main"} 2"#;
    assert!(text.lines().any(|line| line == expected), "{text}");
    let json = parachute(&["run", "listeners", "--container", "cart-0/main", "-o", "json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["outcome"], "ok", "{json}");
    let raw = said(&parachute(&["run", "files", "--container", "cart-1/main", "-o", "raw"]));
    assert_eq!(raw, "0\n1\n2\n3\n");
    for (arguments, says) in [
        (["run", "files", "--container", "main"], "shop/cart-1/main"),
        (["run", "files", "--container", "cart-2/main"], "no container cart-2/main"),
        (["run", "nothing", "--container", "main"], "no probe named nothing"),
        (["run", "fails", "--container", "cart-0/main"], "nonzero"),
    ] {
        let output = parachute(&arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains(says), "{arguments:?}: {error}");
    }
    rig.finish_alone();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_what_is_right_and_nothing_else() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let pod = rig.bed.pod("shop", "cart-0").container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    common::knows(&agent, &[pod.start().await.unwrap()]).await;
    let successful = async |wanted: f64| {
        common::eventually("the reload is over", SOON, async || {
            let samples = agent.scrape().await.unwrap();
            let now = common::sum(&samples, "parachute_config_last_reload_successful", &[]);
            if now == wanted { Ok(()) } else { Err(format!("it is {now}")) }
        })
        .await;
    };
    let schedule = "  often: { schedule: { every: 1s }, probes: [listeners] }\n";
    rig.configuration(&(CONFIGURATION.to_owned() + schedule + "wrong: true\n"));
    agent.hang_up().unwrap();
    successful(0.0).await;
    assert_eq!(run(&agent, "listeners").await["outcome"], "ok", "the old configuration stays");
    rig.configuration(&(CONFIGURATION.to_owned() + schedule));
    agent.hang_up().unwrap();
    successful(1.0).await;
    common::eventually("the new schedule runs", SOON, async || {
        let samples = agent.scrape().await.unwrap();
        let runs = common::sum(&samples, "parachute_probe_runs_total", &[("trigger", "often")]);
        if runs >= 2.0 { Ok(()) } else { Err(format!("{runs} runs")) }
    })
    .await;
    // Without --web.enable-lifecycle.
    assert_eq!(agent.post("/-/reload", "").await.unwrap().status, 403);
    rig.finish(agent);
}
