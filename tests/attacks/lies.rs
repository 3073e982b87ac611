//! What a container tells and shows to mislead a tool or the agent.

use std::fs;

use testbed::{CGROUPS, Kind, WORKLOAD_IMAGE};

use super::{Held, MOMENT, by_hand, stdout};
use crate::common::{self, Rig, SOON};

/// 17. Links, pipes and endless files at a path that a tool is sent to: a link is followed below the tool's own root, where
/// nothing of the host's secrets is, and a run ends at its deadline and its cap. The agent itself reads nothing through
/// `/proc/PID/root`.
#[tokio::test(flavor = "multi_thread")]
async fn a17_traps_at_a_path_give_no_byte_of_the_hosts() {
    const SECRET: &str = "the host's secret";
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/attacker", "plant"]).await;
    let cat = |name: &str| format!("command: [cat, /proc/1/root/{name}], timeout: 2s, max_output: 64KiB");
    let names = ["absolute", "upwards", "circle", "pipe", "sparse", "swapped"];
    let probes = names.map(|name| (name, cat(name)));
    let probes: Vec<_> = probes.iter().map(|(name, probe)| (*name, probe.as_str())).collect();
    let agent = rig.agent(&by_hand(&probes, "")).await;
    let secret = std::path::Path::new("/root/hostsecret");
    assert!(!secret.exists());
    fs::write(secret, SECRET).unwrap();
    for (name, outcome) in [
        ("absolute", "nonzero"),
        ("upwards", "nonzero"),
        ("circle", "nonzero"),
        ("pipe", "timeout"),
        ("sparse", "truncated"),
    ] {
        let answer = held.run(&agent, name).await;
        assert_eq!(answer["outcome"], outcome, "{answer}");
        assert!(!stdout(&answer).contains(SECRET) && !stdout(&answer).contains("root:"), "{name}");
    }
    for _ in 0..30 {
        assert!(!stdout(&held.run(&agent, "swapped").await).contains(SECRET));
    }
    fs::remove_file(secret).unwrap();
    drop(held);
    rig.finish(agent);
}

/// 25. A container that can write the host's cgroups makes one in its own that is named as another container is: the
/// outermost name in a path counts, and what is nested in a known container is nobody new.
#[tokio::test(flavor = "multi_thread")]
async fn a25_a_nested_cgroup_is_not_the_container_it_is_named_after() {
    let rig = Rig::new().await;
    let agent = rig.agent(&by_hand(&[("ps", "command: [ps, -e]")], "")).await;
    let victim = Held::start(&rig, Kind::Default, "victim-0", &["/workload", "sleep"]).await;
    victim.run(&agent, "ps").await;
    let invented = "f".repeat(64);
    for id in [&victim.container.id, &invented] {
        let name = format!("cgroups-{}", &id[..4]);
        let liar = Held::start(&rig, Kind::Cgroups, &name, &["/attacker", "cgroups", CGROUPS, id]).await;
        let listed = liar.run(&agent, "ps").await;
        assert!(stdout(&listed).contains("attacker"), "{listed}");
        tokio::time::sleep(MOMENT).await;
        let known = common::containers(&agent).await;
        assert!(!known.iter().any(|c| c["id"] == invented.as_str()), "an invented container: {known:?}");
        let victims: Vec<_> = known.iter().filter(|c| c["id"] == victim.container.id.as_str()).collect();
        assert_eq!(victims.len(), 1, "{known:?}");
        assert_eq!(victims[0]["pid"], victim.container.pid, "the victim is who it was");
        let seen = victim.run(&agent, "ps").await;
        assert!(stdout(&seen).contains("workload") && !stdout(&seen).contains("attacker"), "{seen}");
        liar.remove().await;
    }
    drop(victim);
    rig.finish(agent);
}

/// 26. A container with SYS_ADMIN mounts files of its own, or the procfs of another pid namespace, on its /proc. Where the
/// kernel makes a new instance (`pidns=`, Linux 6.18) that is not even looked at; where its own has to be taken, its kind
/// and its pid namespace are checked, and the run is refused or, if the probe allows it, joined.
#[tokio::test(flavor = "multi_thread")]
async fn a26_a_false_proc_is_not_believed() {
    let rig = Rig::new().await;
    let forged = Held::start(&rig, Kind::Admin, "forged-0", &["/attacker", "proc", "forged"]).await;
    let foreign = Held::start(&rig, Kind::Admin, "foreign-0", &["/attacker", "proc", "foreign"]).await;
    let honest = Held::start(&rig, Kind::Admin, "honest-0", &["/workload", "sleep"]).await;
    let probes = [
        ("comm", "command: [cat, /proc/1/comm]"),
        ("either", "command: [cat, /proc/1/comm], fallback: joined"),
    ];
    let agent = rig.agent_with(&by_hand(&probes, ""), &["--observer.mounted-procfs"]).await;
    assert_eq!(stdout(&honest.run(&agent, "comm").await), "workload\n");
    for liar in [&forged, &foreign] {
        let answer = liar.run(&agent, "comm").await;
        assert_eq!(answer["outcome"], "refused", "{answer}");
        assert!(answer["reason"].as_str().unwrap().starts_with("procfs_untrusted"), "{answer}");
        // Joined it may not be either: it has SYS_ADMIN.
        let answer = liar.run(&agent, "either").await;
        assert!(answer["reason"].as_str().unwrap().contains("allow_unsafe_joined"), "{answer}");
    }
    let page = agent.get("/").await.unwrap().body;
    assert!(page.contains("procfs_untrusted") && page.contains("observer_mount"), "{page}");
    drop(agent);

    let flags = ["--observer.mounted-procfs"];
    let agent = rig.agent_with(&by_hand(&probes, ", allow_unsafe_joined: true"), &flags).await;
    let answer = forged.run(&agent, "either").await;
    assert_eq!((stdout(&answer), &answer["way"]), ("attacker\n", &"joined".into()), "{answer}");
    drop(agent);

    let agent = rig.agent(&by_hand(&probes, "")).await;
    let answer = forged.run(&agent, "comm").await;
    if answer["way"] == "observer_pidns" {
        assert_eq!(stdout(&answer), "attacker\n", "{answer}");
    }
    drop((forged, foreign, honest));
    rig.finish(agent);
}

