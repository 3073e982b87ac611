//! What every whole-agent test stands on: a private containerd, the agent of this build beside it, and the proof at the
//! end that nothing was left over.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testbed::{Agent, Containerd, Pod, Sample, Snapshot};
use tokio::sync::{Mutex, MutexGuard};

/// How long the agent may take to load its hook and scan what runs.
pub(crate) const READY: Duration = Duration::from_secs(20);

/// How long anything that should happen soon may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The tests compare the state of the whole machine: two at once would see each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

pub(crate) struct Rig {
    pub(crate) bed: Containerd,
    before: Snapshot,
    dir: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let alone = ONE_AT_A_TIME.lock().await;
        let before = Snapshot::take();
        let dir = tempfile::Builder::new().prefix("pt-").tempdir().unwrap();
        let bed = Containerd::start(&dir.path().join("bed")).await.unwrap();
        Self { bed, before, dir, _alone: alone }
    }

    /// Starts an agent on this configuration, to which the private containerd is added, and waits until it is ready.
    pub(crate) async fn agent(&self, configuration: &str) -> Agent {
        let mut agent = self.unready_agent(configuration);
        agent.ready(READY).await.unwrap();
        agent
    }

    pub(crate) fn unready_agent(&self, configuration: &str) -> Agent {
        let program = Path::new(env!("CARGO_BIN_EXE_parachute"));
        Agent::start(program, &self.write(configuration), |line| println!("agent: {line}")).unwrap()
    }

    /// A file in the test's folder, for programs that want one.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Ends the agent and all pods, and shows that nothing of them is left.
    pub(crate) fn finish(self, agent: Agent) {
        drop(agent);
        let Self { bed, before, dir, _alone } = self;
        drop(bed);
        drop(dir);
        assert_eq!(before.leftovers(), [""; 0]);
    }

    fn write(&self, configuration: &str) -> PathBuf {
        let path = self.path("parachute.yml");
        let runtimes = format!("runtimes: [{{cri: {}}}]\n", self.bed.socket().display());
        fs::write(&path, runtimes + configuration).unwrap();
        path
    }
}

/// Tries until it works; what it said last is the failure.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < deadline, "{what}: not within {within:?}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The samples of a metric whose labels have these values.
pub(crate) fn select<'a>(
    samples: &'a [Sample],
    name: &'a str,
    labels: &'a [(&'a str, &'a str)],
) -> impl Iterator<Item = &'a Sample> {
    let matches = |sample: &&Sample| labels.iter().all(|&(label, value)| sample.label(label) == value);
    samples.iter().filter(move |sample| sample.name == name).filter(matches)
}

pub(crate) fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    select(samples, name, labels).map(|sample| sample.value).sum()
}

/// The containers as the agent lists them.
pub(crate) async fn containers(agent: &Agent) -> Vec<serde_json::Value> {
    let answer = agent.get("/api/v1/containers").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    body["containers"].as_array().expect("a list of containers").clone()
}

/// Waits until the agent lists all containers of these pods, with their names.
pub(crate) async fn knows(agent: &Agent, pods: &[Pod]) -> Vec<serde_json::Value> {
    eventually("the agent knows all containers", SOON, async || {
        let listed = containers(agent).await;
        for pod in pods {
            for container in pod.containers.iter().chain([&pod.sandbox]) {
                let known = listed.iter().any(|c| c["id"] == container.id && c["pod"] == pod.name);
                if !known {
                    return Err(format!("{}/{} is not listed by name", pod.name, container.name));
                }
            }
        }
        Ok(listed)
    })
    .await
}

/// Names of the processes in the pid namespace of `pid`, zombies included.
pub(crate) fn processes_beside(pid: i32) -> Vec<String> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(ours) = namespace(&pid.to_string()) else { return Vec::new() };
    let all = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let beside = all.filter(|pid| namespace(pid).as_ref() == Some(&ours));
    beside
        .filter_map(|pid| Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned()))
        .collect()
}

/// Every mount of the host, one line each, ids and propagation included.
pub(crate) fn mounts() -> Vec<String> {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect()
}

/// Open file descriptors of the agent and of the processes that it has started for itself.
pub(crate) fn open_files(agent: &Agent) -> usize {
    let count = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    family(agent.pid()).into_iter().map(count).sum()
}

/// Processor seconds that the agent and its children have used: `proc_pid_stat(5)`, fields 14 and 15, in ticks of 10 ms
/// (`USER_HZ` is 100 on every architecture that the agent runs on).
pub(crate) fn processor_seconds(agent: &Agent) -> f64 {
    let ticks = |pid: u32| -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    family(agent.pid()).into_iter().filter_map(ticks).sum::<u64>() as f64 / 100.0
}

/// A process and all its descendants.
fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|c| c.parse().ok()).flat_map(family));
    }
    found
}
