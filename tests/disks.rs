//! Disks that are full, read-only or hang, and folders that hold what nobody expects: the keeping stops and says so, the
//! agent does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::{Agent, Pod, WORKLOAD_IMAGE};

use crate::common::alerting::{self, alert, captures, payload};
use crate::common::{self, Rig, SOON};

/// 600,000 bytes that do not become fewer when they are compressed.
const CONFIGURATION: &str = r#"
captures: { max_size: MAX_SIZE }
probes:
  noise: { command: [head, -c, "600000", /dev/urandom], keep: always, parse: none }
  little: { command: [ss, -s], keep: always, parse: none }
triggers:
  by-hand: { http: {}, probes: [noise, little] }
  any:
    alert: { labels: { alertname: "*" } }
    target: { namespace: "{{namespace}}", pod: "{{pod}}", container: "{{container}}" }
    cooldown: 0s
    probes: [little]
"#;

/// A request that the disk may hold up is no hang before that.
const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_full_and_a_read_only_disk_stop_the_keeping_alone() {
    let rig = Rig::new().await;
    let disk = Mounted::ext4(&rig, 8);
    let flags = ["--storage.path", disk.path.to_str().unwrap()];
    let configuration = CONFIGURATION.replace("MAX_SIZE", "1GiB");
    let agent = rig.agent_with(&configuration, &flags).await;
    let pod = pod(&rig, &agent).await;

    for _ in 0..16 {
        assert_eq!(run(&agent, "noise").await["outcome"], "ok", "a run does not need the disk");
    }
    let kept = settled(&agent).await;
    assert!((1..13).contains(&kept.len()), "{} captures of 600 kB on a disk of 8 MB", kept.len());
    for capture in &kept {
        assert_eq!(alerting::stdout(&agent, capture).await.len(), 600_000, "half a capture is none");
    }
    let failures = failures(&agent).await;
    assert!(failures >= 3.0, "{failures} failures are counted");
    promised(&agent).await;

    // With room again there are captures again, without a restart.
    for capture in kept {
        let path = format!("/api/v1/captures/{}", capture["id"].as_str().unwrap());
        let (status, head, _) = testbed::exchange(agent.address(), "DELETE", &path, &[], "").await.unwrap();
        assert!(matches!(status, 200 | 204), "{head}");
    }
    common::eventually("it keeps again", SOON * 2, async || {
        run(&agent, "noise").await;
        if captures(&agent, "").await.is_empty() { Err("nothing".into()) } else { Ok(()) }
    })
    .await;

    disk.fail();
    let before = self::failures(&agent).await;
    let kept = captures(&agent, "").await.len();
    assert_eq!(run(&agent, "little").await["outcome"], "ok");
    let answer = alerting::post(&agent, &payload("ro", &[alert("ReadOnly", "cart-0", 1)])).await.unwrap();
    println!("an alert on a read-only disk: {} {}", answer.status, answer.body);
    assert!(matches!(answer.status, 202 | 503), "{}", answer.body);
    common::eventually("that nothing is kept is counted", SOON, async || {
        let now = self::failures(&agent).await;
        if now > before { Ok(()) } else { Err(format!("{now}")) }
    })
    .await;
    assert_eq!(captures(&agent, "").await.len(), kept, "what is there is listed");
    drop(agent);

    // It also starts on such a disk.
    let agent = rig.agent_with(&configuration, &flags).await;
    common::knows(&agent, std::slice::from_ref(&pod)).await;
    assert_eq!(run(&agent, "little").await["outcome"], "ok");
    promised(&agent).await;
    drop(agent);
    drop(disk);
    rig.finish_alone();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_holds_up_nobody() {
    let rig = Rig::new().await;
    let disk = Mounted::ext4(&rig, 64);
    let flags = ["--storage.path", disk.path.to_str().unwrap()];
    let agent = rig.agent_with(&CONFIGURATION.replace("MAX_SIZE", "1GiB"), &flags).await;
    let _pod = pod(&rig, &agent).await;
    run(&agent, "noise").await;
    assert_eq!(settled(&agent).await.len(), 1);

    // Every write waits in the kernel until the disk thaws, as on a network disk whose server has gone.
    let frozen = Frozen::new(&disk.path);
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(run(&agent, "little").await["outcome"], "ok");
        promised(&agent).await;
        longest = longest.max(began.elapsed());
    }
    println!("with a disk that hangs, a run and a scrape took {longest:.1?} at most");
    assert!(longest < PATIENCE, "a run and a scrape took {longest:?}");
    let began = Instant::now();
    let answer = alerting::post(&agent, &payload("hung", &[alert("Hung", "cart-0", 1)])).await.unwrap();
    println!("an alert on a disk that hangs: {} after {:.1?}", answer.status, began.elapsed());
    // It cannot be written down, and must not be said to be.
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    drop(frozen);

    // Delivered again it is answered well, and has run once.
    common::eventually("the alert is taken", SOON, async || {
        let again = alerting::post(&agent, &payload("hung", &[alert("Hung", "cart-0", 1)])).await.unwrap();
        if matches!(again.status, 200 | 202) { Ok(()) } else { Err(again.body) }
    })
    .await;
    let samples = agent.scrape().await.unwrap();
    let runs = common::sum(&samples, "parachute_probe_runs_total", &[("trigger", "any")]);
    assert!(runs <= 1.0, "{runs} runs");
    common::eventually("it keeps again", SOON * 2, async || {
        run(&agent, "noise").await;
        if settled(&agent).await.len() > 1 { Ok(()) } else { Err("nothing new".into()) }
    })
    .await;
    drop(agent);
    drop(disk);
    rig.finish_alone();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_holds_and_what_is_foreign_is_set_aside() {
    let rig = Rig::new().await;
    let storage = rig.path("storage");
    let flags = ["--storage.path", storage.to_str().unwrap()];
    let configuration = CONFIGURATION.replace("MAX_SIZE", "2MiB");
    let agent = rig.agent_with(&configuration, &flags).await;
    let pod = pod(&rig, &agent).await;
    let mut newest = Vec::new();
    for _ in 0..8 {
        newest.push(run(&agent, "noise").await["started_at"].clone());
    }
    let kept = settled(&agent).await;
    let size: u64 = size_of(&storage.join("captures"));
    println!("{} captures are kept of 8, {size} bytes on the disk", kept.len());
    assert!((2..4).contains(&kept.len()) && size <= 2 << 20, "{} captures, {size} bytes", kept.len());
    // The newest stay, and are listed first.
    for (capture, started) in kept.iter().zip(newest.iter().rev()) {
        assert_eq!(&capture["started_at"], started);
    }
    drop(agent);

    let folder = storage.join("captures");
    let id = |at: usize| kept[at]["id"].as_str().unwrap();
    // As a later parachute might write it, and as a disk might spoil it.
    let record = fs::read_to_string(folder.join(id(0)).join("record.json")).unwrap();
    let mut later: Value = serde_json::from_str(&record).unwrap();
    later["version"] = json!(99);
    fs::write(folder.join(id(0)).join("record.json"), later.to_string()).unwrap();
    fs::write(folder.join(id(1)).join("record.json"), &record[..record.len() / 2]).unwrap();
    fs::write(folder.join("a file of somebody's"), "which is no capture").unwrap();
    // What is set aside may have half of the room: all three fit there.
    let configuration = CONFIGURATION.replace("MAX_SIZE", "8MiB");
    let agent = rig.agent_with(&configuration, &flags).await;
    common::knows(&agent, &[pod]).await;
    common::eventually("all three are set aside", SOON, async || {
        let samples = agent.scrape().await.unwrap();
        let aside =
            |reason: &str| common::sum(&samples, "parachute_capture_set_aside_total", &[("reason", reason)]);
        let now = ["future_version", "corrupt", "foreign"].map(aside);
        if now == [1.0, 1.0, 1.0] { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert_eq!(captures(&agent, "").await.len(), kept.len() - 2);
    let text = Command::new("grep").args(["-rl", "which is no capture"]).arg(&folder).output().unwrap();
    assert!(!text.stdout.is_empty(), "nothing of somebody's is removed");
    run(&agent, "little").await;
    promised(&agent).await;
    rig.finish(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_captures_are_listed() {
    const CAPTURES: usize = 100_000;

    let rig = Rig::new().await;
    // On a disk of memory: this is not about the disk.
    let disk = Mounted::tmpfs(rig.path("disk"), "4g");
    let flags = ["--storage.path", disk.path.to_str().unwrap()];
    let configuration = CONFIGURATION.replace("MAX_SIZE", "100GiB");
    let agent = rig.agent_with(&configuration, &flags).await;
    let pod = pod(&rig, &agent).await;
    run(&agent, "little").await;
    let first = settled(&agent).await.remove(0);
    drop(agent);
    let began = Instant::now();
    copies(&disk.path.join("captures"), &first, CAPTURES - 1);
    println!("{CAPTURES} captures are made in {:.1?}", began.elapsed());

    let began = Instant::now();
    let agent = rig.agent_with(&configuration, &flags).await;
    println!("the agent is ready after {:.1?}", began.elapsed());
    common::knows(&agent, &[pod]).await;
    common::eventually("all are known", SOON * 3, async || {
        let samples = agent.scrape().await.unwrap();
        let now = common::sum(&samples, "parachute_captures", &[]);
        if now == CAPTURES as f64 { Ok(()) } else { Err(format!("{now}")) }
    })
    .await;
    println!("all are known after {:.1?}", began.elapsed());
    let began = Instant::now();
    let (mut listed, mut pages, mut last) = (0, 0, String::new());
    loop {
        let before = if last.is_empty() { String::new() } else { format!("&before={last}") };
        let page = captures(&agent, &format!("limit=1000{before}")).await;
        let Some(oldest) = page.last() else { break };
        let id = oldest["id"].as_str().unwrap().to_owned();
        assert!(last.is_empty() || id < last, "the newest first");
        last = id;
        listed += page.len();
        pages += 1;
    }
    println!("{listed} are listed over HTTP in {pages} pages in {:.1?}", began.elapsed());
    assert_eq!(listed, CAPTURES);
    let began = Instant::now();
    let mut list = Command::new(env!("CARGO_BIN_EXE_parachute"));
    let output = list.args(["captures", "list", "--limit", "0", "-o", "name"]).args(flags).output().unwrap();
    let lines = String::from_utf8_lossy(&output.stdout).lines().count();
    println!("the command line lists {lines} in {:.1?}", began.elapsed());
    assert!(output.status.success() && lines == CAPTURES, "{:?}", output.stderr);
    assert_eq!(run(&agent, "little").await["outcome"], "ok");
    drop(agent);
    drop(disk);
    rig.finish_alone();
}

/// Copies a capture under other names, which are ids of runs that began before.
fn copies(folder: &Path, capture: &Value, count: usize) {
    let id = capture["id"].as_str().unwrap();
    let record = fs::read_to_string(folder.join(id).join("record.json")).unwrap();
    let stdout = fs::read(folder.join(id).join("stdout.zst")).unwrap();
    let stderr = fs::read(folder.join(id).join("stderr.zst")).ok();
    for n in 0..count {
        let copy = format!("{}{n:08}", &id[..id.len() - 8]);
        let place = folder.join(&copy);
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::metadata(folder.join(id)).unwrap().permissions()).unwrap();
        fs::write(place.join("record.json"), record.replace(id, &copy)).unwrap();
        fs::write(place.join("stdout.zst"), &stdout).unwrap();
        if let Some(stderr) = &stderr {
            fs::write(place.join("stderr.zst"), stderr).unwrap();
        }
    }
}

async fn pod(rig: &Rig, agent: &Agent) -> Pod {
    let pod = rig.bed.pod("shop", "cart-0").container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    let pod = pod.start().await.unwrap();
    common::knows(agent, std::slice::from_ref(&pod)).await;
    pod
}

async fn run(agent: &Agent, probe: &str) -> Value {
    let body = json!({ "probe": probe, "target": { "pod": "cart-0", "container": "main" } }).to_string();
    let answer = agent.post("/api/v1/run", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// The captures when no more come.
async fn settled(agent: &Agent) -> Vec<Value> {
    let mut before = captures(agent, "").await;
    loop {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let now = captures(agent, "").await;
        if now.len() == before.len() {
            return now;
        }
        before = now;
    }
}

async fn failures(agent: &Agent) -> f64 {
    common::sum(&agent.scrape().await.unwrap(), "parachute_capture_failures_total", &[])
}

/// What an agent does whatever its disk does.
async fn promised(agent: &Agent) {
    for path in ["/metrics", "/-/ready", "/-/healthy", "/api/v1/containers"] {
        let answer = agent.get(path).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
}

fn size_of(folder: &Path) -> u64 {
    let output = Command::new("du").args(["-sB1"]).arg(folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// A file system of the test's own.
struct Mounted {
    path: PathBuf,
    device: Option<String>,
}

impl Mounted {
    fn tmpfs(path: PathBuf, size: &str) -> Self {
        fs::create_dir(&path).unwrap();
        let options = format!("size={size},mode=700");
        succeeds(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path));
        Self { path, device: None }
    }

    /// Of so many MiB, and without a journal of its own, which would take half of a small one.
    fn ext4(rig: &Rig, size: u64) -> Self {
        let (file, path) = (rig.path("ext4"), rig.path("disk"));
        fs::create_dir(&path).unwrap();
        fs::File::create(&file).unwrap().set_len(size << 20).unwrap();
        succeeds(Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal"]).arg(&file));
        let device = succeeds(Command::new("losetup").args(["--find", "--show"]).arg(&file));
        succeeds(Command::new("mount").args(["-o", "errors=remount-ro", &device]).arg(&path));
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Self { path, device: Some(device) }
    }

    /// Lets the file system believe that it has found an error, as Debian's would on a failing disk: it is read-only from
    /// then on, whoever has files open.
    fn fail(&self) {
        let device =
            Path::new(self.device.as_ref().unwrap()).file_name().unwrap().to_string_lossy().into_owned();
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test").unwrap();
        assert!(fs::write(self.path.join("a file"), "").is_err(), "the disk is read-only");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        succeeds(Command::new("umount").arg(&self.path));
        if let Some(device) = &self.device {
            succeeds(Command::new("losetup").args(["--detach", device]));
        }
    }
}

/// A file system on which every write waits; it thaws when this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn new(path: &Path) -> Self {
        succeeds(Command::new("fsfreeze").arg("--freeze").arg(path));
        Self(path.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        succeeds(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0));
    }
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
