//! The README's scrape configuration, as it stands there, on a real Prometheus; and one that proves who it is over TLS.

use std::fs;

use serde_json::{Value, json};
use testbed::{Prometheus, WORKLOAD_IMAGE, exchange};

use crate::common::{self, Rig, SOON};

const README: &str = include_str!("../README.md");

const CONFIGURATION: &str = r"
probes:
  sockets:
    command: [ss, -tln]
    parse: { regex: [{ name: asked_listeners, type: gauge, help: Listening TCP sockets., pattern: '^LISTEN' }] }
triggers:
  by-hand: { http: {}, probes: [sockets] }
";

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_lines_scrape_every_container() {
    let (_, block) = README.split_once("<!-- scrape-config -->").expect("the README shows a scrape_config");
    let (_, block) = block.split_once("```yaml\n").unwrap();
    let (lines, _) = block.split_once("```").unwrap();
    assert!(lines.lines().count() <= 10, "ten lines:\n{lines}");

    let rig = Rig::new().await;
    let token = rig.path("token");
    fs::write(&token, "a-token-of-the-tests\n").unwrap();
    common::roots_alone(&token);
    let mut agent = rig.unready_guarded(CONFIGURATION, &["--web.token-file", token.to_str().unwrap()]);
    agent.ready(common::READY).await.unwrap();
    for name in ["cart-0", "cart-1"] {
        let pod = rig.bed.pod("shop", name).label("app", "cart");
        pod.container("main", WORKLOAD_IMAGE, &["/workload", "listen", "3", "0"]).start().await.unwrap();
    }
    let lines = lines
        .replace("127.0.0.1:10068", &agent.address().to_string())
        .replace("/etc/prometheus/parachute.token", token.to_str().unwrap());
    assert!(lines.contains(&agent.address().to_string()), "the agent's usual address is in\n{lines}");
    // What a user changes is when, and the list of targets is read once a minute by default.
    let quick = lines.replacen("http_sd_configs: [{", "http_sd_configs: [{ refresh_interval: 1s,", 1);
    let configuration = format!("global: {{ scrape_interval: 1s }}\n{quick}");
    let prometheus = Prometheus::start(&rig.path("prometheus"), &configuration).await.unwrap();
    common::eventually("both are scraped", SOON, async || {
        let targets = prometheus.targets().await.unwrap();
        let found = prometheus.query("asked_listeners == 3 and on(pod) probe_success == 1").await.unwrap();
        let has = |pod: &str| {
            found.iter().any(|series| {
                let labels = &series["metric"];
                (&labels["namespace"], &labels["pod"], &labels["container"])
                    == (&json!("shop"), &json!(pod), &json!("main"))
            })
        };
        let up = targets.iter().filter(|target| target["health"] == "up").count();
        if has("cart-0") && has("cart-1") && up == 2 && targets.len() == 2 {
            Ok(())
        } else {
            Err(format!("{targets:?}\n{found:?}\n{}", prometheus.log()))
        }
    })
    .await;
    let times = prometheus.query("probe_duration_seconds > 0").await.unwrap();
    assert_eq!(times.len(), 2, "{times:?}");
    drop(prometheus);
    rig.finish(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_proves_who_it_is_over_tls() {
    let rig = Rig::new().await;
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&authority).unwrap().pem();
    for (name, text) in [("cert.pem", certificate), ("key.pem", authority.serialize_pem())] {
        fs::write(rig.path(name), text).unwrap();
    }
    common::roots_alone(&rig.path("key.pem"));
    fs::write(rig.path("web.yml"), WEB).unwrap();
    common::roots_alone(&rig.path("web.yml"));
    let agent =
        rig.unready_guarded(CONFIGURATION, &["--web.config.file", rig.path("web.yml").to_str().unwrap()]);

    let job = |name: &str, scheme: &str, more: Value| {
        let mut job = json!({
            "job_name": name, "scheme": scheme, "scrape_interval": "1s",
            "static_configs": [{ "targets": [agent.address()] }],
        });
        if scheme == "https" {
            job["tls_config"] = json!({ "ca_file": rig.path("cert.pem"), "server_name": "localhost" });
        }
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        job
    };
    let basic = |password: &str| json!({ "basic_auth": { "username": "prometheus", "password": password } });
    let bearer = |token: &str| json!({ "authorization": { "credentials": token } });
    let jobs = json!({ "scrape_configs": [
        job("password", "https", basic("a password of the tests")),
        job("wrong-password", "https", basic("another")),
        job("token", "https", bearer("a-reader-of-the-tests")),
        job("wrong-token", "https", bearer("a-reader-of-the-test")),
        job("wrong-role", "https", bearer("a-trigger-of-the-tests")),
        job("nobody", "https", json!({})),
        job("plain", "http", basic("a password of the tests")),
        job("stranger", "https", json!({ "tls_config": {}, "basic_auth": basic("a password of the tests")["basic_auth"] })),
    ] });
    let prometheus = Prometheus::start(&rig.path("prometheus"), &jobs.to_string()).await.unwrap();
    let expected = [("password", true), ("token", true)];
    common::eventually("those who may do, and nobody else does", SOON, async || {
        let targets = prometheus.targets().await.unwrap();
        let known = targets.iter().filter(|target| target["health"] != "unknown").count();
        let up: Vec<&str> = targets
            .iter()
            .filter(|target| target["health"] == "up")
            .map(|target| target["labels"]["job"].as_str().unwrap())
            .collect();
        let right =
            known == 8 && up.len() == expected.len() && expected.iter().all(|(job, _)| up.contains(job));
        if right { Ok(()) } else { Err(format!("{targets:#?}")) }
    })
    .await;
    let targets = prometheus.targets().await.unwrap();
    for (job, says) in [
        ("wrong-password", "401"),
        ("wrong-token", "401"),
        ("wrong-role", "403"),
        ("nobody", "401"),
        ("stranger", "certificate"),
    ] {
        let target = targets.iter().find(|target| target["labels"]["job"] == job).unwrap();
        assert!(target["lastError"].as_str().unwrap().contains(says), "{target}");
    }
    // Nothing is said to who speaks no TLS, were it the right password.
    let plain = exchange(agent.address(), "GET", "/metrics", &[], "").await;
    assert!(plain.as_ref().is_err() || plain.as_ref().is_ok_and(|answer| answer.0 == 400), "{plain:?}");
    drop(prometheus);
    rig.finish(agent);
}

/// A password and two tokens with a role each; the hashes are of `a password of the tests` and of the tokens above.
const WEB: &str = r"
tls_server_config: { cert_file: cert.pem, key_file: key.pem }
basic_auth_users: { prometheus: '$2y$05$abcdefghijklmnopqrstuuComanBKiU1JTRzmmvE2xk8ApqQhbSI.' }
user_roles: { prometheus: [read] }
bearer_tokens:
  reader: { roles: [read], sha256: 7f6eee980daed2cb650582c6e0fccc48e2cde15f148edf01fbe81a95aae2e466 }
  starter: { roles: [trigger], sha256: 895941c5c2e8130c8ec844491ee21c85b8f33ed03069260f8237e54ac1986095 }
";
