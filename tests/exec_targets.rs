//! Which container `parachute exec` means, with an agent, without one and without a runtime; many at once; what is refused;
//! the examples of its help.

use std::process::{Command, Output, Stdio};

use testbed::{Agent, Pod, WORKLOAD_IMAGE};

use crate::common::{self, ONE_PROBE, Rig};
use crate::exec_complete;

async fn pod(rig: &Rig, name: &str, containers: &[&str]) -> Pod {
    let pod = containers.iter().fold(rig.bed.pod("shop", name), |pod, name| {
        pod.container(name, WORKLOAD_IMAGE, &["/workload", "sleep"])
    });
    pod.start().await.unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_target_and_many_at_once() {
    let rig = Rig::new().await;
    let agent = rig.agent(ONE_PROBE).await;
    let pods = [pod(&rig, "cart-0", &["web", "cart"]).await, pod(&rig, "cart-1", &["cart"]).await];
    common::knows(&agent, &pods).await;
    let web = pods[0].container("web").unwrap();
    let namespace = std::fs::read_link(format!("/proc/{}/ns/pid", web.pid)).unwrap();
    let pid = web.pid.to_string();
    let with_agent = |words: &[&str]| common::exec(&agent, words).output().unwrap();
    let configuration = rig.configuration(ONE_PROBE);
    let without = |configuration: &std::path::Path, words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parachute"));
        command.arg("exec").arg("--config.file").arg(configuration).args(words).stdin(Stdio::null());
        command.env("PARACHUTE_RUN_DIRECTORY", "/no/such/folder").output().unwrap()
    };
    let ask = ["readlink", "/proc/self/ns/pid"];
    for target in [&["web"][..], &["cart-0/web"], &["shop/cart-0/web"], &[&web.id[..12]], &["--pid", &pid]] {
        let words = [target, &ask].concat();
        for output in [with_agent(&words), without(&configuration, &words)] {
            let got = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            assert_eq!(got, namespace.to_string_lossy(), "{target:?}: {}", said(&output));
        }
    }

    // Nothing is run unless it is clear where.
    let marker = rig.path("marker");
    let touch = ["touch", marker.to_str().unwrap()];
    for (target, parts) in [
        ("cart", &["one of 2", "CONTAINER ID", "cart-0", "cart-1"][..]),
        ("shop/cart-0", &["no container"]),
        ("crat", &["Near to it", "shop/cart-0/cart"]),
        ("cart-9/cart", &["Near to it", "shop/cart-0/cart"]),
    ] {
        let words = [&[target], &touch[..]].concat();
        for output in [with_agent(&words), without(&configuration, &words)] {
            let told = said(&output);
            assert_eq!(output.status.code(), Some(125), "{told}");
            assert!(parts.iter().all(|part| told.contains(part)), "{target}: {told}");
        }
    }
    assert!(!marker.exists());

    // With no runtime at all ids and pids do, and it is told where a runtime was looked for.
    let lonely = rig.path("lonely.yml");
    let text = format!("runtimes: [{{cri: /no/such/runtime.sock}}]\n{ONE_PROBE}");
    std::fs::write(&lonely, text).unwrap();
    for target in [&[&web.id[..12]][..], &["--pid", &pid]] {
        let output = without(&lonely, &[target, &ask].concat());
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            namespace.to_string_lossy(),
            "{}",
            said(&output)
        );
    }
    let told = said(&without(&lonely, &["no-such-name", "true"]));
    assert!(told.contains("/no/such/runtime.sock") && told.contains("--pid"), "{told}");

    many(&agent);
    listed(&agent, web.pid);
    help(&agent);
    exec_complete::names_complete(&agent);
    exec_complete::a_hung_agent_is_not_waited_for();
    exec_complete::man_pages(&agent);
    rig.finish(agent);
}

