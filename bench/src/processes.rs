//! What a family of processes has used, and how often it woke, as /proc tells it.

use std::fs;
use std::time::Duration;

/// A process and all that descend from it: an agent, its keeper, its launcher and the process that forks stubs.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(pid) = all.get(at) {
        let of_threads = tasks(*pid).into_iter().map(|task| fs::read_to_string(format!("{task}/children")));
        let children: String = of_threads.map(Result::unwrap_or_default).collect();
        all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        at += 1;
    }
    all
}

/// What they have had of a processor (`/proc/PID/task/TID/schedstat`, in ns). Threads that have ended are not in it.
pub(crate) fn processor(pids: &[u32]) -> Duration {
    let used = |task: String| -> Option<u64> {
        fs::read_to_string(format!("{task}/schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    Duration::from_nanos(pids.iter().flat_map(|pid| tasks(*pid)).filter_map(used).sum())
}

/// How often each thread has been switched to (`/proc/PID/task/TID/status`), with its name.
pub(crate) fn switches(pids: &[u32]) -> Vec<(String, u64)> {
    let of = |task: String| -> Option<(String, u64)> {
        let status = fs::read_to_string(format!("{task}/status")).ok()?;
        let all = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
        let name = fs::read_to_string(format!("{task}/comm")).ok()?;
        let id = task.rsplit('/').next()?;
        Some((format!("{} {id}", name.trim()), all.filter_map(|(_, n)| n.trim().parse::<u64>().ok()).sum()))
    };
    pids.iter().flat_map(|pid| tasks(*pid)).filter_map(of).collect()
}

fn tasks(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}
