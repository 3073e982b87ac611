//! What a container tells and shows to mislead a tool or the agent.

use std::fs;

use testbed::{CGROUPS, Kind};

use super::{ALLOWED, Held, MOMENT, by_hand, stdout, tried};
use crate::common::{self, Rig};

/// 25: A container that can write the host's cgroups makes one in its own that is named as another container is: the
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
    tried("a25 a cgroup with another container's name", &[Kind::Cgroups]);
    tried("a25 a cgroup with an invented name", &[Kind::Cgroups]);
    drop(victim);
    rig.finish(agent);
}

/// Ways of lying with what is on /proc, and whether one's own procfs is still the whole truth behind it.
const LIES: [(&str, bool); 6] = [
    ("forged", false),
    ("foreign", false),
    ("folder", false),
    ("subtree", false),
    ("subset", true),
    ("hidden", true),
];

/// 26: A container with SYS_ADMIN mounts files of its own, the procfs of another pid namespace, a folder or a part of its own
/// procfs on its /proc, or a procfs that shows less. Where the kernel makes a new instance (`pidns=`, Linux 6.18) that is not
/// even looked at; where its own has to be taken, its kind, its root and its pid namespace are checked, and the run is refused
/// or, if the probe allows it, joined. A procfs that is the container's and shows less is taken: it hides nothing of the
/// processes from who has SYS_PTRACE (`proc_pid_permission` in fs/proc/base.c), and a tool that misses a file says so.
#[tokio::test(flavor = "multi_thread")]
async fn a26_a_false_proc_is_not_believed() {
    let rig = Rig::new().await;
    let kinds = [Kind::Admin, Kind::Privileged];
    let mut liars = Vec::new();
    for kind in kinds {
        for (lie, whole) in LIES {
            let name = format!("{lie}-{kind}");
            liars.push((Held::start(&rig, kind, &name, &["/attacker", "proc", lie]).await, lie, whole));
        }
    }
    let honest = Held::start(&rig, Kind::Admin, "honest-0", &["/workload", "sleep"]).await;
    let probes = [
        ("comm", "command: [cat, /proc/1/comm]"),
        ("all", "command: [ls, /proc]"),
        ("either", "command: [cat, /proc/1/comm], fallback: joined"),
    ];
    let agent = rig.agent_with(&by_hand(&probes, ""), &["--observer.mounted-procfs"]).await;
    assert_eq!(stdout(&honest.run(&agent, "comm").await), "workload\n");
    for (liar, lie, whole) in &liars {
        if *whole {
            assert_eq!(stdout(&liar.run(&agent, "comm").await), "attacker\n", "{lie}");
            let all = liar.run(&agent, "all").await;
            assert!(stdout(&all).starts_with("1\n"), "{lie}: {all}");
            continue;
        }
        let answer = liar.run(&agent, "comm").await;
        assert_eq!(answer["outcome"], "refused", "{lie}: {answer}");
        assert!(answer["reason"].as_str().unwrap().starts_with("procfs_untrusted"), "{answer}");
        // Joined it may not be either: it has SYS_ADMIN.
        let answer = liar.run(&agent, "either").await;
        assert!(answer["reason"].as_str().unwrap().contains("allow_unsafe_joined"), "{lie}: {answer}");
    }
    let page = agent.get("/runs").await.unwrap().body;
    assert!(page.contains("procfs_untrusted") && page.contains("observer_mount"), "{page}");
    drop(agent);

    let flags = ["--observer.mounted-procfs"];
    let agent = rig.agent_with(&by_hand(&probes, ALLOWED), &flags).await;
    for (liar, lie, _) in liars.iter().filter(|(_, _, whole)| !whole) {
        let answer = liar.run(&agent, "either").await;
        assert_eq!((stdout(&answer), &answer["way"]), ("attacker\n", &"joined".into()), "{lie}: {answer}");
    }
    drop(agent);

    let agent = rig.agent(&by_hand(&probes, "")).await;
    for (liar, lie, _) in &liars {
        let answer = liar.run(&agent, "comm").await;
        if answer["way"] == "observer_pidns" {
            assert_eq!(stdout(&answer), "attacker\n", "{lie}: {answer}");
        }
        tried(&format!("a26 a false /proc: {lie}"), &[liar.kind]);
    }
    drop((liars, honest));
    rig.finish(agent);
}

/// 27: A container answers at the address of the host's resolver in its own network namespace: an observer asks nobody
/// unless the probe names a `resolv_conf`, and the agent never looks up a name there. (In the host's network namespace that
/// address is the host's own to give away.)
#[tokio::test(flavor = "multi_thread")]
async fn a27_a_container_does_not_answer_for_names() {
    let rig = Rig::new().await;
    // Who may bind a port below 1024 in a network namespace of its own.
    let kinds = [
        Kind::Default,
        Kind::Ptrace,
        Kind::Admin,
        Kind::Perfmon,
        Kind::Privileged,
        Kind::HostPid,
        Kind::Cgroups,
    ];
    let held = Held::all(&rig, &kinds, &["/attacker", "resolve"]).await;
    let resolv = rig.path("resolv.conf");
    fs::write(&resolv, "nameserver 127.0.0.53\n").unwrap();
    let named = format!("command: [getent, ahostsv4, shop.example], resolv_conf: {}", resolv.display());
    let probes = [("silent", "command: [getent, ahostsv4, shop.example]"), ("named", &named)];
    let agent = rig.agent(&by_hand(&probes, "")).await;
    for one in &held {
        let answer = one.run(&agent, "silent").await;
        assert_eq!((&answer["outcome"], stdout(&answer)), (&"nonzero".into(), ""), "{}: {answer}", one.kind);
        assert!(answer["duration_seconds"].as_f64().unwrap() < 2.0, "it is told at once: {answer}");
        // Who asks for it gets it.
        let answer = one.run(&agent, "named").await;
        assert!(stdout(&answer).contains("6.6.6.6"), "{}: {answer}", one.kind);
    }
    tried("a27 answering for names", &kinds);
    drop(held);
    rig.finish(agent);
}
