//! Ten thousand execs in a known container wake nobody, and a container that starts among them is still seen.

use testbed::WORKLOAD_IMAGE;

use crate::common::{self, Rig, SOON};

const EXECS: &str = "10000";

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_storm_costs_nothing_and_hides_nobody() {
    let rig = Rig::new().await;
    let agent = rig.agent(common::ONE_PROBE).await;
    let records = async || {
        let samples = agent.scrape().await.unwrap();
        assert!(common::sum(&samples, "parachute_exec_events_lost_total", &[]) < 0.5, "records were lost");
        common::sum(&samples, "parachute_exec_events_total", &[])
    };
    let before = records().await;
    let used = common::processor_seconds(&agent);
    let storm =
        rig.bed.pod("shop", "storm-0").container("main", WORKLOAD_IMAGE, &["/workload", "execs", EXECS]);
    let storm = storm.start().await.unwrap();
    let other = rig.bed.pod("shop", "other-0").container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    let other = other.start().await.unwrap();
    let init = storm.containers[0].pid;
    common::knows(&agent, &[storm, other]).await;
    // The workload takes this name when it has made its last process.
    let is_over = || common::processes_beside(init).contains(&"done".to_owned());
    assert!(!is_over(), "the storm was over before the other container was known");

    common::eventually("the storm is over", SOON * 6, async || {
        if is_over() { Ok(()) } else { Err("it still execs".into()) }
    })
    .await;
    let (agents, storms) =
        (common::processor_seconds(&agent) - used, common::processor_seconds_of_tree(init));
    println!("the storm used {storms} s of a processor, the agent {agents} s");
    // Against the storm's own use, as a busy machine makes both slow. Starting four containers is in it too.
    assert!(agents < storms * 0.1, "the agent used {agents} s while the storm used {storms} s");
    // Two sandboxes, two containers, and what containerd, runc and the machine itself start meanwhile.
    let written = records().await - before;
    assert!(written < 40.0, "{written} records for four containers");
    rig.finish(agent);
}
