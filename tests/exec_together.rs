//! More than one at work in a container at the same time: people with `parachute exec`, and joined probes. They have root's rights, as
//! has whoever could take a command over; none of them keeps the others out, and a stranger does.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

use testbed::WORKLOAD_IMAGE;

use crate::common::engines::run;
use crate::common::{self, Rig, SOON};

const CONFIGURATION: &str = r"
probes:
  processes: { command: [ps, -e, -o, comm=], parse: none, isolation: joined }
  long: { command: [sleep, '1002'], timeout: 5s, parse: none, isolation: joined }
triggers:
  by-hand: { http: {}, probes: [processes, long] }
";
/// One at work, with something that has left its parents, and something that has ended and is waited for by nobody.
const AT_WORK: &str = "setsid --fork sleep 1000; true & echo ready; exec sleep 1001";

#[tokio::test(flavor = "multi_thread")]
async fn people_and_probes_are_in_one_container_together() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let pod = rig.bed.pod("shop", "web-0").container("web", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    let pod = pod.start().await.unwrap();
    let init = pod.containers[0].pid;
    common::knows(&agent, std::slice::from_ref(&pod)).await;

    let mut first = at_work(&mut common::exec(&agent, &["web", "sh", "-c", AT_WORK]));
    // Whoever has no agent, or does not ask it, has a spawner and a guard all the same.
    let alone = |words: &[&str]| {
        let mut command = common::exec(&agent, words);
        command.env("PARACHUTE_RUN_DIRECTORY", rig.path("nobody"));
        command
    };
    let mut second = at_work(&mut alone(&["web", "sh", "-c", AT_WORK]));
    for output in [&mut common::exec(&agent, &["web", "ps", "-e"]), &mut alone(&["web", "ps", "-e"])] {
        is_beside(&output.output().unwrap(), 4);
    }
    let probe = run(&agent, "processes", "web").await;
    assert_eq!(probe["outcome"], "ok", "{probe}");
    assert_eq!(probe["stdout"].as_str().unwrap().matches("sleep").count(), 4, "{probe}");

    // The other way round: a probe is there when somebody comes.
    let (long, beside) = tokio::join!(run(&agent, "long", "web"), async {
        one_more_sleeps(init).await;
        tokio::task::block_in_place(|| common::exec(&agent, &["web", "ps", "-e"]).output().unwrap())
    });
    assert_eq!(long["outcome"], "timeout", "{long}");
    is_beside(&beside, 5);

    // A stranger is still one, and is told from them.
    let words = ["-t", &init.to_string(), "-p", "sleep", "1003"];
    let mut stranger = Command::new("nsenter").args(words).stdin(Stdio::null()).spawn().unwrap();
    one_more_sleeps(init).await;
    let refused = common::exec(&agent, &["web", "true"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(125), "{refused:?}");
    assert_eq!(run(&agent, "processes", "web").await["outcome"], "refused");
    Command::new("pkill").args(["-KILL", "-P", &stranger.id().to_string()]).status().unwrap();
    stranger.wait().unwrap();

    for person in [&mut first, &mut second] {
        Command::new("kill").arg(person.id().to_string()).status().unwrap();
        person.wait().unwrap();
    }
    assert_eq!(common::processes_beside(init), ["workload"]);
    is_beside(&common::exec(&agent, &["web", "ps", "-e"]).output().unwrap(), 0);
    rig.finish(agent);
}

/// Somebody whose command has begun.
fn at_work(command: &mut Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// Besides the four of the two people.
async fn one_more_sleeps(init: i32) {
    common::eventually("a fifth one is there", SOON, async || {
        let beside = common::processes_beside(init);
        let sleeps = beside.iter().filter(|name| *name == "sleep").count();
        if sleeps == 5 { Ok(()) } else { Err(format!("{beside:?}")) }
    })
    .await;
}

/// The list of processes that it has made has so many that sleep.
fn is_beside(listed: &Output, sleeps: usize) {
    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.status.success() && text.matches("sleep").count() == sleeps, "{listed:?}");
}
