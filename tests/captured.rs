//! What a command printed is kept as it was: a record of a pod's packets opens in tshark, and holds that pod's alone.

use std::process::Command;

use futures_util::future::join_all;
use serde_json::json;
use testbed::WORKLOAD_IMAGE;

use crate::common::alerting::{self, alert, captured, payload};
use crate::common::{self, Rig};

/// tcpdump ends by itself and well on SIGINT. `any` and no names looked up.
const CONFIGURATION: &str = r#"
probes:
  packets:
    command: [timeout, --preserve-status, -s, INT, "5", tcpdump, -i, any, -nU, -w, "-"]
    capabilities: [SYS_PTRACE, DAC_READ_SEARCH, NET_RAW, NET_ADMIN]
    timeout: 20s
    max_output: 16MiB
    keep: always
    parse: none
triggers:
  watched:
    alert: { labels: { alertname: Watched } }
    target: { namespace: "{{namespace}}", pod: "{{pod}}", container: "{{container}}" }
    probes: [packets]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn packets_open_in_tshark_and_are_the_pods_own() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let sink = rig.bed.pod("shop", "sink-0").container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    let sink = sink.start().await.unwrap();
    let ports = ["7001", "7002"];
    let talkers = join_all(ports.iter().enumerate().map(|(n, port)| {
        let pod = rig.bed.pod("shop", &format!("talker-{n}"));
        pod.container("main", WORKLOAD_IMAGE, &["/workload", "talk", &sink.ip, port]).start()
    }))
    .await;
    let talkers: Vec<_> = talkers.into_iter().map(Result::unwrap).collect();
    common::knows(&agent, &talkers).await;

    let alerts: Vec<_> = (0..2).map(|n| alert("Watched", &format!("talker-{n}"), n)).collect();
    let answer = alerting::post(&agent, &payload("watched", &alerts)).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.body);
    for (pod, port) in talkers.iter().zip(ports) {
        let capture = captured(&agent, &format!("pod={}", pod.name), 1).await.remove(0);
        assert_eq!(capture["outcome"], "ok", "{capture}");
        assert_eq!(capture["stdout"]["kind"], "pcap", "{capture}");
        let bytes = alerting::stdout(&agent, &capture).await;
        assert_eq!(capture["stdout"]["bytes"], json!(bytes.len()), "{capture}");
        let path = rig.path(&format!("{port}.pcap"));
        std::fs::write(&path, bytes).unwrap();
        // Anything but what passes between this pod and the sink. ARP has no addresses of that kind; IGMP is the pod's own kernel
        // that joins groups, from no address yet.
        let foreign = format!(
            "ip and not (igmp and ip.src == 0.0.0.0) and not (ip.addr == {} and ip.addr == {})",
            pod.ip, sink.ip
        );
        assert_eq!(tshark(&path, &foreign), [""; 0]);
        let own = tshark(&path, &format!("udp.dstport == {port} and ip.src == {}", pod.ip));
        println!("{}: {} packets of its own", pod.name, own.len());
        // One every 10 ms for 5 s, on a machine that is busy.
        assert!(own.len() >= 50, "{} packets of its own", own.len());
    }
    rig.finish(agent);
}

/// One line for each packet that this filter of Wireshark's selects; fails where tshark finds the file broken.
fn tshark(path: &std::path::Path, filter: &str) -> Vec<String> {
    let output = Command::new("tshark").arg("-r").arg(path).args(["-n", "-Y", filter]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let wrong = said.lines().any(|line| !line.starts_with("Running as user"));
    assert!(output.status.success() && !wrong, "{}: {said}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
