//! A small simulated node, with the agent of this build: what it reports must agree with itself, so that docs/scaling.md can be
//! trusted to say what a larger one has shown.

use std::collections::BTreeMap;
use std::path::Path;

use testbed::{Fleet, Simulated, Snapshot, simulate};

/// Fewer may wait than the alert asks for: 5 pods × 3 probes.
const ASKED: Simulated = Simulated { pods: 5, probes: 3, churn: 2, alerts: 10, queue: 10 };

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_nodes_figures_agree() {
    let alone = tokio::task::spawn_blocking(testbed::alone).await.unwrap().unwrap();
    let before = Snapshot::take();
    let program = Path::new(env!("CARGO_BIN_EXE_parachute"));
    let node = simulate(program, ASKED, Some(alone.try_clone().unwrap())).await.unwrap();
    println!("{node:#?}\n{}", Fleet { node: &node, asked: ASKED, nodes: 10_000 }.table().unwrap());

    assert_eq!(node.containers, ASKED.pods);
    assert!(node.series_each > ASKED.probes * 3, "each probe has series, and the agent two of each");
    assert_eq!(node.families.values().sum::<usize>(), ASKED.pods * node.series_each);
    assert!(node.families.values().all(|series| series % ASKED.pods == 0), "{:?}", node.families);
    assert_eq!(node.families["parachute_probe_last_success"], ASKED.pods * ASKED.probes);
    assert!(node.series > ASKED.pods * node.series_each, "the agent's own are among them");
    assert!(node.gzip_bytes * 2 < node.plain_bytes && node.plain_bytes > node.series * 20);
    // The queue takes what it can of an alert that is too large for it, and says so.
    assert_eq!(node.alert.queued, ASKED.queue);
    assert_eq!(node.alert.dropped, BTreeMap::from([("queue_full".to_owned(), 1)]));
    assert!(!node.stranger_cpu.is_zero(), "an alert of elsewhere is looked at");
    // What an alert asked for is kept.
    assert_eq!(node.captures, node.alert.queued);
    assert!(node.capture_bytes > 0);
    let replaced = &node.replaced;
    assert_eq!((replaced.pods, replaced.new_series), (ASKED.churn, ASKED.churn * node.series_each));
    assert_eq!(replaced.series_after, ASKED.pods * node.series_each);
    assert!(replaced.most_series >= replaced.series_after, "the old ones stay for their grace");
    assert_eq!(before.leftovers(), [""; 0]);
}
