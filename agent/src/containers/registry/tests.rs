//! The registry with real cgroups, the real kernel half, and a launcher that the test plays. Each test has a cgroup of its own
//! at the root, in the hierarchy that detection goes by.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};

use super::succession::NEXT_WITHIN;
use super::{Counters, Registry, SHORT_LIFE, Start};
use crate::config::Runtimes;
use crate::containers::metadata;
use crate::detect::{self, Hierarchies, Reason};
use crate::enter::played::{Alter, Played};
use crate::model::{Container, ContainerEvent, ContainerId};

const SOON: Duration = Duration::from_secs(20);

/// A cgroup, which goes with all that is in it, and an id for a container in it: tests that go on at once see each other's.
struct Group(PathBuf, ContainerId);

impl Group {
    fn new(name: &str) -> Self {
        let hierarchies = Hierarchies::find().unwrap();
        let (root, _) = hierarchies.roots().next().unwrap();
        let dir = root.join(format!("pt-unit-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let id = hierarchies.own_id(&[&dir.to_string_lossy()]);
        Self(dir, id)
    }

    fn path(&self) -> String {
        format!("/{}", self.0.file_name().unwrap().to_string_lossy())
    }

    fn make(&self, below: &str) {
        std::fs::create_dir_all(self.0.join(below)).unwrap();
    }

    /// It is in the cgroup before it executes the words.
    fn spawn(&self, below: &str, words: &[&str]) -> Child {
        let script = "echo $$ >\"$0/cgroup.procs\" && exec \"$@\"";
        Command::new("sh").args(["-c", script]).arg(self.0.join(below)).args(words).spawn().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut dirs = vec![self.0.clone()];
        let mut at = 0;
        while let Some(dir) = dirs.get(at).cloned() {
            let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            dirs.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
            at += 1;
        }
        for dir in dirs.iter().rev() {
            for _ in 0..200 {
                let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
                for pid in procs.lines().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
                if std::fs::remove_dir(dir).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// When, what, and the process that stands for it.
type Heard = (Instant, &'static str, u32);

struct Rig {
    registry: Registry,
    played: Played,
    resyncs: IntCounterVec,
    /// What the live set's listeners heard of it, in order.
    events: Arc<Mutex<Vec<Heard>>>,
}

impl Rig {
    /// The first scan is done. It hears of containers in the group alone, which is a target if `targets` says so.
    async fn start(group: &Group, target: bool, alter: Alter) -> Self {
        let targets =
            if target { format!("targets: {{ cgroups: ['{}'] }}\n", group.path()) } else { String::new() };
        let text = format!("{targets}probes: {{ p: {{ command: [/bin/true], parse: none }} }}\n");
        let config = crate::config::from_str(&text, Path::new("p.yml")).unwrap();
        let played = Played::new(alter);
        played.connect();
        let counter = |name| IntCounter::new(name, "h").unwrap();
        let vec = |name, labels: &[&str]| IntCounterVec::new(Opts::new(name, "h"), labels).unwrap();
        let resyncs = vec("resyncs", &["reason"]);
        let events = Arc::new(Mutex::new(Vec::new()));
        let registry = Registry::start(Start {
            hook: Some(detect::attach().unwrap()),
            launcher: played.launcher.clone(),
            runtimes: &Runtimes::Listed(Vec::new()),
            targets: Arc::clone(&config.targets),
            counters: Counters {
                containers: IntGauge::new("containers", "h").unwrap(),
                exec_events: counter("execs"),
                exec_events_lost: counter("lost"),
                resyncs: resyncs.clone(),
                detection: Histogram::with_opts(HistogramOpts::new("detection", "h")).unwrap(),
                metadata: metadata::Counters {
                    requests: vec("requests", &["runtime", "call"]),
                    failures: vec("failures", &["runtime", "call"]),
                },
            },
            tell: {
                let (events, path) = (Arc::clone(&events), group.path());
                Arc::new(move |event| {
                    let (word, container) = match event {
                        ContainerEvent::Up(container) => ("up", container),
                        ContainerEvent::Down(container) => ("down", container),
                        ContainerEvent::Moved(container) => ("moved", container),
                        ContainerEvent::Described(_) => return,
                    };
                    if container.cgroup_path.starts_with(&path) {
                        events.lock().unwrap().push((Instant::now(), word, container.pid));
                    }
                })
            },
        })
        .unwrap();
        registry.described().await;
        Self { registry, played, resyncs, events }
    }

    fn words(&self) -> Vec<&'static str> {
        self.events.lock().unwrap().iter().map(|(_, word, _)| *word).collect()
    }

    fn listed(&self, group: &Group) -> Option<Arc<Container>> {
        let all = self.registry.containers();
        all.iter().find(|container| container.cgroup_path.starts_with(&group.path())).cloned()
    }

    /// Waits until the group's container is as it should be.
    async fn until(&self, group: &Group, is: impl Fn(Option<&Container>) -> bool) -> Option<Arc<Container>> {
        let since = Instant::now();
        loop {
            let found = self.listed(group);
            if is(found.as_deref()) {
                return found;
            }
            assert!(since.elapsed() < SOON, "in vain: {found:?}, {:?}", self.words());
            pause().await;
        }
    }
}

/// The registry has read what there is to read.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn own_mounts(about: &mut crate::enter::Inspection) {
    about.in_host_mnt_ns = false;
}

#[tokio::test]
async fn what_follows_a_process_that_nobody_has_seen_is_found() {
    let group = Group::new("early");
    let rig = Rig::start(&group, true, |_| {}).await;
    for _ in 0..3 {
        // The registry runs on this thread too: it looks when this one has gone.
        assert!(group.spawn("", &["true"]).wait().unwrap().success());
        pause().await;
    }
    assert_eq!(rig.words(), [""; 0]);
    let main = group.spawn("", &["sleep", "60"]);
    let pid = main.id();
    rig.until(&group, |found| found.is_some_and(|container| container.pid == pid)).await;
    end(main);
}

#[tokio::test]
async fn the_init_is_found_among_many_processes_that_came_before_it() {
    let group = Group::new("many");
    let id = group.1.as_str();
    for below in ["system.slice/app.service", "init.scope"] {
        group.make(&format!("{id}/{below}"));
    }
    let script = "for _ in $(seq 80); do sleep 60 & done; wait";
    let mut crowd = group.spawn(&format!("{id}/system.slice/app.service"), &["sh", "-c", script]);
    let procs = group.0.join(id).join("system.slice/app.service/cgroup.procs");
    while std::fs::read_to_string(&procs).unwrap().lines().count() < 81 {
        pause().await;
    }
    // Not where a systemd is, so that its place among the others counts.
    let below = format!("{id}/system.slice/app.service");
    let mut first = group.spawn(&below, &["unshare", "--pid", "--fork", "tail", "-f", "/dev/null"]);
    let comm = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    while !std::fs::read_to_string(&procs).unwrap().lines().any(|pid| comm(pid.parse().unwrap()) == "tail\n")
    {
        pause().await;
    }
    let rig = Rig::start(&group, false, own_mounts).await;
    let found = rig.until(&group, |found| found.is_some()).await.unwrap();
    assert_eq!(comm(found.pid), "tail\n", "{found:?}");
    drop(group);
    crowd.wait().unwrap();
    first.wait().unwrap();
}

#[tokio::test]
async fn a_container_goes_on_when_what_was_no_init_ends() {
    let group = Group::new("wrong");
    let id = group.1.as_str();
    group.make(id);
    let rig = Rig::start(&group, false, |about| {
        own_mounts(about);
        about.inner_pid = if about.comm == "tail" { 1 } else { 7 };
    })
    .await;
    let wrong = group.spawn(id, &["sleep", "60"]);
    let pid = wrong.id();
    rig.until(&group, |found| found.is_some_and(|container| container.pid == pid)).await;
    let init = group.spawn(id, &["tail", "-f", "/dev/null"]);
    tokio::time::sleep(SHORT_LIFE).await;
    end(wrong);
    let pid = init.id();
    rig.until(&group, |found| found.is_some_and(|container| container.pid == pid)).await;
    assert_eq!(rig.words(), ["up", "down", "up"]);
    end(init);
    rig.until(&group, |found| found.is_none()).await;
}

#[tokio::test]
async fn what_could_not_be_looked_at_is_found_once_there_is_a_launcher() {
    let group = Group::new("missed");
    let rig = Rig::start(&group, true, |_| {}).await;
    rig.played.disconnect();
    let main = group.spawn("", &["sleep", "60"]);
    // The look's own patience with a launcher that is away is over.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let scans = || rig.resyncs.with_label_values(&[Reason::Launcher.as_str()]).get();
    assert_eq!((rig.words(), scans()), (vec![], 0));
    rig.played.connect();
    rig.until(&group, |found| found.is_some()).await;
    assert_eq!(scans(), 1);
    end(main);
}

#[tokio::test]
async fn a_services_life_is_not_ended_by_a_helper_that_comes_and_goes() {
    let group = Group::new("between");
    let rig = Rig::start(&group, true, |_| {}).await;
    let main = group.spawn("", &["sleep", "60"]);
    rig.until(&group, |found| found.is_some()).await;
    let ended = Instant::now();
    end(main);
    pause().await;
    assert!(group.spawn("", &["true"]).wait().unwrap().success());
    rig.until(&group, |found| found.is_none()).await;
    let (down, word, _) = *rig.events.lock().unwrap().last().unwrap();
    assert_eq!((word, rig.words().len()), ("down", 2));
    assert!(down - ended >= NEXT_WITHIN, "{:?}", down - ended);
}

#[tokio::test]
async fn a_program_that_is_called_like_runcs_stage_is_found_all_the_same() {
    let group = Group::new("named");
    let id = group.1.as_str();
    group.make(id);
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("runc:[2:INIT]");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let rig = Rig::start(&group, false, own_mounts).await;
    let main = group.spawn(id, &[program.to_str().unwrap(), "60"]);
    rig.until(&group, |found| found.is_some()).await;
    drop(rig);
    // And by an agent that comes later.
    let rig = Rig::start(&group, false, own_mounts).await;
    rig.until(&group, |found| found.is_some()).await;
    end(main);
}

#[tokio::test]
async fn a_users_cgroup_holds_no_id_against_a_runtimes() {
    let group = Group::new("users");
    let id = group.1.as_str();
    let users = format!("user.slice/user-4242.slice/user@4242.service/{id}/n");
    group.make(&users);
    let rig = Rig::start(&group, false, own_mounts).await;
    let false_one = group.spawn(&users, &["sleep", "60"]);
    let pid = false_one.id();
    rig.until(&group, |found| found.is_some_and(|container| container.pid == pid)).await;
    group.make(&format!("docker/{id}"));
    let main = group.spawn(&format!("docker/{id}"), &["sleep", "60"]);
    let pid = main.id();
    rig.until(&group, |found| found.is_some_and(|container| container.pid == pid)).await;
    assert_eq!(rig.words(), ["up", "down", "up"]);
    // Nor does it take it back.
    assert!(group.spawn(&users, &["true"]).wait().unwrap().success());
    pause().await;
    assert_eq!((rig.words().len(), rig.listed(&group).unwrap().pid), (3, pid));
    end(main);
    end(false_one);
}
