//! Output that is endless, binary, enormous or made to deceive costs a counter, never the scrape or the agent.

use std::fs;

use testbed::{Agent, WORKLOAD_IMAGE};

use crate::common::{self, Rig, SOON};

const CONFIGURATION: &str = r#"
probes:
  endless: { command: ["yes"], timeout: 20s, max_output: 64KiB, parse: { regex: [{ name: hostile_endless, type: gauge, help: Lines., pattern: "y" }] } }
  zeros: { command: [cat, /dev/zero], timeout: 20s, max_output: 64KiB, parse: { keyvalue: [{ name: hostile_zeros, type: gauge, help: None., key: zero }] } }
  binary: { command: [/usr/bin/printf, '\377\376 7\nname\360\237 8\n'], parse: { table: { columns: [name, value], metrics: [{ name: hostile_binary, type: gauge, help: Numbers., labels: { name: name }, value: value }] } } }
  line: { command: [head, -c, "100000000", /dev/zero], timeout: 20s, max_output: 64MiB, parse: { regex: [{ name: hostile_line, type: gauge, help: None., pattern: "x" }] } }
  long: { command: [head, -c, "60000000", /dev/zero], timeout: 20s, max_output: 64MiB, parse: { regex: [{ name: hostile_long, type: gauge, help: Lines with an x., pattern: "x" }] } }
  rows: { command: [seq, "20000"], max_series: 500, parse: { table: { columns: [number], metrics: [{ name: hostile_rows, type: gauge, help: Rows., labels: { number: number }, value: number }] } } }
  names: { command: [ps, -e, -o, "args="], parse: { regex: [{ name: hostile_names, type: gauge, help: Processes by command line., pattern: '^(?P<args>.+)$' }] } }
  comm: { command: [cat, /proc/1/comm], parse: { regex: [{ name: hostile_comm, type: gauge, help: Lines of a process's name., pattern: '(?-u)^(?P<text>.+)$' }] } }
  exposition: { command: [/usr/bin/printf, 'good 1\nbad{a="\n} 2\nh_ok{a="\\"x"} 3\n# TYPE good counter\nparachute_build_info 9\n'], parse: { prometheus: {} } }
triggers:
  at-start: { container_start: { delay: 1s }, probes: [endless, zeros, binary, line, long, rows, names, comm, exposition] }
"#;

const PROBES: usize = 9;

/// What the agent may hold at most, in bytes: one whole output of 64 MiB while it is captured, copied and parsed.
const MEMORY: u64 = 400 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_output_never_costs_the_scrape() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let pod = rig.bed.pod("shop", "bad-0").container("main", WORKLOAD_IMAGE, &["/workload", "hostile"]);
    pod.start().await.unwrap();
    common::eventually("all have run", SOON * 3, async || {
        let samples = agent.scrape().await.unwrap();
        let runs =
            common::select(&samples, "parachute_probe_last_run_timestamp_seconds", &[("pod", "bad-0")]);
        let done = runs.filter(|sample| sample.value > 0.0).count();
        if done == PROBES { Ok(()) } else { Err(format!("{done} have")) }
    })
    .await;

    let metrics = agent.get("/metrics").await.unwrap().body;
    common::promtool(&metrics);
    let samples = testbed::samples(&metrics).unwrap();
    for (probe, truncated) in [("endless", 1.0), ("zeros", 1.0), ("line", 1.0), ("long", 0.0), ("rows", 0.0)]
    {
        let labels = [("probe", probe), ("reason", "truncated")];
        assert_eq!(common::sum(&samples, "parachute_probe_failures_total", &labels), truncated, "{probe}");
    }
    for probe in ["binary", "long", "rows", "names", "comm"] {
        assert_eq!(
            common::sum(&samples, "parachute_probe_last_success", &[("probe", probe)]),
            1.0,
            "{probe}"
        );
    }
    // Half an output gives no number.
    for metric in ["hostile_endless", "hostile_zeros", "hostile_line"] {
        assert_eq!(common::select(&samples, metric, &[]).count(), 0, "{metric}");
    }
    assert_eq!(common::select(&samples, "hostile_rows", &[]).count(), 500);
    assert_eq!(common::sum(&samples, "parachute_series_dropped_total", &[("probe", "rows")]), 19_500.0);
    let mut numbers: Vec<f64> = common::select(&samples, "hostile_binary", &[]).map(|s| s.value).collect();
    numbers.sort_by(f64::total_cmp);
    assert_eq!(numbers, [7.0, 8.0]);
    assert!(common::select(&samples, "hostile_names", &[]).any(|s| s.label("args").contains("quo\"te")));
    let lines: Vec<&str> = common::select(&samples, "hostile_comm", &[]).map(|s| s.label("text")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.contains(&"\"") && lines.contains(&"\u{fffd} fake{a=\"b\"}"), "{lines:?}");
    assert!(common::sum(&samples, "parachute_parse_errors_total", &[("probe", "exposition")]) > 0.5);
    // What a command prints cannot pass for a metric of the agent's.
    assert_eq!(common::sum(&samples, "parachute_build_info", &[]), 1.0);
    let peak = peak_memory(&agent);
    println!("the agent held {} MiB at most", peak >> 20);
    assert!(peak < MEMORY, "{peak} bytes at most");
    rig.finish(agent);
}

/// `VmHWM` of `proc_pid_status(5)`.
fn peak_memory(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
