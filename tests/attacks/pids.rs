//! Numbers that come round: a pid that was a container's is another's, at once.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use testbed::{Agent, Kind};

use super::{ALLOWED, Held, MOMENT, by_hand, stdout, tried};
use crate::common::{self, Rig, SOON};

/// What tells an init from every other: its words, in the pid namespace that is shown, and its socket, in the network
/// namespace that was joined.
const NONCE: &str = "command: [cat, /proc/1/cmdline, /proc/net/unix]";

/// Containers whose init has a pid of the test's choice, with namespaces and a cgroup of their own, as a runtime makes them.
struct Inits {
    program: PathBuf,
    /// In the unified hierarchy, which detection goes by.
    cgroups: PathBuf,
    made: AtomicUsize,
}

struct Init {
    id: String,
    pid: i32,
    cgroup: PathBuf,
    /// Its cgroup is there after its end, too.
    is_kept: bool,
    parent: Child,
}

impl Inits {
    fn new(rig: &Rig) -> Self {
        let program = rig.path("attacker");
        fs::write(&program, testbed::attacker()).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let unified = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
        let cgroups = Path::new(unified.split(' ').nth(1).unwrap()).join("pt-pids");
        fs::create_dir(&cgroups).unwrap();
        Self { program, cgroups, made: AtomicUsize::new(0) }
    }

    /// Half the numbers away from the newest pid, so that nobody else comes across them.
    fn free(count: i32) -> Vec<i32> {
        let number = |path: &str| fs::read_to_string(path).unwrap().trim().parse::<i32>().unwrap();
        let (last, most) = (number("/proc/sys/kernel/ns_last_pid"), number("/proc/sys/kernel/pid_max"));
        let all = (1..).map(|n| 1000 + (last + most / 2 + n) % (most - 1000));
        all.filter(|pid| !fs::exists(format!("/proc/{pid}")).unwrap())
            .take(count.try_into().unwrap())
            .collect()
    }

    /// Takes this number; `None` if somebody has it.
    fn take(&self, pid: i32) -> Option<Init> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:064x}", 0xa000_0000 + number);
        let cgroup = self.cgroups.join(&id);
        fs::create_dir(&cgroup).unwrap();
        let mut take = Command::new(&self.program);
        take.args(["take", &pid.to_string()]).arg(&cgroup).arg(&id).stderr(Stdio::null());
        let mut init = Init { pid, cgroup, is_kept: false, parent: take.spawn().unwrap(), id };
        let deadline = Instant::now() + SOON;
        while !init.is_there() {
            if init.parent.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "{pid} was not taken");
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(init)
    }
}

impl Drop for Inits {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.cgroups);
    }
}

