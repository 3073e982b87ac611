//! Hosts without containers: services, machines of systemd-nspawn, LXC's containers, cgroups by path, and single processes.
//! What a real systemd does with services is in `services`; here the cgroups are made by hand where that is enough.

mod machines;
mod processes;
mod services;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::{Agent, Snapshot};

use crate::common::alerting::{self, captured};
use crate::common::groups::Group;
use crate::common::{self, SOON};

/// Probes that tell whose network, whose processes and which process: a line for each link, `ps`' first, and a number.
pub(crate) const PROBES: &str = r#"
limits: { results_grace: 1s }
probes:
  links: { command: [ip, -o, link], parse: { regex: [{ name: pt_links, type: gauge, help: Links., pattern: '^\d+: (?P<device>[^:@]+)' }] } }
  target: { shell: 'echo "pid $PARACHUTE_TARGET_PID"; cat "/proc/$PARACHUTE_TARGET_PID/comm"', keep: always,
            parse: { keyvalue: [{ name: pt_target_pid, type: gauge, help: Its number., key: pid }] } }
  joined: { shell: 'readlink /proc/self/ns/pid', isolation: joined, parse: none }
triggers:
  at-start: { container_start: {}, probes: [target], match: { container: "*pt-*" }, allow_unsafe_joined: false }
  by-hand: { http: {}, probes: [links, target, joined], allow_unsafe_joined: false }
  surge:
    alert: { labels: { alertname: Surge } }
    target: { container: "{{container}}" }
    probes: [links]
    cooldown: 0s
    allow_unsafe_joined: false
"#;

/// A folder, an agent, and the proof that nothing is left.
pub(crate) struct Host {
    folder: tempfile::TempDir,
    before: Snapshot,
    _alone: fs::File,
}

impl Host {
    pub(crate) async fn new() -> Self {
        let alone = tokio::task::spawn_blocking(testbed::alone).await.unwrap().unwrap();
        // Not below /tmp, where others may make files: pid files must not stand there.
        let folder = tempfile::Builder::new().prefix("pt-").tempdir_in("/run").unwrap();
        Self { folder, before: Snapshot::take(), _alone: alone }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration with these targets.
    pub(crate) fn configure(&self, targets: &str) -> PathBuf {
        let path = self.path("parachute.yml");
        fs::write(&path, format!("targets: {targets}\n{PROBES}")).unwrap();
        path
    }

    /// The same for targets that are trusted.
    pub(crate) fn trust(&self, targets: &str) {
        let text = fs::read_to_string(self.configure(targets)).unwrap();
        let text = text.replace("allow_unsafe_joined: false", "allow_unsafe_joined: true");
        fs::write(self.path("parachute.yml"), text).unwrap();
    }

    pub(crate) async fn agent(&self, targets: &str) -> Agent {
        let program = Path::new(env!("CARGO_BIN_EXE_parachute"));
        let flags = ["--web.allow-unauthenticated"];
        let show = |line: &str| println!("agent: {line}");
        let mut agent = Agent::start_with(program, &self.configure(targets), &flags, show).unwrap();
        agent.ready(common::READY).await.unwrap();
        agent
    }

    /// With this host's configuration and no agent.
    pub(crate) fn parachute(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parachute"));
        command.args(words).arg("--config.file").arg(self.path("parachute.yml"));
        command.env("PARACHUTE_RUN_DIRECTORY", "/no/such/folder").output().unwrap()
    }

    pub(crate) fn finish(self, agent: Agent) {
        drop(agent);
        let Self { folder, before, _alone } = self;
        drop(folder);
        assert_eq!(before.leftovers(), [""; 0]);
    }
}

/// Waits until exactly so many are listed under this name; gives the first.
pub(crate) async fn listed(agent: &Agent, name: &str, count: usize) -> Value {
    common::eventually(&format!("{count} of {name}"), SOON, async || {
        let all = common::containers(agent).await;
        let mut named = all.iter().filter(|c| c["container"] == name);
        let first = named.next().cloned().unwrap_or_default();
        let found = usize::from(!first.is_null()) + named.count();
        if found == count { Ok(first) } else { Err(format!("{found}: {all:?}")) }
    })
    .await
}

/// Runs it by HTTP; gives the answer, which must be a run that went well.
pub(crate) async fn run(agent: &Agent, probe: &str, name: &str) -> Value {
    let ask = json!({ "probe": probe, "target": { "container": name } });
    let answer = agent.post("/api/v1/run", &ask.to_string()).await.unwrap();
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{}", answer.body));
    assert_eq!((answer.status, &body["outcome"]), (200, &json!("ok")), "{probe} in {name}: {body}");
    body
}

/// An alert about it runs a probe in it, whose capture is kept.
pub(crate) async fn alerted(agent: &Agent, name: &str) {
    let mut alert = alerting::alert("Surge", "", 1);
    alert["labels"] = json!({ "alertname": "Surge", "container": name });
    let answer = alerting::post(agent, &alerting::payload("g", &[alert])).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.body);
    let all = captured(agent, &format!("alert=Surge&container={}", encoded(name)), 1).await;
    assert_eq!(
        (&all[0]["container"]["container"], &all[0]["outcome"]),
        (&json!(name), &json!("ok")),
        "{}",
        all[0]
    );
}

