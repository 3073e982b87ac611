//! Every probe that ships runs in a real pod, by request, and says what is true of it; and a host without a tool.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testbed::{Agent, Pod, WORKLOAD_IMAGE};

use crate::common::{self, Rig, SOON};

const PROBES: [&str; 22] = [
    "sockets",
    "connections",
    "listeners",
    "kernel_counters",
    "peers",
    "interfaces",
    "conntrack",
    "conntrack_entries",
    "dns",
    "processes",
    "commands",
    "process_tree",
    "open_files",
    "stuck",
    "memory",
    "socket_owners",
    "tls",
    "path_mtu",
    "packets",
    "flame",
    "jvm_dump",
    "go_dump",
];

fn configuration() -> String {
    let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../probes")).unwrap();
    let names: Vec<_> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let (names, probes) = (names.join(", "), PROBES.join(", "));
    format!("include: [{names}]\ntriggers:\n  by-hand: {{ http: {{}}, probes: [{probes}] }}\n")
}

/// Runs the probe; it must end well.
async fn run(agent: &Agent, probe: &str) -> Value {
    let body = asked(agent, probe).await;
    assert_eq!((&body["outcome"], &body["parse_errors"]), (&json!("ok"), &json!(0)), "{probe}: {body:#}");
    assert_eq!(body["series_dropped"], 0, "{probe}: {body:#}");
    body
}

async fn asked(agent: &Agent, probe: &str) -> Value {
    let target = json!({ "namespace": "shop", "pod": "cart-0", "container": "main" });
    let body = json!({ "probe": probe, "target": target }).to_string();
    let answer = agent.post("/api/v1/run", &body).await.unwrap();
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{probe}: {}", answer.body))
}

