//! What a family of processes has used, how often it woke and how it is scheduled, as /proc tells it; and on how many processors.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

/// What the wished-for figures are about.
const PROCESSORS: usize = 2;

/// This program and all that it starts have two processors, on a machine with more as well. To be called while there is one thread.
pub(crate) fn keep_to_two_processors() -> anyhow::Result<()> {
    let this = Pid::from_raw(0);
    let all = sched_getaffinity(this)?;
    let mut few = CpuSet::new();
    let ours = (0..CpuSet::count()).filter(|number| all.is_set(*number).unwrap_or(false));
    for number in ours.take(PROCESSORS) {
        few.set(number)?;
    }
    sched_setaffinity(this, &few).context("keeping to two processors")
}

/// Of a container's first process, whose number the runtime has told.
pub(crate) fn pidfd(pid: i32) -> anyhow::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).context("a container without a pid")?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

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

/// Whether the process's first thread goes before all that are scheduled by time (policy, field 41 of proc_pid_stat(5)).
pub(crate) fn goes_first(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, which is in parentheses, may have spaces in it; the third field is the first one behind it.
    let behind_name = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let policy = behind_name.split_whitespace().nth(41 - 3).and_then(|policy| policy.parse::<i32>().ok());
    policy == Some(nix::libc::SCHED_RR)
}

fn tasks(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// Memory of a process, or of some, in MB of 10⁶ bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    pub now: f64,
    pub most: f64,
}

impl Resident {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> anyhow::Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
            let kibibytes: f64 = line.trim_matches([':', '\t', ' ', 'k', 'B']).parse()?;
            Ok(kibibytes * 1024.0 / 1e6)
        };
        Ok(Self { now: field("VmRSS")?, most: field("VmHWM")? })
    }
}