pub(crate) fn stdout(run: &Value) -> &str {
    run["stdout"].as_str().unwrap()
}

/// Standard output alone; the verbs that look around by themselves warn of what they lack.
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const SERVICE: &str = "/system.slice/pt-nginx.service";

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_alerted_run_captured_and_scraped_and_its_lives_are_told_apart() {
    let host = Host::new().await;
    let agent = host.agent(r#"{ services: ["pt-*.service"] }"#).await;
    let mut service = Group::new(SERVICE);
    service.start(&["sleep", "1000"]);
    let first = listed(&agent, "pt-nginx.service", 1).await;
    assert_eq!(
        (&first["runtime"], &first["namespace"], &first["pod"], &first["cgroup"]),
        (&json!("systemd"), &json!(""), &json!(""), &json!(SERVICE))
    );
    assert_eq!(
        (&first["pid"], &first["host_namespaces"]),
        (&json!(service.pid()), &json!(["mnt", "net", "pid"]))
    );
    assert_eq!(first["id"].as_str().unwrap().len(), 64);

    // As an observer and joined, though it shares all of the host's namespaces; which process is meant is told.
    let target = run(&agent, "target", "pt-nginx.service").await;
    assert_eq!(stdout(&target), format!("pid {}\nsleep\n", service.pid()));
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    assert_eq!(stdout(&run(&agent, "joined", "pt-nginx.service").await).trim(), own.to_string_lossy());
    let links = stdout(&run(&agent, "links", "pt-nginx.service").await).lines().count();
    assert_eq!(links, fs::read_dir("/sys/class/net").unwrap().count(), "the host's");

    // Alert, run, capture, metrics.
    alerted(&agent, "pt-nginx.service").await;
    let samples = agent.scrape().await.unwrap();
    let of = [("namespace", ""), ("pod", ""), ("container", "pt-nginx.service")];
    assert_eq!(common::sum(&samples, "pt_links", &of), links as f64);
    let info = [("runtime", "systemd"), ("host_namespaces", "mnt,net,pid"), of[2]];
    assert_eq!(common::sum(&samples, "parachute_container_info", &info), 1.0);
    common::promtool(&agent.get("/metrics").await.unwrap().body);

    // Another process takes the first one's place: the same life, and nothing runs at its start again.
    let at_start = "trigger=at-start&container=pt-nginx.service";
    captured(&agent, at_start, 1).await;
    let mut second = service.also(&["sleep", "1001"]);
    let (second_pid, first_pid) = (second.id(), service.pid());
    service.kill();
    let moved = common::eventually("another process stands for it", SOON, async || {
        let moved = listed(&agent, "pt-nginx.service", 1).await;
        if moved["pid"] == second_pid { Ok(moved) } else { Err(moved.to_string()) }
    })
    .await;
    assert_ne!(first_pid, second_pid);
    assert_eq!((&moved["id"], &moved["start_ticks"]), (&first["id"], &first["start_ticks"]));
    assert_eq!(
        stdout(&run(&agent, "target", "pt-nginx.service").await),
        format!("pid {second_pid}\nsleep\n")
    );
    assert_eq!(alerting::captures(&agent, at_start).await.len(), 1);
    let exec =
        common::exec(&agent, &["pt-nginx.service", "printenv", "PARACHUTE_TARGET_PID"]).output().unwrap();
    assert_eq!(text(&exec), format!("{second_pid}\n"));

    // It is stopped, vanishes when the grace is over, and is started again: a new cgroup, another life, the same series.
    second.kill().unwrap();
    second.wait().unwrap();
    drop(service);
    listed(&agent, "pt-nginx.service", 0).await;
    common::eventually("its series are gone", SOON, async || {
        let samples = agent.scrape().await.unwrap();
        let left = samples.iter().filter(|sample| sample.label("container") == "pt-nginx.service").count();
        if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
    })
    .await;
    let mut service = Group::new(SERVICE);
    service.start(&["sleep", "1000"]);
    let again = listed(&agent, "pt-nginx.service", 1).await;
    assert_ne!(again["id"], first["id"]);
    captured(&agent, at_start, 2).await;
    run(&agent, "links", "pt-nginx.service").await;
    assert_eq!(common::sum(&agent.scrape().await.unwrap(), "pt_links", &of), links as f64);
    drop(service);
    host.finish(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_the_hosts_to_give_and_do_no_harm() {
    let host = Host::new().await;
    let marker = host.path("marker");
    let evil = format!("pt-evil\\x2d$(touch {}).service", marker.display().to_string().replace('/', "\\x2f"));
    let markup = "pt-<b>&\"'`;.service".to_owned();
    let long = format!("pt-{}.service", "l".repeat(255 - 11));
    let instance = r"pt-app@a:b\x2dc.service".to_owned();
    let names = [evil, markup, long, instance];
    let agent = host.agent(r#"{ services: ["pt-*.service"], lxc: ["pt-*"] }"#).await;
    let mut groups: Vec<Group> =
        names.iter().map(|name| Group::new(&format!("/system.slice/{name}"))).collect();
    for group in &mut groups {
        group.start(&["sleep", "1000"]);
    }
    // What calls itself a service, or LXC's, below something else: a container, a user's systemd, another service.
    let id = "7".repeat(64);
    let mut liars: Vec<Group> = [
        format!("/docker/{id}/system.slice/pt-nginx.service"),
        "/lxc.payload.other/system.slice/pt-nginx.service".to_owned(),
        "/user.slice/user-1000.slice/user@1000.service/app.slice/pt-nginx.service".to_owned(),
        "/system.slice/other.service/pt-nginx.service".to_owned(),
        "/system.slice/other.service/lxc.payload.pt-c1".to_owned(),
    ]
    .iter()
    .map(|path| Group::new(path))
    .collect();
    // In a mount namespace of its own, as a container's processes are.
    for group in &mut liars {
        group.start(&["unshare", "--mount", "sleep", "1000"]);
    }
    for name in &names {
        let found = listed(&agent, name, 1).await;
        run(&agent, "target", name).await;
        let page = agent.get(&format!("/containers/{}", found["id"].as_str().unwrap())).await.unwrap();
        assert_eq!(page.status, 200);
        assert!(!page.body.contains("<b>&"), "markup went through");
        let exec = common::exec(&agent, &[name, "true"]).output().unwrap();
        assert!(exec.status.success(), "{name}: {}", text(&exec));
        captured(&agent, &format!("trigger=at-start&container={}", encoded(name)), 1).await;
    }
    let all = common::containers(&agent).await;
    let liar = |c: &&Value| c["container"] == "pt-nginx.service" || c["container"] == "pt-c1";
    assert_eq!(all.iter().find(liar), None);
    let inside = all.iter().find(|c| c["id"] == id).expect("the container is known by its id");
    assert_eq!(inside["cgroup"], format!("/docker/{id}"));
    common::promtool(&agent.get("/metrics").await.unwrap().body);
    let ps = Command::new(env!("CARGO_BIN_EXE_parachute"))
        .args(["ps", "-o", "name"])
        .env("PARACHUTE_RUN_DIRECTORY", agent.run_directory())
        .output()
        .unwrap();
    let ps = text(&ps);
    assert!(names.iter().all(|name| ps.lines().any(|line| line == name)), "{ps}");
    assert!(!marker.exists());
    drop((groups, liars));
    host.finish(agent);
}

/// For a query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |all, byte| format!("{all}%{byte:02X}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_change_with_the_configuration_and_are_told() {
    let host = Host::new().await;
    let mut one = Group::new("/pt-batch/one");
    let mut two = Group::new("/system.slice/pt-two.service");
    one.start(&["sleep", "1000"]);
    two.start(&["sleep", "1000"]);
    let agent = host.agent(r#"{ cgroups: ["/pt-batch/*"] }"#).await;
    let known = listed(&agent, "/pt-batch/one", 1).await;
    assert_eq!(known["runtime"], "cgroup");
    // Its name is a path: it is taken whole.
    let exec = common::exec(&agent, &["/pt-batch/one", "printenv", "PARACHUTE_TARGET_PID"]).output().unwrap();
    assert_eq!(text(&exec), format!("{}\n", one.pid()));
    host.configure(r#"{ services: ["pt-two.service", "pt-none@*.service"] }"#);
    agent.hang_up().unwrap();
    listed(&agent, "/pt-batch/one", 0).await;
    listed(&agent, "pt-two.service", 1).await;
    run(&agent, "target", "pt-two.service").await;

    // Without an agent: a look of one's own.
    let ps = text(&host.parachute(&["ps", "-o", "name"]));
    assert!(ps.lines().any(|line| line == "pt-two.service"), "{ps}");
    let told = host.parachute(&["run", "target", "--container", "pt-two.service", "-o", "raw"]);
    assert_eq!(printed(&told), format!("pid {}\nsleep\n", two.pid()));
    let doctor = text(&host.parachute(&["doctor"]));
    let line = "services pt-none@*.service: matches nothing that runs now";
    assert!(doctor.contains("warn  targets") && doctor.contains(line), "{doctor}");
    assert!(doctor.contains("services pt-two.service: 1\n"), "{doctor}");
    let checked = Command::new(env!("CARGO_BIN_EXE_parachute"))
        .arg("check-config")
        .arg(host.path("parachute.yml"))
        .output()
        .unwrap();
    assert!(
        text(&checked).contains("\n  targets: services pt-two.service, pt-none@*.service\n"),
        "{}",
        text(&checked)
    );
    let missing = text(&common::exec(&agent, &["pt-other.service", "true"]).output().unwrap());
    assert!(missing.contains("systemctl show -P MainPID pt-other.service"), "{missing}");

    // A group that was empty all the time, and then is not, is found: its first exec writes a record.
    host.configure(r#"{ cgroups: ["/pt-batch/*"] }"#);
    one.kill();
    agent.hang_up().unwrap();
    listed(&agent, "pt-two.service", 0).await;
    one.start(&["sleep", "1000"]);
    listed(&agent, "/pt-batch/one", 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop((one, two));
    host.finish(agent);
}
