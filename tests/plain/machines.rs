//! A machine of systemd-nspawn and a container of LXC's, with a root of busybox, each as its own program starts it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Host, alerted, listed, printed, run, stdout, text};
use crate::common::alerting::captured;
use crate::common::groups::{self, Group};
use crate::common::{self, SOON};

/// What the two need of a system.
fn root(host: &Host, name: &str) -> PathBuf {
    let root = host.path(name);
    for folder in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("etc/os-release"), "ID=test\n").unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for tool in ["sh", "sleep", "mkdir", "echo", "cat"] {
        symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    root
}

/// It is given nearly all of root's rights, so that it is refused unless it is trusted.
async fn is_refused(agent: &testbed::Agent, name: &str) {
    let ask = json!({ "probe": "links", "target": { "container": name } });
    let answer = agent.post("/api/v1/run", &ask.to_string()).await.unwrap();
    let told = answer.body.contains("every capability that the probe declares");
    assert!(told && answer.body.contains("allow_unsafe_joined"), "{}", answer.body);
    let exec = common::exec(agent, &[name, "true"]).output().unwrap();
    assert!(!exec.status.success() && text(&exec).contains("--allow-unsafe-target"), "{}", text(&exec));
}

/// Its own network and its own processes, and nothing of the host's.
async fn is_apart(agent: &testbed::Agent, name: &str) {
    let links = run(agent, "links", name).await;
    assert!(stdout(&links).lines().all(|line| line.contains("lo") || line.contains("host0")), "{links}");
    let target = run(agent, "target", name).await;
    assert!(stdout(&target).starts_with("pid 1\n"), "{target}");
    let exec =
        common::exec(agent, &["--allow-unsafe-target", name, "ps", "-e", "-o", "args="]).output().unwrap();
    let said = text(&exec);
    assert!(
        exec.status.success() && said.contains("sleep 1000") && !said.contains("parachute agent"),
        "{said}"
    );
    alerted(agent, name).await;
    let at_start = captured(agent, &format!("trigger=at-start&container={name}"), 1).await;
    assert_eq!(at_start[0]["outcome"], "ok", "{}", at_start[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_systemd_nspawn_is_found_by_its_name() {
    let host = Host::new().await;
    let agent = host.agent(r#"{ machines: ["pt-none"] }"#).await;
    let name = "pt-web-1";
    host.trust(r#"{ machines: ["pt-*"] }"#);
    agent.hang_up().unwrap();
    let mut nspawn = Command::new("systemd-nspawn");
    nspawn.args(["--quiet", "--private-network", "--machine", name, "--directory"]).arg(root(&host, "root"));
    nspawn.stdin(Stdio::null()).stdout(Stdio::null());
    // A systemd makes the machine's cgroup; without one on the host there is nobody to do it. This is the place that its
    // unit would be in.
    let has_systemd = Path::new("/run/systemd/system").exists();
    println!("systemd is the host's first process: {has_systemd}");
    let is_active = || Command::new("systemctl").args(["is-active", "--quiet", "machine.slice"]).status();
    let had_machines = has_systemd && is_active().unwrap().success();
    let group = (!has_systemd).then(|| Group::new(r"/machine.slice/systemd-nspawn@pt\x2dweb\x2d1.service"));
    let command = ["--as-pid2", "/bin/sh", "-c", "sleep 1000; true"];
    let mut child = if let Some(group) = &group {
        nspawn.args(["--register=no", "--keep-unit"]).args(command);
        let words: Vec<_> = nspawn.get_args().map(|word| word.to_str().unwrap().to_owned()).collect();
        group.also(&[&["systemd-nspawn"], &words.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat())
    } else {
        nspawn.args(command).spawn().unwrap()
    };
    let found = listed(&agent, name, 1).await;
    assert_eq!((&found["runtime"], &found["host_namespaces"]), (&json!("nspawn"), &json!([])));
    assert_ne!(found["pid"], child.id(), "not its supervisor");
    // Other targets change nothing for it, and without an agent it is found where it stands.
    host.trust(r#"{ machines: ["pt-*"], services: ["pt-none.service"] }"#);
    agent.hang_up().unwrap();
    is_apart(&agent, name).await;
    assert_eq!(listed(&agent, name, 1).await["id"], found["id"]);
    assert!(printed(&host.parachute(&["ps"])).contains(name));
    host.configure(r#"{ machines: ["pt-*"] }"#);
    agent.hang_up().unwrap();
    common::eventually("the trust is taken back", SOON, async || {
        let ask = json!({ "probe": "links", "target": { "container": name } });
        let answer = agent.post("/api/v1/run", &ask.to_string()).await.unwrap();
        if answer.body.contains("allow_unsafe_joined") { Ok(()) } else { Err(answer.body) }
    })
    .await;
    is_refused(&agent, name).await;
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    child.wait().unwrap();
    listed(&agent, name, 0).await;
    drop(group);
    if !has_systemd {
        groups::clear("machine.slice");
    } else if !had_machines {
        // They come with the first machine, and stay.
        let names = ["systemd-machined.service", "machine.slice"];
        assert!(Command::new("systemctl").arg("stop").args(names).status().unwrap().success());
    }
    host.finish(agent);
}

/// Started by lxc-start, and gone with all that LXC leaves.
struct Lxc<'a> {
    folder: &'a Path,
    name: &'a str,
}

impl Lxc<'_> {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("--lxcpath").arg(self.folder).args(["--name", self.name]);
        command
    }
}

impl Drop for Lxc<'_> {
    fn drop(&mut self) {
        let _ = self.command("lxc-stop").arg("--kill").status();
        // Every hierarchy keeps an empty one, for the next container.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        for line in mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()) {
            let pivot = Path::new(line[1]).join("lxc.pivot");
            // LXC's monitor is in it until it has ended, a moment after its container.
            let deadline = Instant::now() + SOON;
            while ["cgroup", "cgroup2"].contains(&line[2]) && pivot.exists() && Instant::now() < deadline {
                if fs::remove_dir(&pivot).is_err() {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_lxc_is_found_by_its_name() {
    let host = Host::new().await;
    let targets = r#"{ lxc: ["pt-*"], services: ["pt-*.service"] }"#;
    let agent = host.agent(targets).await;
    host.trust(targets);
    agent.hang_up().unwrap();
    let folder = host.path("lxc");
    let lxc = Lxc { folder: &folder, name: "pt-c1" };
    fs::create_dir_all(folder.join(lxc.name)).unwrap();
    let config = format!(
        "lxc.rootfs.path = dir:{}\nlxc.uts.name = {}\nlxc.net.0.type = empty\nlxc.apparmor.profile = unchanged\n\
         lxc.mount.auto = proc:mixed sys:ro\nlxc.init.cmd = /bin/sleep 1000\n",
        root(&host, "root").display(),
        lxc.name
    );
    fs::write(folder.join(lxc.name).join("config"), config).unwrap();
    let log = host.path("lxc.log");
    let start = lxc.command("lxc-start").arg("--logfile").arg(&log).args(["--logpriority", "INFO"]).status();
    let said = || fs::read_to_string(&log).unwrap_or_default();
    assert!(start.unwrap().success(), "{}", said());
    println!("lxc: {}", said());
    let found = listed(&agent, lxc.name, 1).await;
    assert_eq!((&found["runtime"], &found["host_namespaces"]), (&json!("lxc"), &json!([])));
    let first = found["id"].clone();
    is_apart(&agent, lxc.name).await;

    // A cgroup of its own is called as a service of the host's is.
    let own = groups::root().join("lxc.payload.pt-c1/system.slice/pt-nginx.service");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("cgroup.procs"), found["pid"].to_string()).unwrap();
    let liar = common::exec(&agent, &["pt-nginx.service", "true"]).output().unwrap();
    assert!(!liar.status.success() && text(&liar).contains("no target pt-nginx.service"), "{liar:?}");
    listed(&agent, lxc.name, 1).await;

    // Stopped and started again under its name: another life.
    assert!(lxc.command("lxc-stop").arg("--kill").status().unwrap().success());
    listed(&agent, lxc.name, 0).await;
    assert!(lxc.command("lxc-start").status().unwrap().success(), "{}", said());
    let again = common::eventually("it is found again", SOON, async || {
        let again = listed(&agent, lxc.name, 1).await;
        if again["id"] == first { Err(again.to_string()) } else { Ok(again) }
    })
    .await;
    assert_ne!(again["pid"], found["pid"]);
    drop(lxc);
    host.finish(agent);
}
