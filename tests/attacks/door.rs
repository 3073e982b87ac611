//! The front door, from inside a container on the host's network.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;
use testbed::{Agent, Kind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Held, by_hand};
use crate::common::{self, READY, Rig, SOON};

/// 23. A container on the host's network reaches the agent's loopback port, and so does every other process: nothing can be
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
        let port = agent.address().port().to_string();
        let name = format!("host-network-{post}");
        let held =
            Held::start(&rig, Kind::HostNetwork, &name, &["/attacker", "post", &port, "/out", &body]).await;
        let answer = common::eventually("the container has asked", SOON, async || {
            let answer = held.file("/out");
            if answer.is_empty() { Err("not yet".into()) } else { Ok(answer) }
        })
        .await;
        assert!(answer.contains(&post.to_string()), "{answer}");
        assert_eq!(agent.get("/metrics").await.unwrap().status, metrics);
        assert_eq!(agent.get("/-/healthy").await.unwrap().status, 200);
        assert_eq!(agent.post("/-/reload", "").await.unwrap().status, post);
        if post == 401 {
            for (token, status) in [(TOKEN, 200), ("7d9f8e2c5b1a4f61", 401)] {
                assert_eq!(with_token(&agent, token, &body).await, status, "{token}");
            }
        }
        // Where root alone can ask, nothing more is needed.
        let socket = agent.run_directory().join("agent.sock");
        let asked = tokio::process::Command::new("curl")
            .args([
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "-d",
                &body,
                "-H",
                "Content-Type: application/json",
            ])
            .arg("--unix-socket")
            .arg(socket)
            .arg("http://localhost/api/v1/run")
            .output()
            .await
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&asked.stdout), "200");
        held.remove().await;
    }
    rig.finish_alone();
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
