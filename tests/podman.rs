//! Podman's containers, by both OCI runtimes: their names with and without its API, what each kind of them answers.

use std::fs;

use testbed::{Engine, Podman, Rootless};

use crate::common::engines::{self, EngineRig, cases, mapped, named, ps, run};
use crate::common::lives::{lives, paused, systemd_inside};
use crate::common::{self, SOON};

async fn rig(runtime: &'static str) -> EngineRig<Podman> {
    // Nobody is spared: without Podman nothing is known of it.
    assert_eq!(Podman::why_not(runtime), None);
    // For `--userns=auto`.
    EngineRig::new(&["containers"], |lock, dir| Podman::start_under(lock, dir, runtime)).await
}

/// Where nobody answers, Podman's own files still give a name.
fn runtimes(podman: &Podman) -> String {
    let [storage, _] = podman.roots();
    format!("[{{podman: {}}}, {{podman_storage: {}}}]", podman.socket().display(), storage.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_container_is_named_and_answers_with_runc() {
    kinds("runc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_container_is_named_and_answers_with_crun() {
    kinds("crun").await;
}

async fn kinds(runtime: &'static str) {
    let mut rig = rig(runtime).await;
    rig.engine.serve().unwrap();
    let agent = rig.agent(&runtimes(&rig.engine)).await;
    cases(&rig, &agent).await;
    paused(&rig, &agent).await;
    lives(&rig, &agent).await;
    mapped(&rig, &agent, &["--userns=auto"]).await;
    rig.finish(agent);
}

/// `podman run --systemd` makes what a systemd wants, and is not privileged for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_systemd_inside_is_its_container() {
    let rig = rig("runc").await;
    let agent = rig.agent(&runtimes(&rig.engine)).await;
    systemd_inside(&rig, &agent, &["--systemd=always"]).await;
    rig.finish(agent);
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: { name: cart-0, labels: { app: cart } }
spec:
  hostNetwork: true
  containers:
  - { name: cart, image: 'parachute.test/workload:1', imagePullPolicy: Never, command: [/workload, sleep] }
";

#[tokio::test(flavor = "multi_thread")]
async fn pods_have_names_with_the_api_and_containers_without_it() {
    let mut rig = rig("runc").await;
    let agent = rig.agent(&runtimes(&rig.engine)).await;
    // Nobody listens at the socket: the name is on disk.
    let plain = rig.listener("plain", &["--network=none", "--label=tier=front"]);
    let row = named(&agent, &plain.id, ["", "", "plain"]).await;
    assert!(row["pod_labels"].as_object().unwrap().is_empty(), "{row}");
    assert_eq!(run(&agent, "observer-processes", "plain").await["outcome"], "ok");

    rig.engine.serve().unwrap();
    rig.engine.ask(&["pod", "create", "--name=front", "--network=none", "--label=team=web"]).unwrap();
    let web = rig.listener("web", &["--pod=front"]);
    let row = named(&agent, &web.id, ["", "front", "web"]).await;
    assert_eq!(row["runtime"], "podman", "{row}");
    let manifest = rig.path("pod.yml");
    fs::write(&manifest, POD).unwrap();
    rig.engine.ask(&["play", "kube", manifest.to_str().unwrap()]).unwrap();
    let cart = rig.engine.inspect("cart-0-cart").unwrap();
    let row = named(&agent, &cart.id, ["", "cart-0", "cart"]).await;
    assert_eq!(row["pod_labels"]["app"], "cart", "{row}");
    let compose = ["--label=com.docker.compose.project=shop", "--label=com.docker.compose.service=pay"];
    let pay = rig.listener("shop_pay_1", &["--network=none", compose[0], compose[1]]);
    named(&agent, &pay.id, ["shop", "shop_pay_1", "pay"]).await;
    // The answer that came too late for the first one comes with the next list.
    common::eventually("the first one has its labels", SOON * 2, async || {
        let row = named(&agent, &plain.id, ["", "", "plain"]).await;
        if row["pod_labels"]["tier"] == "front" { Ok(()) } else { Err(row.to_string()) }
    })
    .await;
    let expected = "cart-0/cart\nfront/web\nplain\nshop/shop_pay_1/pay\n";
    common::eventually("infra containers are no containers of anybody's", SOON, async || {
        let listed = ps(&agent, &["-o", "name"]);
        if listed == expected { Ok(()) } else { Err(listed) }
    })
    .await;
    let output = common::exec(&agent, &["front/web", "true"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(common::containers(&agent).await.iter().filter(|row| row["sandbox"] == true).count(), 2);
    rig.finish(agent);
}

/// A user's own Podman: its API is theirs and is not asked, its files are read.
#[tokio::test(flavor = "multi_thread")]
async fn a_users_container_is_called_by_its_name() {
    if let Some(why) = Rootless::why_not() {
        // Set where it has to be there: in the machines of `cargo xtask vm`.
        assert!(std::env::var_os("TESTBED_ROOTLESS").is_none(), "{why}");
        eprintln!("NOT TESTED here, but in the virtual machines of cargo xtask vm: {why}");
        return;
    }
    let rig = EngineRig::new(&[], Rootless::start_under).await;
    let agent = rig.agent("auto").await;
    let container = rig.listener("mine", &["--network=none"]);
    let user = common::user_of(container.pid);
    let row = named(&agent, &container.id, [&user, "", "mine"]).await;
    assert!(row["image"].as_str().unwrap().ends_with("parachute.test/workload:1"), "{row}");
    engines::is_answered(&rig, &agent, [&user, "mine"], &container).await;
    rig.finish(agent);
}