impl Init {
    fn is_there(&self) -> bool {
        let words = fs::read_to_string(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        words.ends_with(&format!("\0stay\0{}\0", self.id))
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // Its parent waits for it and ends.
        if self.is_there() {
            signal("-KILL", self.pid);
        } else {
            let _ = self.parent.kill();
        }
        let _ = self.parent.wait();
        if self.is_kept {
            return;
        }
        // Busy for a moment after its last process.
        let deadline = Instant::now() + SOON;
        while fs::remove_dir(&self.cgroup).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn signal(name: &str, pid: i32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success(), "{name} {pid}");
}

fn probes() -> String {
    let joined = format!("{NONCE}, isolation: joined");
    // Nothing has taken rights from these inits.
    by_hand(&[("observer", NONCE), ("joined", &joined)], ALLOWED)
}

async fn ask(agent: &Agent, probe: &str, id: &str) -> (u16, Value) {
    let body = json!({ "probe": probe, "target": { "id": id } }).to_string();
    let answer = agent.post("/api/v1/run", &body).await.unwrap();
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

/// The ids that a run's output names.
fn named(answer: &Value) -> Vec<&str> {
    let words = stdout(answer).split(|c: char| !c.is_ascii_hexdigit());
    words.filter(|word| word.len() == 64).collect()
}

/// 25: An init dies, and its pid is another container's before the agent or its launcher have had a moment to notice: a run
/// that was asked for the first gets nothing of the second. A container is its init's pidfd, which never means another process
/// (`pidfd_open(2)`); the number is read again from that, and is -1 once the process has gone.
#[tokio::test(flavor = "multi_thread")]
async fn a25_a_pid_that_is_taken_again_is_nobody_known() {
    let rig = Rig::new().await;
    let inits = Inits::new(&rig);
    let agent = rig.agent(&probes()).await;
    let agent_pid = i32::try_from(agent.pid()).unwrap();
    for probe in ["observer", "joined"] {
        // Whoever looks is stopped while it happens: the agent with the question waiting, then the launcher with the plan.
        for stopped in ["agent", "launcher"] {
            let pod =
                Held::start(&rig, Kind::Default, &format!("{probe}-{stopped}"), &["/workload", "sleep"])
                    .await;
            assert_eq!(pod.run(&agent, probe).await["outcome"], "ok");
            let (id, pid) = (pod.container.id.clone(), pod.container.pid);
            let held_up = if stopped == "agent" { agent_pid } else { launcher(&agent) };
            signal("-STOP", held_up);
            let address = agent.address();
            let body = json!({ "probe": probe, "target": { "id": id } }).to_string();
            let asked = tokio::spawn(async move {
                testbed::request(address, "POST", "/api/v1/run", &body).await.unwrap()
            });
            tokio::time::sleep(Duration::from_millis(200)).await;
            signal("-KILL", pid);
            let successor = common::eventually("the pid is free, and taken again", SOON, async || {
                inits.take(pid).ok_or("not yet".to_owned())
            })
            .await;
            signal("-CONT", held_up);
            let answer = asked.await.unwrap();
            let gone = answer.status == 404 || answer.body.contains("target_gone");
            assert!(gone, "{probe}, {stopped}: {} {}", answer.status, answer.body);
            // Who has the number now is another container, and only that.
            let (status, answer) = common::eventually("the other is known", SOON, async || {
                let answer = ask(&agent, probe, &successor.id).await;
                if answer.0 == 200 { Ok(answer) } else { Err(answer.1.to_string()) }
            })
            .await;
            assert_eq!((status, named(&answer)), (200, vec![successor.id.as_str(); 2]), "{answer}");
            assert_eq!(ask(&agent, probe, &id).await.0, 404);
            drop(successor);
            pod.remove().await;
        }
    }
    tried("a25 a pid taken again between question and run", &[Kind::Default]);
    drop(inits);
    rig.finish(agent);
}

/// 25: The agent is stopped while a container starts and ends and another process gets its pid: the record of the first exec
/// names a cgroup, and only what is in that cgroup now is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a25_what_has_gone_is_not_whoever_has_its_pid() {
    let rig = Rig::new().await;
    let inits = Inits::new(&rig);
    let agent = rig.agent(&probes()).await;
    let agent_pid = i32::try_from(agent.pid()).unwrap();
    let mut gone = Vec::new();
    let mut last = Vec::new();
    signal("-STOP", agent_pid);
    for pid in Inits::free(20) {
        let Some(mut first) = inits.take(pid) else { continue };
        gone.push((first.id.clone(), first.cgroup.clone()));
        // Of every other one the agent can still find the cgroup, which is empty.
        first.is_kept = pid % 2 == 0;
        drop(first);
        last.extend(inits.take(pid));
    }
    assert!(gone.len() > 10 && last.len() > 10, "{} and {} pids were to be had", gone.len(), last.len());
    signal("-CONT", agent_pid);
    common::eventually("who lives is known", SOON, async || {
        let known = common::containers(&agent).await;
        let missing = last.iter().filter(|one| !known.iter().any(|c| c["id"] == one.id.as_str())).count();
        if missing == 0 { Ok(()) } else { Err(format!("{missing} are not")) }
    })
    .await;
    tokio::time::sleep(MOMENT).await;
    let known = common::containers(&agent).await;
    for (id, cgroup) in gone {
        assert!(!known.iter().any(|c| c["id"] == id.as_str()), "{id} is said to live: {known:?}");
        let _ = fs::remove_dir(cgroup);
    }
    for one in &last {
        let (status, answer) = ask(&agent, "observer", &one.id).await;
        assert_eq!((status, named(&answer)), (200, vec![one.id.as_str(); 2]), "{answer}");
    }
    tried("a25 a pid taken again before the start was looked at", &[Kind::Default]);
    drop((last, inits));
    rig.finish(agent);
}

/// 25: For twenty seconds containers come and go on three pids, while runs are asked for all that are listed and for those that
/// were: every answer is of the container that was asked for, or says that it has gone.
#[tokio::test(flavor = "multi_thread")]
async fn a25_a_churn_of_pids_leads_nobody_astray() {
    const CHURN: Duration = Duration::from_secs(20);
    let rig = Rig::new().await;
    let inits = Inits::new(&rig);
    let agent = rig.agent(&probes()).await;
    let over = AtomicBool::new(false);
    let churn = async |pid: i32| {
        while !over.load(Ordering::Relaxed) {
            let init = tokio::task::block_in_place(|| inits.take(pid));
            let life = 50 + u64::try_from(pid % 7).unwrap() * 30;
            tokio::time::sleep(Duration::from_millis(life)).await;
            tokio::task::block_in_place(|| drop(init));
        }
    };
    let asks = async |probe: &str| {
        let mut answers = HashMap::new();
        let mut ids: Vec<String> = Vec::new();
        while !over.load(Ordering::Relaxed) {
            // The last of those that were listed before have mostly gone by now.
            ids.drain(..ids.len().saturating_sub(3));
            let listed = common::containers(&agent).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            ids.extend(listed.iter().map(|c| c["id"].as_str().unwrap().to_owned()));
            for id in &ids {
                let (status, answer) = ask(&agent, probe, id).await;
                let what = match (status, answer["outcome"].as_str()) {
                    (200, Some("ok")) => "right",
                    (404, _) | (200, Some("target_gone")) => "gone",
                    // It died while the command ran, and a joined command with it.
                    (200, _) => "ended",
                    _ => panic!("{id}: {status} {answer}"),
                };
                let is_its_own = status != 200 || named(&answer).iter().all(|named| named == id);
                assert!(is_its_own, "asked for {id}: {answer}");
                *answers.entry(what).or_insert(0) += 1;
            }
        }
        answers
    };
    let pids = Inits::free(3);
    let (answers, ..) = tokio::join!(
        join_all(["observer", "joined", "observer", "joined"].map(asks)),
        join_all(pids.into_iter().map(churn)),
        async {
            tokio::time::sleep(CHURN).await;
            over.store(true, Ordering::Relaxed);
        },
    );
    let sum = |what: &str| answers.iter().filter_map(|all| all.get(what)).sum::<usize>();
    println!(
        "{} containers on three pids: {} answers right, {} gone, {} ended under way, 0 wrong",
        inits.made.load(Ordering::Relaxed),
        sum("right"),
        sum("gone"),
        sum("ended")
    );
    assert!(inits.made.load(Ordering::Relaxed) > 50 && sum("right") > 100, "{answers:?}");
    tried("a25 a churn of pids", &[Kind::Default]);
    drop(inits);
    rig.finish(agent);
}

fn launcher(agent: &Agent) -> i32 {
    let comm = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let all = common::family(agent.pid());
    all.into_iter().find(|pid| comm(pid).trim() == "parachute-launc").unwrap().try_into().unwrap()
}
