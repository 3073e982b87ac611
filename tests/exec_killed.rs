//! However `parachute exec` ends, nothing of the command stays: not in the container, not on the host.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testbed::{Agent, Pod, WORKLOAD_IMAGE};

use crate::common::{self, ONE_PROBE, Rig, SOON};

const SCRIPT: &str = "setsid sleep 1000 & sleep 1000 & (sleep 0.01 &) ; echo ready; wait";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_killed_exec_stays() {
    let rig = Rig::new().await;
    let mut agent = rig.agent(ONE_PROBE).await;
    let pods = [started(&rig, "web-0").await, started(&rig, "web-1").await];
    common::knows(&agent, &pods).await;
    let mounts = common::mounts();
    for round in 0..5 {
        for signal in ["-TERM", "-HUP", "-KILL", "-KILL group"] {
            let mut child = running(&agent, "web-0/web");
            let pid = child.id().to_string();
            let target = if signal.ends_with("group") { format!("-{pid}") } else { pid };
            let name = signal.split(' ').next().unwrap();
            assert!(Command::new("kill").args([name, "--", &target]).status().unwrap().success());
            child.wait().unwrap();
            nothing_left(&pods[0], &format!("round {round}, {signal}")).await;
        }
    }
    assert_eq!(common::mounts(), mounts);

    // The guard is killed: the command goes with it, and the foreground says so.
    let mut child = running(&agent, "web-0/web");
    assert!(Command::new("pkill").args(["-KILL", "-x", "parachute-guard"]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(125));
    alone(&pods[0], "the guard was killed").await;
    // Its cgroup is cleared away by the next that comes when the kernel has ended those in it.
    common::eventually("after the guard was killed", SOON, async || {
        assert!(common::exec(&agent, &["web-0/web", "true"]).status().unwrap().success());
        only_the_launchers()
    })
    .await;

    // The agent dies: who runs already needs it no more.
    let mut child = running(&agent, "web-0/web");
    agent.kill().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "the command goes on without the agent");
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    child.wait().unwrap();
    common::eventually("the launcher has left", SOON, async || match common::run_cgroups().as_slice() {
        [] => Ok(()),
        left => Err(format!("{left:?}")),
    })
    .await;
    drop(agent);

    // The container dies, also while nobody reads what the command says.
    let agent = rig.agent(ONE_PROBE).await;
    common::knows(&agent, &pods).await;
    let mut child = running(&agent, "web-1/web");
    let since = Instant::now();
    pods[1].kill("web").await.unwrap();
    let output = child.wait().unwrap();
    assert_eq!(output.code(), Some(137));
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    rig.finish(agent);
}

async fn started(rig: &Rig, name: &str) -> Pod {
    let pod = rig.bed.pod("shop", name).container("web", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    pod.start().await.unwrap()
}

/// A command with children of all kinds, once it runs.
fn running(agent: &Agent, target: &str) -> Child {
    let mut child = common::exec(agent, &[target, "bash", "-c", SCRIPT])
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// Not even a zombie in the container.
async fn alone(pod: &Pod, what: &str) {
    common::eventually(what, SOON, async || {
        let beside = common::processes_beside(pod.containers[0].pid);
        if beside == ["workload"] { Ok(()) } else { Err(format!("in the container: {beside:?}")) }
    })
    .await;
}

async fn nothing_left(pod: &Pod, what: &str) {
    alone(pod, what).await;
    common::eventually(what, SOON, async || only_the_launchers()).await;
}

/// No cgroup besides those of the agent's own launcher, whose folder holds its slots.
fn only_the_launchers() -> Result<(), String> {
    // One hierarchy or several: a launcher's folder has the same name in each.
    let launchers: HashSet<_> = common::run_cgroups()
        .into_iter()
        .filter_map(|path| path.iter().skip_while(|part| *part != "parachute").nth(1).map(ToOwned::to_owned))
        .collect();
    if launchers.len() <= 1 { Ok(()) } else { Err(format!("{:?}", common::run_cgroups())) }
}