/// 27. A container answers at the address of the host's resolver in its own network namespace: an observer asks nobody
/// unless the probe names a `resolv_conf`, and the agent never looks up a name there.
#[tokio::test(flavor = "multi_thread")]
async fn a27_a_container_does_not_answer_for_names() {
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/attacker", "resolve"]).await;
    let resolv = rig.path("resolv.conf");
    fs::write(&resolv, "nameserver 127.0.0.53\n").unwrap();
    let named = format!("command: [getent, ahostsv4, shop.example], resolv_conf: {}", resolv.display());
    let probes = [("silent", "command: [getent, ahostsv4, shop.example]"), ("named", &named)];
    let agent = rig.agent(&by_hand(&probes, "")).await;
    let answer = held.run(&agent, "silent").await;
    assert_eq!((&answer["outcome"], stdout(&answer)), (&"nonzero".into(), ""), "{answer}");
    assert!(answer["duration_seconds"].as_f64().unwrap() < 2.0, "it is told at once: {answer}");
    // Who asks for it gets it.
    let answer = held.run(&agent, "named").await;
    assert!(stdout(&answer).contains("6.6.6.6"), "{answer}");
    drop(held);
    rig.finish(agent);
}

/// 18. Names with newlines, quotes and escapes make no row and no label that is not there: the tools of the shipped
/// probes print no name, or ps, which replaces what cannot be printed.
#[tokio::test(flavor = "multi_thread")]
async fn a18_names_forge_no_series() {
    let rig = Rig::new().await;
    let configuration = r"
probes:
  connections: { command: [ss, -tan], parse: { table: { skip: 1, columns: [state, a, b, local, peer], metrics: [{ name: forged_connections, type: gauge, help: Sockets by state., aggregate: count, labels: { state: state } }] } } }
  processes: { command: [ps, -eo, 's=,nlwp=,comm='], parse: { table: { columns: [state, threads, name], metrics: [{ name: forged_processes, type: gauge, help: Processes by name., aggregate: count, labels: { name: name } }] } } }
triggers: { by-hand: { http: {}, probes: [connections, processes] } }
";
    let agent = rig.agent(configuration).await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/attacker", "names"]).await;
    for probe in ["connections", "processes"] {
        let answer = held.run(&agent, probe).await;
        assert_eq!(answer["outcome"], "ok", "{answer}");
    }
    let metrics = agent.get("/metrics").await.unwrap().body;
    common::promtool(&metrics);
    let samples = testbed::samples(&metrics).unwrap();
    assert_eq!(common::select(&samples, "forged_connections", &[]).count(), 0, "it has no TCP socket");
    let processes: Vec<_> = common::select(&samples, "forged_processes", &[]).collect();
    assert_eq!(processes.iter().map(|s| s.value).sum::<f64>(), 1.0, "{processes:?}");
    assert!(processes.iter().all(|s| !s.label("name").contains(['\n', '\u{1b}'])), "{processes:?}");
    drop(held);
    rig.finish(agent);
}

/// 20. Thousands of listening sockets make as many series as the probe allows, and no more memory than that.
#[tokio::test(flavor = "multi_thread")]
async fn a20_many_names_are_bounded() {
    const SOCKETS: &str = "15000";
    let rig = Rig::new().await;
    let configuration = r"
probes:
  listeners: { command: [ss, -Htln], max_output: 8MiB, parse: { table: { columns: [state, receive, send, local, peer], metrics: [{ name: many_listeners, type: gauge, help: By address., value: receive, labels: { address: local } }] } } }
triggers: { by-hand: { http: {}, probes: [listeners] } }
";
    let agent = rig.agent(configuration).await;
    let pod = rig.bed.pod("attack", "many-0");
    let pod =
        pod.container("main", WORKLOAD_IMAGE, &["/workload", "listen", SOCKETS, "0"]).start().await.unwrap();
    let held =
        Held { kind: Kind::Default, container: pod.containers[0].clone(), pod: Some(pod), _user: None };
    let memory = || {
        let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned();
        line.trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    common::eventually("all listen", SOON, async || {
        let answer = held.run(&agent, "listeners").await;
        if answer["series_dropped"] == 14_500 { Ok(()) } else { Err(answer["series_dropped"].to_string()) }
    })
    .await;
    let before = memory();
    for _ in 0..20 {
        let answer = held.run(&agent, "listeners").await;
        assert_eq!(answer["outcome"], "ok", "{answer}");
        assert_eq!(answer["series_dropped"], 14_500);
    }
    let samples = agent.scrape().await.unwrap();
    assert_eq!(common::select(&samples, "many_listeners", &[]).count(), 500);
    let grown = memory().saturating_sub(before);
    assert!(grown < 10 << 10, "{grown} KiB more");
    drop(held);
    rig.finish(agent);
}