/// All series of a metric of a run: its own labels, sorted, and the value.
fn series(run: &Value, metric: &str) -> Vec<(String, f64)> {
    let families = run["families"].as_array().unwrap();
    let samples = families.iter().filter(|family| family["name"] == metric);
    let mut all: Vec<_> = samples
        .flat_map(|family| family["samples"].as_array().unwrap())
        .map(|sample| {
            let labels = sample["labels"].as_object().unwrap().values();
            let labels: Vec<_> = labels.map(|value| value.as_str().unwrap()).collect();
            (labels.join(" "), sample["value"].as_f64().unwrap())
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn is(run: &Value, metric: &str, truth: &[(&str, f64)]) {
    let truth: Vec<_> = truth.iter().map(|(labels, value)| ((*labels).to_owned(), *value)).collect();
    assert_eq!(series(run, metric), truth, "{metric}: {run:#}");
}

fn one(run: &Value, metric: &str, labels: &str) -> f64 {
    let found = series(run, metric).into_iter().find(|(its, _)| its == labels);
    found.unwrap_or_else(|| panic!("{metric} {labels}: {run:#}")).1
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shipped_probe_says_what_is_true_of_a_pod() {
    let rig = Rig::new().await;
    let agent = rig.agent(&configuration()).await;
    let pod =
        rig.bed.pod("shop", "cart-0").container("main", WORKLOAD_IMAGE, &["/workload", "listen", "3", "2"]);
    let pod = pod.start().await.unwrap();
    common::knows(&agent, std::slice::from_ref(&pod)).await;
    // Nobody accepts these: they wait in the queue of the second listener.
    let waiting = connected(&pod, "127.0.0.1", 8001, 2);

    network(&agent, &pod).await;
    processes(&agent, &pod).await;
    path(&agent, &rig, &pod).await;
    explained(&agent, &rig);
    certificate(&agent, &rig).await;
    signals(&agent, &rig, &pod).await;
    for probe in ["conntrack", "conntrack_entries", "process_tree"] {
        run(&agent, probe).await;
    }
    let dns = run(&agent, "dns").await;
    let count = |metric| series(&dns, metric).iter().map(|(_, value)| value).sum::<f64>();
    // Of each name server two names are asked for; whether they answer is this machine's business.
    let asked = count("parachute_dns_answers") + count("parachute_dns_unanswered");
    assert!(asked >= 2.0 && asked % 2.0 == 0.0, "{dns:#}");
    for probe in ["packets", "flame"] {
        let run = run(&agent, probe).await;
        assert!(run["capture"].is_string(), "what takes long is kept: {run:#}");
    }
    drop(waiting);
    rig.finish(agent);
}

/// Connections out of the pod.
fn connected(pod: &Pod, address: &str, port: u16, count: usize) -> Vec<TcpStream> {
    let namespace = fs::File::open(format!("/proc/{}/ns/net", pod.containers[0].pid)).unwrap();
    let address = address.to_owned();
    // A thread of its own, which stays in that namespace until it ends.
    let thread = std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        (0..count).map(|_| TcpStream::connect((address.as_str(), port)).unwrap()).collect()
    });
    thread.join().unwrap()
}

/// To another pod goes what the bridge between them carries.
async fn path(agent: &Agent, rig: &Rig, pod: &Pod) {
    let other =
        rig.bed.pod("shop", "other-0").container("main", WORKLOAD_IMAGE, &["/workload", "listen", "1", "0"]);
    let other = other.start().await.unwrap();
    let held = connected(pod, &other.ip, 8000, 1);
    let replies = series(&run(agent, "path_mtu").await, "parachute_path_replies");
    let expected = [1500, 84].map(|bytes| (format!("{bytes} {}", other.ip), 1.0));
    assert_eq!(replies, expected);
    drop(held);
}

async fn network(agent: &Agent, pod: &Pod) {
    is(&run(agent, "sockets").await, "parachute_tcp_sockets", &[("estab", 8.0), ("timewait", 0.0)]);
    is(&run(agent, "connections").await, "parachute_tcp_connections", &[("ESTAB", 8.0), ("LISTEN", 3.0)]);
    let listeners = run(agent, "listeners").await;
    let queues = [("0.0.0.0:8000", 0.0), ("0.0.0.0:8001", 2.0), ("0.0.0.0:8002", 0.0)];
    is(&listeners, "parachute_tcp_accept_queue_connections", &queues);
    assert!(one(&listeners, "parachute_tcp_accept_queue_limit_connections", "0.0.0.0:8001") >= 2.0);
    let counters = run(agent, "kernel_counters").await;
    is(&counters, "parachute_tcp_opened_total", &[("active", 4.0), ("passive", 4.0)]);
    let peers = run(agent, "peers").await;
    is(&peers, "parachute_tcp_peer_connections", &[("127.0.0.1", 8.0)]);
    assert!(one(&peers, "parachute_tcp_round_trip_max_seconds", "") > 0.0, "{peers:#}");
    let interfaces = run(agent, "interfaces").await;
    is(&interfaces, "parachute_network_up", &[("eth0", 1.0), ("lo", 1.0)]);
    let statistics = format!("/proc/{}/net/dev", pod.containers[0].pid);
    let truth = fs::read_to_string(statistics).unwrap();
    let eth0: Vec<f64> = truth
        .lines()
        .find_map(|line| line.trim().strip_prefix("eth0:"))
        .map(|rest| rest.split_whitespace().map(|word| word.parse().unwrap()).collect())
        .unwrap();
    let received = one(&interfaces, "parachute_network_receive_bytes_total", "eth0");
    assert!(received > 0.0 && received <= eth0[0], "{received} of {}", eth0[0]);
    let owners = run(agent, "socket_owners").await;
    let address = |port| (format!("0.0.0.0:{port} workload tcp"), 1.0);
    assert_eq!(series(&owners, "parachute_listening_sockets"), [8000, 8001, 8002].map(address));
}

async fn processes(agent: &Agent, pod: &Pod) {
    let all = run(agent, "processes").await;
    is(&all, "parachute_processes", &[("S", 1.0)]);
    is(&all, "parachute_threads", &[("", 1.0)]);
    let commands = run(agent, "commands").await;
    is(&commands, "parachute_command_processes", &[("workload", 1.0)]);
    is(&commands, "parachute_command_threads", &[("workload", 1.0)]);
    let stuck = run(agent, "stuck").await;
    is(&stuck, "parachute_uninterruptible_threads", &[("", 0.0)]);
    is(&stuck, "parachute_zombie_processes", &[("", 0.0)]);
    let files = run(agent, "open_files").await;
    let truth = fs::read_dir(format!("/proc/{}/fd", pod.containers[0].pid)).unwrap().count();
    is(&files, "parachute_command_open_files", &[("workload", truth as f64)]);
    let memory = run(agent, "memory").await;
    let kinds: BTreeSet<_> =
        series(&memory, "parachute_memory_bytes").into_iter().map(|(kind, _)| kind).collect();
    assert!(kinds.contains("resident") && kinds.contains("proportional"), "{kinds:?}");
    let status = fs::read_to_string(format!("/proc/{}/status", pod.containers[0].pid)).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let rss: f64 = rss.split_whitespace().next().unwrap().parse().unwrap();
    let resident = one(&memory, "parachute_memory_bytes", "resident") / 1024.0;
    assert!((resident - rss).abs() < 300.0, "{resident} KiB and {rss} KiB");
}

/// A server in the pod's network shows a certificate.
async fn certificate(agent: &Agent, rig: &Rig) {
    let (key, certificate) = (rig.path("key.pem"), rig.path("certificate.pem"));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=cart"]);
    let made = make.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let paths = [key.to_str().unwrap(), certificate.to_str().unwrap()];
    let words =
        ["cart", "openssl", "s_server", "-www", "-accept", "9443", "-key", paths[0], "-cert", paths[1]];
    let words: Vec<_> = ["shop/cart-0/main"].iter().chain(&words[1..]).copied().collect();
    let mut server = common::exec(agent, &words).stdout(Stdio::null()).spawn().unwrap();
    let tls = common::eventually("the server shows its certificate", SOON, async || {
        let tls = run(agent, "tls").await;
        if series(&tls, "parachute_tls_listeners") == [(String::new(), 1.0)] {
            Ok(tls)
        } else {
            Err(tls.to_string())
        }
    })
    .await;
    let seconds = one(&tls, "parachute_tls_certificate_expiry_timestamp_seconds", "*:9443");
    let in_days = (seconds - std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()) / 86_400.0;
    assert!((29.9..=30.0).contains(&in_days), "{in_days}: {tls:#}");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(server.id().try_into().unwrap()),
        nix::sys::signal::SIGTERM,
    )
    .unwrap();
    server.wait().unwrap();
}

/// A program of the container's that is called java, or that has Go's mark, gets the signal for a dump; nothing else does.
async fn signals(agent: &Agent, rig: &Rig, pod: &Pod) {
    for (name, mark, probe, metric) in [
        ("java", &b""[..], "jvm_dump", "parachute_jvm_dumps_requested"),
        ("server", b"\xff Go buildinf:", "go_dump", "parachute_go_dumps_requested"),
    ] {
        is(&run(agent, probe).await, metric, &[("", 0.0)]);
        let main = &pod.containers[0];
        let root = format!("/proc/{}/root", main.pid);
        let program = [&fs::read(format!("{root}/workload")).unwrap(), mark].concat();
        let path = format!("{root}/{name}");
        fs::write(&path, program).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(rig.bed.socket()).args(["-n", "k8s.io", "tasks", "exec", "--exec-id", name]);
        let mut program = ctr.args([&main.id, &format!("/{name}"), "sleep"]).spawn().unwrap();
        common::eventually("the program gets the signal", SOON, async || {
            // It may be refused at first: before the program is executed, its process is runc's, with all of root's rights.
            let answer = asked(agent, probe).await;
            let is_asked = answer["outcome"] == "ok" && series(&answer, metric) == [(String::new(), 1.0)];
            if is_asked { Ok(()) } else { Err(answer.to_string()) }
        })
        .await;
        assert_eq!(program.wait().unwrap().code(), Some(128 + 3), "{name}");
    }
}

fn explained(agent: &Agent, rig: &Rig) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parachute"));
    command.args(["run", "listeners", "--explain", "--container", "shop/cart-0/main", "--config.file"]);
    command.arg(rig.path("parachute.yml")).env("PARACHUTE_RUN_DIRECTORY", agent.run_directory());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = "table[0] parachute_tcp_accept_queue_connections{address=\"0.0.0.0:8001\"} 2";
    assert!(output.status.success() && said.lines().any(|line| line.ends_with(expected)), "{output:?}");
    assert!(
        said.contains("lines: 3 gave samples, 0 have an error, 1 passed over, 0 gave nothing\n"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_dig_runs_all_else() {
    let rig = Rig::new().await;
    let script = rig.script(
        "exec unshare --mount sh -c 'mount --bind /dev/null /usr/bin/dig && exec \"$0\" \"$@\"' $AGENT \"$@\"",
    );
    let agent = rig
        .agent_by(
            &script,
            "include: [dns, network]\ntriggers: { by-hand: { http: {}, probes: [dns, sockets] } }",
        )
        .await;
    let pod = rig.bed.pod("shop", "cart-0").container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    common::knows(&agent, &[pod.start().await.unwrap()]).await;
    run(&agent, "sockets").await;
    let body = json!({ "probe": "dns", "target": { "pod": "cart-0", "container": "main" } }).to_string();
    let answer: Value = serde_json::from_str(&agent.post("/api/v1/run", &body).await.unwrap().body).unwrap();
    assert_eq!(answer["outcome"], "refused", "{answer:#}");
    assert!(answer.to_string().contains("bind9-dnsutils"), "{answer:#}");
    // A reload takes another list: agent and launcher mean the same probes.
    rig.configuration("include: [processes]\ntriggers: { by-hand: { http: {}, probes: [processes] } }");
    agent.hang_up().unwrap();
    common::eventually("the reload is over", SOON, async || {
        let body =
            json!({ "probe": "processes", "target": { "pod": "cart-0", "container": "main" } }).to_string();
        let answer = agent.post("/api/v1/run", &body).await.unwrap();
        if answer.status == 200 { Ok(()) } else { Err(answer.body) }
    })
    .await;
    is(&run(&agent, "processes").await, "parachute_processes", &[("S", 1.0)]);
    rig.finish(agent);
}

/// The commands of docs/writing-a-probe.md that want a container, on an agent whose configuration is the page's.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_writing_a_probe_is_true_of_containers() {
    let page = include_str!("../docs/writing-a-probe.md");
    let (_, probes) = page.split_once("<!-- file: patterns.yml -->\n```yaml\n").unwrap();
    let probes = probes.split("```").next().unwrap().replace("  queues:\n", "  queues:\n    keep: always\n");
    let rig = Rig::new().await;
    let agent =
        rig.agent(&format!("{probes}triggers: {{ by-hand: {{ http: {{}}, probes: [queues] }} }}\n")).await;
    let pod =
        rig.bed.pod("shop", "cart-0").container("cart", WORKLOAD_IMAGE, &["/workload", "listen", "2", "0"]);
    common::knows(&agent, &[pod.start().await.unwrap()]).await;
    let body = json!({ "probe": "queues", "target": { "pod": "cart-0", "container": "cart" } }).to_string();
    assert_eq!(agent.post("/api/v1/run", &body).await.unwrap().status, 200);
    let commands: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# parachute ")).collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    let configured = format!("parachute run --config.file {}", rig.path("parachute.yml").display());
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_parachute")).parent().unwrap();
    for command in commands {
        // On the page's node the configuration is the usual file.
        let command = format!("parachute {command}").replace("parachute run", &configured);
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).stdin(Stdio::null());
        shell.env("PATH", format!("{}:{}", program.display(), std::env::var("PATH").unwrap()));
        shell
            .env("PARACHUTE_RUN_DIRECTORY", agent.run_directory())
            .env("PARACHUTE_STORAGE_PATH", agent.run_directory().join("storage"));
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("8001"), "{command}: {output:?}");
        if command.contains("--explain") {
            assert!(said.contains("= regex[0] app_accept_queue_connections{port=\"8000\"} 0\n"), "{said}");
        }
    }
    rig.finish(agent);
}
