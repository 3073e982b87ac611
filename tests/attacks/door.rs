//! The front door, from inside a container on the host's network.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

use serde_json::json;
use testbed::{Agent, Kind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Held, by_hand, tried};
use crate::common::{self, READY, Rig, SOON};

/// 23: A container on the host's network reaches the agent's loopback port, and so does every other process: nothing can be
/// started there without a token, and with one nothing is told but health. No request chooses a command.
#[tokio::test(flavor = "multi_thread")]
async fn a23_nobody_starts_anything_without_a_token() {
    const TOKEN: &str = "7d9f8e2c5b1a4f60";
    let rig = Rig::new().await;
    let token = rig.path("token");
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_parachute"));
    let path = rig.configuration(&by_hand(&[("quick", "command: ['true']")], ""));
    for (flags, post, metrics) in
        [(vec![], 403, 200), (vec!["--web.token-file", token.to_str().unwrap()], 401, 401)]
    {
        let mut agent = Agent::start_with(program, &path, &flags, |line| println!("agent: {line}")).unwrap();
        agent.ready(READY).await.unwrap();
        let body = json!({ "probe": "quick", "target": { "container": "main" } }).to_string();
        let address = agent.address().to_string();
        let kinds = if post == 403 { &Kind::ALL[..] } else { &[Kind::HostNetwork] };
        for kind in kinds.iter().copied() {
            let name = format!("{kind}-{post}");
            let held = Held::start(&rig, kind, &name, &["/attacker", "post", &address, "/out", &body]).await;
            let answer = common::eventually("the container has asked", SOON, async || {
                let answer = held.file("/out");
                if answer.is_empty() { Err("not yet".into()) } else { Ok(answer) }
            })
            .await;
            // Only on the host's network is the loopback address the host's.
            let wanted = if kind == Kind::HostNetwork { post.to_string() } else { "failed: ".to_owned() };
            assert!(answer.contains(&wanted), "{kind}: {answer}");
            held.remove().await;
        }
        assert_eq!(agent.get("/metrics").await.unwrap().status, metrics);
        assert_eq!(agent.get("/-/healthy").await.unwrap().status, 200);
        assert_eq!(agent.post("/-/reload", "").await.unwrap().status, post);
        // Where root alone can ask, nothing more is needed.
        let held = Held::start(&rig, Kind::Default, &format!("asked-{post}"), &["/workload", "sleep"]).await;
        common::eventually("the agent knows it", SOON, async || {
            let listed = socket_asks(&agent, "/api/v1/containers", None).await.1;
            if listed.contains(&held.container.id) { Ok(()) } else { Err(listed) }
        })
        .await;
        let body = json!({ "probe": "quick", "target": { "id": held.container.id } }).to_string();
        assert_eq!(socket_asks(&agent, "/api/v1/run", Some(&body)).await.0, 200);
        if post == 401 {
            for (token, status) in [(TOKEN, 200), ("7d9f8e2c5b1a4f61", 401)] {
                assert_eq!(with_token(&agent, token, &body).await, status, "{token}");
            }
        }
        held.remove().await;
    }
    tried("a23 starting something without a token", &Kind::ALL);
    rig.finish_alone();
}

/// 23: Without a flag an agent listens on a loopback address, which is the host's network namespace's own.
#[tokio::test(flavor = "multi_thread")]
async fn a23_an_agent_listens_on_loopback_by_default() {
    let rig = Rig::new().await;
    // The flag and its value are left out.
    let wrapper = rig.script(
        "all=()\nwhile [ $# -gt 0 ]; do if [ \"$1\" = --web.listen-address ]; then shift; else all+=(\"$1\"); fi; shift; done\n\
         exec \"$AGENT\" \"${all[@]}\"\n",
    );
    let path = rig.configuration(&by_hand(&[("quick", "command: ['true']")], ""));
    let agent = Agent::start_with(&wrapper, &path, &[], |line| println!("agent: {line}")).unwrap();
    let own = common::eventually("it listens", SOON, async || {
        let own = listening(&agent);
        if own.is_empty() { Err("not yet".into()) } else { Ok(own) }
    })
    .await;
    assert!(own.iter().all(|address| address.starts_with("127.0.0.1:")), "{own:?}");
    rig.finish(agent);
}

