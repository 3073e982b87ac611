//! The numbers are the container's: equal to what is known of it, other than its neighbour's, and never the host's.

use testbed::{Agent, WORKLOAD_IMAGE};

use crate::common::{self, Rig, SOON};

const CONFIGURATION: &str = r"
probes:
  sockets:
    command: [ss, -s]
    parse:
      regex:
        - name: truth_tcp_sockets
          type: gauge
          help: TCP sockets by state.
          # Not `closed` and `orphaned`: ss takes them from the kernel's counts of all network namespaces together.
          pattern: 'TCP:\s+\d+ \(estab (?P<estab>\d+), .*, timewait (?P<timewait>\d+)'
          group_label: state
  listeners:
    command: [ss, -tlnH]
    parse:
      regex:
        - { name: truth_listeners, type: gauge, help: Listening TCP sockets., pattern: '^LISTEN' }
  processes:
    command: [ps, -e, -o, comm=]
    parse:
      regex:
        - { name: truth_processes, type: gauge, help: Processes by name., pattern: '^(?P<comm>\S+)' }
  addresses:
    command: [ip, -4, -o, address]
    parse:
      regex:
        - { name: truth_addresses, type: gauge, help: IPv4 addresses., pattern: 'inet (?P<address>[0-9.]+)/' }
  interfaces:
    command: [ls, /sys/class/net]
    parse:
      regex:
        - { name: truth_interfaces, type: gauge, help: Network interfaces., pattern: '^(?P<interface>\S+)$' }
triggers:
  at-start: { container_start: { delay: 1s }, probes: [sockets, listeners, processes, addresses, interfaces] }
";

#[tokio::test(flavor = "multi_thread")]
async fn each_container_shows_its_own_truth() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let cart =
        rig.bed.pod("shop", "cart-0").container("main", WORKLOAD_IMAGE, &["/workload", "listen", "3", "2"]);
    let cart = cart.start().await.unwrap();
    let tree = rig.bed.pod("shop", "tree-0").container("main", WORKLOAD_IMAGE, &["/workload", "tree", "6"]);
    let tree = tree.start().await.unwrap();

    // Each connection has both its ends in the pod. Processes: an observer is not among them.
    expect(&agent, "cart-0", "truth_tcp_sockets", &[("estab", 4.0), ("timewait", 0.0)]).await;
    expect(&agent, "tree-0", "truth_tcp_sockets", &[("estab", 0.0), ("timewait", 0.0)]).await;
    expect(&agent, "cart-0", "truth_listeners", &[("", 3.0)]).await;
    expect(&agent, "tree-0", "truth_listeners", &[("", 0.0)]).await;
    expect(&agent, "cart-0", "truth_processes", &[("workload", 1.0)]).await;
    expect(&agent, "tree-0", "truth_processes", &[("workload", 7.0)]).await;
    expect(&agent, "cart-0", "truth_addresses", &[("127.0.0.1", 1.0), (&cart.ip, 1.0)]).await;
    expect(&agent, "tree-0", "truth_addresses", &[("127.0.0.1", 1.0), (&tree.ip, 1.0)]).await;
    expect(&agent, "cart-0", "truth_interfaces", &[("eth0", 1.0), ("lo", 1.0)]).await;
    rig.finish(agent);
}

/// All series of a metric in a pod, by the value of their one own label: exactly these, and no other.
async fn expect(agent: &Agent, pod: &str, metric: &str, truth: &[(&str, f64)]) {
    common::eventually(&format!("{metric} of {pod}"), SOON, async || {
        let samples = agent.scrape().await.unwrap();
        let labels = [("namespace", "shop"), ("pod", pod), ("container", "main")];
        let mut found: Vec<(String, f64)> = common::select(&samples, metric, &labels)
            .map(|sample| {
                assert!(sample.labels.len() <= 4, "only the three labels and the declared one: {sample:?}");
                let own =
                    sample.labels.iter().find(|(name, _)| labels.iter().all(|(label, _)| label != name));
                (own.map(|(_, value)| value.clone()).unwrap_or_default(), sample.value)
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let mut truth: Vec<(String, f64)> =
            truth.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        truth.sort_by(|a, b| a.0.cmp(&b.0));
        if found == truth { Ok(()) } else { Err(format!("{found:?} instead of {truth:?}")) }
    })
    .await;
}