fn many(agent: &Agent) {
    let all = |words: &[&str]| common::exec(agent, &[&["--all"], words].concat()).output().unwrap();
    let output = all(&[
        "--selector",
        "namespace=shop,container=cart",
        "sh",
        "-c",
        "echo one; echo two >&2; echo three",
    ]);
    assert!(output.status.success(), "{output:?}");
    let mut lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    let expected =
        ["cart-0", "cart-1"].map(|pod| ["one", "three"].map(|word| format!("shop/{pod}/cart | {word}")));
    assert_eq!(lines, expected.concat());
    let told = said(&output);
    assert!(
        told.contains("shop/cart-1/cart | two\n") && told.ends_with("2 containers: 2 ok, 0 failed\n"),
        "{told}"
    );

    // All three, of which those of one pod fail; the pod's address tells them apart.
    let output = all(&["sh", "-c", "test $(ps -e -o pid= | wc -l) -lt 0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("3 containers: 0 ok, 3 failed\n  shop/cart-0/cart: exit status 1\n"),
        "{output:?}"
    );

    let output = all(&["-l", "container=c*", "-o", "json", "printf", "\\377x"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["summary"], serde_json::json!({ "matched": 2, "ok": 2, "failed": 0 }));
    assert_eq!(document["runs"][0]["stdout_base64"], "/3g=");
    assert_eq!(
        (&document["runs"][1]["pod"], &document["runs"][1]["exit_status"]),
        (&"cart-1".into(), &0.into())
    );

    for (selector, part) in [("namespace=none", "no container matches"), ("app=x", "none of namespace")] {
        let output = all(&["-l", selector, "true"]);
        assert!(output.status.code() == Some(125) && said(&output).contains(part), "{output:?}");
    }
}

fn listed(agent: &Agent, pid: i32) {
    let ps = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_parachute"))
            .arg("ps")
            .args(words)
            .env("PARACHUTE_RUN_DIRECTORY", agent.run_directory())
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(ps(&["-o", "name"]), "shop/cart-0/cart\nshop/cart-0/web\nshop/cart-1/cart\n");
    let table = ps(&[]);
    let head: Vec<_> =
        table.lines().next().unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!(head, ["CONTAINER ID", "NAME", "POD", "NAMESPACE", "IMAGE", "RUNTIME", "PID", "AGE"]);
    let web: Vec<_> = table.lines().find(|line| line.contains("web")).unwrap().split_whitespace().collect();
    assert_eq!(web[1..7], ["web", "cart-0", "shop", WORKLOAD_IMAGE, "containerd", &pid.to_string()]);
    assert!(web[7].ends_with('s') || web[7].ends_with('m'), "{table}");
    assert_eq!((table.lines().count(), ps(&["-a"]).lines().count()), (4, 6), "two sandboxes");
    assert!(ps(&["-o", "wide"]).lines().next().unwrap().contains("CGROUP"));
    let json: serde_json::Value = serde_json::from_str(&ps(&["-o", "json"])).unwrap();
    assert_eq!(json["containers"].as_array().unwrap().len(), 5);
}

/// Every example in the help is run as it stands there.
fn help(agent: &Agent) {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_parachute"));
    let help = Command::new(program).args(["exec", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let examples: Vec<_> = help.lines().filter_map(|line| line.strip_prefix("  parachute exec ")).collect();
    assert!(examples.len() >= 8, "{help}");
    for example in examples {
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash")
            .args(["-c", &format!("parachute exec {example}")])
            .env("PATH", path)
            .env("PARACHUTE_RUN_DIRECTORY", agent.run_directory())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{example}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_could_take_the_command_over_is_refused() {
    let rig = Rig::new().await;
    let agent = rig.agent(ONE_PROBE).await;
    let sleep = ["/workload", "sleep"];
    let traced =
        rig.bed.pod("shop", "traced").capability("SYS_PTRACE").container("traced", WORKLOAD_IMAGE, &sleep);
    let admin =
        rig.bed.pod("shop", "admin").capability("SYS_ADMIN").container("admin", WORKLOAD_IMAGE, &sleep);
    let lord = rig.bed.pod("shop", "lord").privileged().container("lord", WORKLOAD_IMAGE, &sleep);
    let pods = [traced.start().await.unwrap(), admin.start().await.unwrap(), lord.start().await.unwrap()];
    common::knows(&agent, &pods).await;
    for (name, part) in [("traced", "has SYS_PTRACE"), ("admin", "has SYS_ADMIN"), ("lord", "is privileged")]
    {
        let refused = common::exec(&agent, &[name, "true"]).output().unwrap();
        let told = said(&refused);
        assert_eq!(refused.status.code(), Some(125), "{told}");
        assert!(told.contains(part) && told.contains("--allow-unsafe-target"), "{told}");
        let allowed = common::exec(&agent, &["--allow-unsafe-target", name, "true"]).output().unwrap();
        assert!(allowed.status.success(), "{allowed:?}");
    }

    // Not the container itself, but a process beside it in its pid namespace, as `kubectl debug` makes it.
    let plain = pod(&rig, "plain", &["plain"]).await;
    common::knows(&agent, std::slice::from_ref(&plain)).await;
    let pid = plain.containers[0].pid.to_string();
    // As it is, and as one that has dropped from its bounding set what it keeps by its inheritable set (capabilities(7)).
    let kept = ["setpriv", "--inh-caps=+sys_ptrace,+sys_admin"];
    let dropped = ["setpriv", "--bounding-set=-sys_ptrace,-sys_admin,-perfmon"];
    for before in [[].as_slice(), &[kept, dropped].concat()] {
        let mut neighbour = Command::new("nsenter")
            .args(["-t", &pid, "-p"])
            .args(before)
            .args(["sleep", "1000"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        common::eventually("the neighbour is there", common::SOON, async || {
            let beside = common::processes_beside(plain.containers[0].pid);
            if beside.contains(&"sleep".to_owned()) { Ok(()) } else { Err(format!("{beside:?}")) }
        })
        .await;
        let refused = common::exec(&agent, &["plain", "true"]).output().unwrap();
        let told = said(&refused);
        assert!(
            refused.status.code() == Some(125) && told.contains("of the container's pid namespace has"),
            "{before:?}: {told}"
        );
        // The child of nsenter, which is in the container.
        Command::new("pkill").args(["-KILL", "-P", &neighbour.id().to_string()]).status().unwrap();
        neighbour.wait().unwrap();
        assert!(common::exec(&agent, &["plain", "true"]).status().unwrap().success());
    }
    rig.finish(agent);
}
