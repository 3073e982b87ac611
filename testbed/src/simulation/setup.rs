//! The simulated node's configuration, and what the kernel says of the agent.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::Asked;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/output");

/// Name, the file of what the tool has printed, and how it is parsed.
pub(super) const PROBES: [(&str, &str, &str); 4] = [
    (
        "counters",
        "nstat-az.iproute2-6.1.0.txt",
        "keyvalue: [{ name: node_kernel_counters_total, type: counter, help: Counters of the kernel., keys: \"TcpExt*\", key_label: counter }]",
    ),
    (
        "sockets",
        "ss-s.iproute2-6.1.0.txt",
        "regex: [{ name: node_tcp_sockets, type: gauge, help: TCP sockets by state., pattern: 'TCP:\\s+\\d+ \\(estab (?P<estab>\\d+), closed (?P<closed>\\d+), orphaned (?P<orphaned>\\d+), timewait (?P<timewait>\\d+)', group_label: state }]",
    ),
    (
        "interfaces",
        "ip-j-s-link.iproute2-6.1.0.json",
        "json: [{ name: node_receive_bytes_total, type: counter, help: Bytes received by interface., select: \".[]\", value: .stats64.rx.bytes, labels: { device: .ifname } }]",
    ),
    (
        "connections",
        "ss-tan.iproute2-6.1.0.txt",
        "table: { skip: 1, columns: [state, receive_queue, send_queue, local, peer], metrics: [{ name: node_tcp_connections, type: gauge, help: TCP sockets by state., aggregate: count, labels: { state: state } }] }",
    ),
];

/// Writes the configuration, whose commands print the files; its path.
pub(super) fn write(dir: &Path, asked: Asked) -> anyhow::Result<PathBuf> {
    let mut probes = String::new();
    let mut names = Vec::new();
    for (name, fixture, parse) in &PROBES[..asked.probes] {
        let printed = Path::new(FIXTURES).join(fixture);
        let printed = fs::read_to_string(&printed).with_context(|| printed.display().to_string())?;
        // A JSON string is a YAML one, too.
        let printed = serde_json::to_string(&printed)?;
        writeln!(
            probes,
            "  {name}: {{ command: [printf, '%s', {printed}], max_series: 25, parse: {{ {parse} }} }}"
        )?;
        names.push(*name);
    }
    let (queue, names) = (asked.queue, names.join(", "));
    let config = format!(
        "limits: {{ queued_runs: {queue}, results_grace: 2s }}\nprobes:\n{probes}triggers:\n  \
         at-start: {{ container_start: {{ delay: 0s }}, match: {{ namespace: crowd }}, probes: [{names}] }}\n  \
         everywhere: {{ alert: {{ labels: {{ alertname: Everything }} }}, target: {{ namespace: \"{{{{namespace}}}}\" }}, \
         max_targets: 1000, cooldown: 0s, probes: [{names}] }}\n"
    );
    let path = dir.join("parachute.yml");
    fs::write(&path, config)?;
    Ok(path)
}

/// Of the threads that live (`/proc/PID/task/TID/schedstat`, in ns; `Documentation/scheduler/sched-stats.rst`): a tick of 10 ms, in
/// which the process's own sum is told, is more than most of what is measured here takes.
pub(super) fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    // One that ends meanwhile has none.
    let used = threads.filter_map(|thread| {
        fs::read_to_string(thread.path().join("schedstat"))
            .ok()?
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    });
    Ok(Duration::from_nanos(used.sum()))
}

pub(super) fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}
