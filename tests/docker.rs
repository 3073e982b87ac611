//! Docker's containers: their names, what each kind of them answers, and what a Docker inside of one is.

use std::fs;

use serde_json::json;
use testbed::{Docker, Engine};

use crate::common::engines::{
    self, Answer, EngineRig, cases, in_table, lines, mapped, named, ps, run, run_in,
};
use crate::common::lives::{lives, paused, systemd_inside};
use crate::common::{self, SOON};

async fn rig(more: &'static [&'static str]) -> EngineRig<Docker> {
    // Nobody is spared: without Docker nothing is known of it.
    assert_eq!(Docker::why_not(), None);
    // For `--userns-remap`; some versions look the group's ids up by the group's name.
    EngineRig::new(&["nobody", "nogroup"], |lock, dir| Docker::start_under(lock, dir, more)).await
}

fn runtimes(docker: &Docker) -> String {
    format!("[{{docker: {}}}]", docker.socket().display())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_container_is_named_and_answers() {
    let rig = rig(&[]).await;
    let agent = rig.agent(&runtimes(&rig.engine)).await;
    cases(&rig, &agent).await;
    paused(&rig, &agent).await;
    lives(&rig, &agent).await;
    rig.finish(agent);
}

const KUBELET: [&str; 10] = [
    "--label=io.kubernetes.pod.name=pay-0",
    "--label=io.kubernetes.pod.namespace=bank",
    "--label=io.kubernetes.pod.uid=0000-1",
    "--label=io.kubernetes.container.name=pay",
    "--label=io.kubernetes.docker.type=container",
    "--label=com.docker.compose.project=other",
    "--label=com.docker.compose.service=other",
    "--label=annotation.x=y",
    "--label=app=pay",
    "--network=none",
];

#[tokio::test(flavor = "multi_thread")]
async fn names_follow_the_rule_and_dockers_absence_costs_only_them() {
    let mut rig = rig(&[]).await;
    let compose = |service: &str, number: &str| {
        ["project=shop".to_owned(), format!("service={service}"), format!("container-number={number}")]
            .map(|label| format!("--label=com.docker.compose.{label}"))
    };
    let mut made = Vec::new();
    for (name, labels, names) in [
        ("shop-cart-1", compose("cart", "1"), ["shop", "shop-cart-1", "cart"]),
        ("shop-cart-2", compose("cart", "2"), ["shop", "shop-cart-2", "cart"]),
    ] {
        let options: Vec<&str> = labels.iter().map(String::as_str).chain(["--network=none"]).collect();
        made.push((rig.listener(name, &options), names));
    }
    made.push((rig.listener("k8s_pay_pay-0_bank_0000-1_0", &KUBELET), ["bank", "pay-0", "pay"]));
    // Any image may have these labels; a name is not an image's to choose.
    made.push((rig.listener("liar", &KUBELET[..4]), ["", "", "liar"]));
    let agent = rig.agent(&runtimes(&rig.engine)).await;
    for (container, names) in &made {
        let row = named(&agent, &container.id, *names).await;
        let labels = row["pod_labels"].as_object().unwrap();
        assert_eq!(labels.contains_key("app"), names[1] == "pay-0", "{row}");
        assert!(names[0] != "bank" || labels.len() == 3, "the kubelet's own are no labels: {row}");
    }
    let listed = ps(&agent, &["-o", "name"]);
    assert_eq!(listed, "bank/pay-0/pay\nliar\nshop/shop-cart-1/cart\nshop/shop-cart-2/cart\n");
    let target = json!({ "namespace": "shop", "pod": "shop-cart-2", "container": "cart" });
    assert_eq!(lines(&run_in(&agent, "observer-sockets", target).await).len(), 3);
    let output = common::exec(&agent, &["shop-cart-1/cart", "true"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");

    // One list at the start, and then one question for each container.
    let asked = async |agent: &testbed::Agent| {
        let samples = agent.scrape().await.unwrap();
        let labels = [("runtime", "docker"), ("call", "ContainerList")];
        let requests = common::sum(&samples, "parachute_runtime_requests_total", &labels);
        (requests, common::sum(&samples, "parachute_runtime_request_failures_total", &labels))
    };
    let before = asked(&agent).await;
    assert_eq!(before.1, 0.0);
    let later = rig.listener("later", &["--network=none"]);
    named(&agent, &later.id, ["", "", "later"]).await;
    for _ in 0..3 {
        run(&agent, "observer-sockets", "later").await;
    }
    assert_eq!(asked(&agent).await, (before.0 + 1.0, 0.0));

    // Docker dies; its containers live, are known, and are looked into. A restart is met by the next question.
    rig.engine.stop_daemon();
    assert_eq!(lines(&run(&agent, "joined-sockets", "later").await).len(), 3);
    rig.engine.start_daemon().unwrap();
    let after = rig.listener("after", &["--network=none"]);
    named(&agent, &after.id, ["", "", "after"]).await;
    rig.finish(agent);
}

/// Docker's own way to `--userns`: for all containers of the daemon. Its root is nobody on the host.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_namespace_changes_nothing_but_whose_files_they_are() {
    let rig = rig(&["--userns-remap=nobody:nogroup"]).await;
    let agent = rig.agent(&runtimes(&rig.engine)).await;
    mapped(&rig, &agent, &[]).await;
    rig.finish(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_systemd_inside_is_its_container() {
    let rig = rig(&[]).await;
    let agent = rig.agent(&runtimes(&rig.engine)).await;
    // Docker gives a container no cgroups to write unless it is privileged.
    systemd_inside(&rig, &agent, &["--privileged"]).await;
    rig.finish(agent);
}

/// A Docker inside of a container and what that runs are the outer container's: its id is the outermost in the cgroups'
/// paths, and whoever is inside has no say in that.
#[tokio::test(flavor = "multi_thread")]
async fn a_docker_inside_and_its_containers_are_the_outer_one() {
    let rig = rig(&[]).await;
    let agent = rig.agent(&runtimes(&rig.engine)).await;
    let script = rig.path("nested.sh");
    fs::write(&script, NESTED).unwrap();
    // The image is taken from the archive of the bed's own.
    let archive = rig.path("nested.tar");
    rig.engine.ask(&["save", "--output", archive.to_str().unwrap(), testbed::WORKLOAD_IMAGE]).unwrap();
    let modest = rig.engine.runtime().map(|path| format!("--volume={}:/modest:ro", path.display()));
    let volumes = [
        format!("--volume={}:/nested.sh:ro", script.display()),
        format!("--volume={}:/w.tar:ro", archive.display()),
    ];
    let mut options = vec!["--privileged", "--network=none", "--volume=/var/lib/docker"];
    options.extend(volumes.iter().chain(&modest).map(String::as_str));
    let outer = rig.with_programs("outer", &options, &["/bin/sh", "/nested.sh"]);
    let row = named(&agent, &outer.id, ["", "", "outer"]).await;
    assert_eq!(row["pid"], outer.pid, "{row}");
    common::eventually("the inner container runs", SOON * 3, async || {
        let found = lines(&run(&agent, "observer-trusted", "outer").await);
        let has = |name: &str| found.iter().any(|found| found == name);
        if has("dockerd") && has("workload") { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let listed = common::containers(&agent).await;
    assert_eq!(listed.len(), 1, "the inner one is not listed by itself: {listed:?}");
    engines::refused(&agent, "outer", outer.pid).await;
    in_table("Docker inside, privileged", Answer::Refused, Answer::Refused);
    rig.engine.remove("outer").unwrap();
    rig.finish(agent);
}

/// `/modest` is there on machines that cannot give a container all capabilities. The cgroup namespace of v2 keeps what is
/// inside below the container's own cgroup.
const NESTED: &str = r"
set -e
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    # A cgroup that hands controllers on may have no processes itself (as in moby's hack/dind).
    mkdir -p /sys/fs/cgroup/init
    xargs -rn1 </sys/fs/cgroup/cgroup.procs >/sys/fs/cgroup/init/cgroup.procs || true
    sed -e 's/ / +/g' -e 's/^/+/' </sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
fi
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
[ ! -e /modest ] || modest='--add-runtime=modest=/modest --default-runtime=modest'
dockerd --host=unix:///run/docker.sock --bridge=none --iptables=false --ip-forward=false $modest &
i=0
until docker --host=unix:///run/docker.sock load --input /w.tar; do i=$((i + 1)); [ $i -lt 200 ]; sleep .3; done
docker --host=unix:///run/docker.sock run --detach --network=none parachute.test/workload:1 sleep
wait
";
