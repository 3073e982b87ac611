//! A stopped agent cannot read its ring: what does not fit is counted, to the last record, and found by a scan.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::{Agent, WORKLOAD, WORKLOAD_IMAGE};

use crate::common::{self, Rig};

/// The ring holds 8,192 records (agent-ebpf/src/lib.rs).
const RING: f64 = 8192.0;
const CGROUPS: u32 = 9000;

/// Written, lost and scans after a loss, since the agent started.
async fn counts(agent: &Agent) -> [f64; 3] {
    let samples = agent.scrape().await.unwrap();
    let of = |name, labels: &[_]| common::sum(&samples, name, labels);
    [
        of("parachute_exec_events_total", &[]),
        of("parachute_exec_events_lost_total", &[]),
        of("parachute_resyncs_total", &[("reason", "loss")]),
    ]
}

fn unified() -> PathBuf {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let of = |line: &str| line.contains(" cgroup2 ").then(|| line.split(' ').nth(1).unwrap().into());
    mounts.lines().find_map(of).expect("a cgroup2 hierarchy")
}

#[tokio::test(flavor = "multi_thread")]
async fn losses_are_counted_exactly_and_made_up_for() {
    let rig = Rig::new().await;
    let agent = rig.agent(common::ONE_PROBE).await;
    let [written, lost, scans] = counts(&agent).await;
    assert!(lost < 0.5 && scans < 0.5);

    let pid = Pid::from_raw(agent.pid().try_into().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    let folder = unified().join(format!("parachute-losses-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let program = rig.path("workload");
    std::fs::write(&program, WORKLOAD).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    // One process in each of so many new cgroups execs once there.
    let execs = Command::new(&program).arg("cgroups").arg(&folder).arg(CGROUPS.to_string()).status().unwrap();
    assert!(execs.success());
    for cgroup in [folder.join("1"), folder] {
        std::fs::remove_dir(cgroup).unwrap();
    }
    // Its records find the ring full.
    let pod = rig.bed.pod("shop", "late-0").container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    let pod = pod.start().await;
    kill(pid, Signal::SIGCONT).unwrap();

    common::knows(&agent, &[pod.unwrap()]).await;
    let now = counts(&agent).await;
    let (written, lost, scans) = (now[0] - written, now[1] - lost, now[2] - scans);
    println!("{written} records were written and {lost} lost, and the tree was scanned {scans} times");
    assert!(lost >= f64::from(CGROUPS) - RING && scans >= 1.0);
    // Each of the cgroups is in one of the two counts; what is over are the pod's, and the machine's own.
    let over = written + lost - f64::from(CGROUPS);
    assert!((0.0..40.0).contains(&over), "{over} records more than cgroups");
    rig.finish(agent);
}
