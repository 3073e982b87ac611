//! Output that is endless, binary, enormous or made to deceive costs a counter, never the scrape or the agent.

use std::fs;

use testbed::{Agent, WORKLOAD_IMAGE};

use crate::common::{self, Rig, SOON};

const CONFIGURATION: &str = r#"
probes:
  endless: { command: ["yes"], timeout: 10s, max_output: 64KiB, parse: { regex: [{ name: h_endless, type: gauge, help: Lines., pattern: "y" }] } }
  zeros: { command: [cat, /dev/zero], timeout: 10s, max_output: 64KiB, parse: { keyvalue: [{ name: h_zeros, type: gauge, help: None., key: zero }] } }
  binary: { command: [/usr/bin/printf, '\377\376 7\nname\360\237 8\n'], parse: { table: { columns: [name, value], metrics: [{ name: h_binary, type: gauge, help: Bytes., labels: { name: name }, value: value }] } } }
  line: { command: [head, -c, "100000000", /dev/zero], timeout: 10s, max_output: 200MiB, parse: { regex: [{ name: h_line, type: gauge, help: None., pattern: "x" }] } }
  rows: { command: [seq, "20000"], parse: { table: { columns: [number], metrics: [{ name: h_rows, type: gauge, help: Rows., labels: { number: number }, value: number }] } } }
  names: { command: [ps, -e, -o, "args="], parse: { regex: [{ name: h_names, type: gauge, help: Processes by command line., pattern: '^(?P<args>.+)$' }] } }
  exposition: { command: [/usr/bin/printf, 'good 1\nbad{a="\n} 2\nh_ok{a="\\"x"} 3\n# TYPE good counter\n'], parse: { prometheus: {} } }
triggers:
  at-start: { container_start: { delay: 1s }, probes: [endless, zeros, binary, line, rows, names, exposition] }
"#;

/// What the agent may hold at most, in bytes: the hundred-megabyte line is wanted, and its probe allows for it.
const MEMORY: u64 = 600 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_output_never_costs_the_scrape() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let pod = rig.bed.pod("shop", "bad-0").container("main", WORKLOAD_IMAGE, &["/workload", "hostile"]);
    pod.start().await.unwrap();
    common::eventually("all seven have run", SOON * 3, async || {
        let samples = agent.scrape().await.unwrap();
        let runs =
            common::select(&samples, "parachute_probe_last_run_timestamp_seconds", &[("pod", "bad-0")]);
        let done = runs.filter(|sample| sample.value > 0.0).count();
        if done == 7 { Ok(()) } else { Err(format!("{done} have")) }
    })
    .await;

    let samples = agent.scrape().await.unwrap();
    for probe in ["endless", "zeros"] {
        let labels = [("probe", probe), ("reason", "truncated")];
        assert!(common::sum(&samples, "parachute_probe_failures_total", &labels) > 0.5, "{probe}");
    }
    assert!(common::sum(&samples, "parachute_series_dropped_total", &[("probe", "rows")]) > 0.5);
    let rows = common::select(&samples, "h_rows", &[]).count();
    assert!((1..20_000).contains(&rows), "{rows} rows are published");
    assert_eq!(common::select(&samples, "h_binary", &[]).count(), 2);
    assert!(common::select(&samples, "h_names", &[]).any(|s| s.label("args").contains("quo\"te")));
    assert!(common::sum(&samples, "parachute_parse_errors_total", &[("probe", "exposition")]) > 0.5);
    let peak = peak_memory(&agent);
    assert!(peak < MEMORY, "{peak} bytes at most");
    rig.finish(agent);
}

/// `VmHWM` of `proc_pid_status(5)`.
fn peak_memory(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
