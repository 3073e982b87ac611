//! Bare unshare(1): a process by a file that holds its number, by its number on the command line, and by its cgroup.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::{Host, alerted, listed, printed, run, stdout, text};
use crate::common::groups::Group;
use crate::common::{self, SOON};

/// A process with a network of its own, in which there is nothing but a loopback.
fn apart() -> Child {
    Command::new("unshare").args(["--net", "sleep", "1000"]).stdin(Stdio::null()).spawn().unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pid_file_names_a_process_as_long_as_it_lives() {
    let host = Host::new().await;
    let path = host.path("below/pt-app.pid");
    let name = path.to_str().unwrap().to_owned();
    let agent = host.agent(&format!("{{ pid_files: [{name}] }}")).await;
    let first = apart();
    listed(&agent, &name, 0).await;
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("{}\n", first.id())).unwrap();
    let found = listed(&agent, &name, 1).await;
    assert_eq!((&found["runtime"], &found["pid"]), (&json!("process"), &json!(first.id())));
    assert_eq!(found["host_namespaces"], json!(["mnt", "pid"]));
    let links = run(&agent, "links", &name).await;
    assert_eq!(stdout(&links).lines().count(), 1, "its own loopback alone: {links}");
    run(&agent, "joined", &name).await;
    alerted(&agent, &name).await;
    let exec = common::exec(&agent, &[&name, "sh", "-c", "ip -o link | wc -l; echo $PARACHUTE_TARGET_PID"]);
    let exec = { exec }.output().unwrap();
    assert_eq!(text(&exec), format!("1\n{}\n", first.id()));

    // Put in its place as daemons do, then ended, and last a file that others may write.
    let second = apart();
    let fresh = host.path("below/fresh");
    fs::write(&fresh, format!("{}\n", second.id())).unwrap();
    fs::rename(&fresh, &path).unwrap();
    let other = common::eventually("the second is named", SOON, async || {
        let found = listed(&agent, &name, 1).await;
        if found["pid"] == second.id() { Ok(found) } else { Err(found.to_string()) }
    })
    .await;
    assert_ne!(other["id"], found["id"]);
    end(second);
    listed(&agent, &name, 0).await;
    // The file says which process it is: without it there is none, however long that lives.
    fs::write(&path, format!("{}\n", first.id())).unwrap();
    listed(&agent, &name, 1).await;
    fs::remove_file(&path).unwrap();
    listed(&agent, &name, 0).await;
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    fs::write(&path, format!("{}\n", first.id())).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    listed(&agent, &name, 0).await;
    let doctor = text(&host.parachute(&["doctor"]));
    assert!(doctor.contains("can be changed by others than root"), "{doctor}");
    end(first);
    host.finish(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_by_its_number_and_unshare_by_its_cgroup() {
    let host = Host::new().await;
    let agent = host.agent(r#"{ cgroups: ["/pt-jobs/*"] }"#).await;
    let alone = apart();
    let pid = alone.id().to_string();
    common::eventually("it has its network", SOON, async || {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        if of(&pid) == of("self") { Err("not yet".to_owned()) } else { Ok(()) }
    })
    .await;
    let told = host.parachute(&["run", "links", "--pid", &pid]);
    let metrics = text(&told);
    assert!(
        metrics.contains(r#"pt_links{namespace="",pod="",container="sleep",device="lo"} 1"#),
        "{metrics}"
    );
    let told = host.parachute(&["run", "target", "--pid", &pid, "-o", "raw"]);
    assert_eq!(printed(&told), format!("pid {pid}\nsleep\n"));
    let missing = host.parachute(&["run", "links", "--pid", "4194305"]);
    assert!(
        !missing.status.success() && text(&missing).contains("no process has this number"),
        "{missing:?}"
    );
    let both = host.parachute(&["run", "links", "--pid", &pid, "--container", "x"]);
    assert!(text(&both).contains("cannot be used with"), "{both:?}");
    end(alone);

    // Its first process is in the host's namespaces; the one that matters is the first of the new ones.
    let mut group = Group::new("/pt-jobs/one");
    group.start(&["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "sleep", "1000"]);
    let found = common::eventually("the child stands for it", SOON, async || {
        let found = listed(&agent, "/pt-jobs/one", 1).await;
        if found["host_namespaces"] == json!([]) { Ok(found) } else { Err(found.to_string()) }
    })
    .await;
    assert_ne!(found["pid"], group.pid());
    assert_eq!(stdout(&run(&agent, "links", "/pt-jobs/one").await).lines().count(), 1);
    alerted(&agent, "/pt-jobs/one").await;
    assert_eq!(stdout(&run(&agent, "target", "/pt-jobs/one").await), "pid 1\nsleep\n");
    drop(group);
    host.finish(agent);
}