/// Addresses of the agent's listening TCP sockets.
fn listening(agent: &Agent) -> Vec<String> {
    let listed = std::process::Command::new("ss").args(["-Hltnp"]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let own = format!("pid={},", agent.pid());
    let lines = listed.lines().filter(|line| line.contains(&own));
    lines.map(|line| line.split_whitespace().nth(3).unwrap().to_owned()).collect()
}

/// 23: What is sent at the door: a body without an end, a head that never ends, fields that would choose a command, a user, an
/// environment or a target outside of what the trigger selects. Each is refused by its status, within bounds of time and memory.
#[tokio::test(flavor = "multi_thread")]
async fn a23_no_request_is_too_large_too_slow_or_says_too_much() {
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/workload", "sleep"]).await;
    let other = Held::start(&rig, Kind::Default, "other-0", &["/workload", "sleep"]).await;
    let configuration = "probes:\n  quick: { command: ['true'], parse: none }\n\
                         triggers:\n  by-hand: { http: {}, probes: [quick], match: { pod: 'default-*' } }\n";
    let agent = rig.agent(configuration).await;
    assert_eq!(held.run(&agent, "quick").await["outcome"], "ok");
    let id = &held.container.id;
    for (field, value) in [
        ("command", json!(["id"])),
        ("argv", json!(["id"])),
        ("shell", json!("id")),
        ("path", json!("/bin/sh")),
        ("env", json!({ "LD_PRELOAD": "/evil.so" })),
        ("uid", json!(0)),
        ("isolation", json!("joined")),
        ("timeout", json!("1h")),
    ] {
        let mut body = json!({ "probe": "quick", "target": { "id": id } });
        body[field] = value.clone();
        let answer = agent.post("/api/v1/run", &body.to_string()).await.unwrap();
        assert_eq!(answer.status, 400, "{field}: {}", answer.body);
        let mut body = json!({ "probe": "quick", "target": { "id": id } });
        body["target"][field] = value;
        let answer = agent.post("/api/v1/run", &body.to_string()).await.unwrap();
        assert_eq!(answer.status, 400, "target.{field}: {}", answer.body);
    }
    // Known, and not selected.
    let body = json!({ "probe": "quick", "target": { "id": other.container.id } }).to_string();
    assert_eq!(agent.post("/api/v1/run", &body).await.unwrap().status, 404);

    for length in [(64 << 10) + 1, (1 << 20) + 1, 64 << 20] {
        let answer = raw(&agent, &format!("Content-Length: {length}\r\n\r\n"), Some(length)).await;
        assert!(answer.contains(" 413 "), "{length}: {answer}");
    }
    let since = Instant::now();
    let answer = raw(&agent, "X-Slow: 1\r\n", None).await;
    assert!(answer.is_empty() || answer.contains(" 408 "), "{answer}");
    assert!(since.elapsed() < SOON, "a head that does not end was waited for");
    assert_eq!(agent.get("/-/healthy").await.unwrap().status, 200);
    println!("tried: a23 8 fields that choose, a body without an end, a head without an end: refused");
    drop((held, other));
    rig.finish(agent);
}

/// Sends the beginning of a run request and, if there is to be one, a body, as much as the agent takes; returns its answer.
async fn raw(agent: &Agent, head: &str, body: Option<usize>) -> String {
    let stream = tokio::net::TcpStream::connect(agent.address()).await.unwrap();
    let (mut reads, mut writes) = stream.into_split();
    let start = format!("POST /api/v1/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{head}");
    writes.write_all(start.as_bytes()).await.unwrap();
    let send = tokio::spawn(async move {
        for _ in 0..body.unwrap_or(0).div_ceil(1 << 16) {
            if writes.write_all(&vec![b' '; 1 << 16]).await.is_err() {
                break;
            }
        }
        writes
    });
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, reads.read_to_end(&mut answer)).await.expect("the agent closes");
    send.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

/// 9: Words and environments of processes are there for everybody on the host to read (`proc_pid_cmdline(5)`): while an agent with a
/// token runs something, the token is in none.
#[tokio::test(flavor = "multi_thread")]
async fn a09_no_secret_is_in_anybodys_words() {
    const TOKEN: &str = "3f6b0c1d9e8a7755";
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/workload", "sleep"]).await;
    let file = rig.path("token");
    fs::write(&file, TOKEN).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let probes = [
        ("observer", "command: [sleep, '2.5'], timeout: 9s"),
        ("joined", "command: [sleep, '2.5'], timeout: 9s, isolation: joined"),
    ];
    let path = rig.configuration(&by_hand(&probes, ""));
    let program = Path::new(env!("CARGO_BIN_EXE_parachute"));
    let flags = ["--web.token-file", file.to_str().unwrap()];
    let mut agent = Agent::start_with(program, &path, &flags, |line| println!("agent: {line}")).unwrap();
    agent.ready(READY).await.unwrap();
    common::eventually("the agent knows the container", SOON, async || {
        let listed = socket_asks(&agent, "/api/v1/containers", None).await.1;
        if listed.contains(&held.container.id) { Ok(()) } else { Err(listed) }
    })
    .await;
    let mut looked = 0;
    for (probe, _) in probes {
        let body = json!({ "probe": probe, "target": { "id": held.container.id } }).to_string();
        let (status, seen) = tokio::join!(
            with_token(&agent, TOKEN, &body),
            common::eventually("the command runs", SOON, async || {
                let all = everybodys_words();
                let told: Vec<_> = all.iter().filter(|words| words.contains(TOKEN)).collect();
                assert!(told.is_empty(), "{told:?}");
                let runs = all.iter().any(|words| words.starts_with("sleep\x002.5\0"));
                if runs { Ok(all.len()) } else { Err(format!("{} others", all.len())) }
            })
        );
        assert_eq!(status, 200);
        looked += seen;
    }
    println!("tried: a09 a secret in words and environment, {looked} looked at: 0 hits");
    drop(held);
    rig.finish(agent);
}

/// Words and environment of every process, but for this one, whose requests have the token.
fn everybodys_words() -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let others = all.filter(|path| !path.ends_with(std::process::id().to_string()));
    let read = |path: &Path, name: &str| {
        String::from_utf8_lossy(&fs::read(path.join(name)).unwrap_or_default()).into_owned()
    };
    others.map(|path| read(&path, "cmdline") + &read(&path, "environ")).collect()
}

/// Asks at the agent's socket, where only root can.
async fn socket_asks(agent: &Agent, path: &str, body: Option<&str>) -> (u16, String) {
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["-s", "-w", "\n%{http_code}", "-H", "Content-Type: application/json"]);
    if let Some(body) = body {
        curl.args(["-d", body]);
    }
    curl.arg("--unix-socket").arg(agent.run_directory().join("agent.sock"));
    let asked = curl.arg(format!("http://localhost{path}")).output().await.unwrap();
    let answer = String::from_utf8_lossy(&asked.stdout).into_owned();
    let (body, status) = answer.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

async fn with_token(agent: &Agent, token: &str, body: &str) -> u16 {
    let mut stream = tokio::net::TcpStream::connect(agent.address()).await.unwrap();
    let request = format!(
        "POST /api/v1/run HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}
