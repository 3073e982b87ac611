//! Ten thousand execs in a known container wake nobody, and a container that starts among them is still seen.

use std::time::Instant;

use testbed::WORKLOAD_IMAGE;

use crate::common::{self, Rig, SOON};

const EXECS: &str = "10000";

const CONFIGURATION: &str = r"
probes:
  sockets: { command: [ss, -s], parse: { none: {} } }
triggers:
  by-hand: { http: {}, probes: [sockets] }
";

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_storm_costs_nothing_and_hides_nobody() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let records = async || {
        let samples = agent.scrape().await.unwrap();
        assert!(common::sum(&samples, "parachute_exec_events_lost_total", &[]) < 0.5, "records were lost");
        common::sum(&samples, "parachute_exec_events_total", &[])
    };
    let before = records().await;
    let (start, used) = (Instant::now(), common::processor_seconds(&agent));
    let storm =
        rig.bed.pod("shop", "storm-0").container("main", WORKLOAD_IMAGE, &["/workload", "execs", EXECS]);
    let storm = storm.start().await.unwrap();
    let other = rig.bed.pod("shop", "other-0").container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    let other = other.start().await.unwrap();
    assert!(
        common::processes_beside(storm.containers[0].pid).len() > 1,
        "the storm was over too early to count"
    );
    let ended = storm.containers[0].pid;
    common::knows(&agent, &[storm, other]).await;

    common::eventually("the storm is over", SOON * 6, async || {
        // The workload waits for each of its children, so it is alone only between two of them or at the end.
        for _ in 0..20 {
            if common::processes_beside(ended).len() > 1 {
                return Err("it still execs".into());
            }
        }
        Ok(())
    })
    .await;
    let share = (common::processor_seconds(&agent) - used) / start.elapsed().as_secs_f64();
    assert!(share < 0.05, "the agent used {:.1} % of a processor", share * 100.0);
    // Two sandboxes, two containers, and what containerd, runc and the machine itself start meanwhile.
    let written = records().await - before;
    assert!(written < 40.0, "{written} records for four containers");
    rig.finish(agent);
}
