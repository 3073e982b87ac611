//! What the host has: kernel, cgroups, security modules, runtimes. Reads; changes nothing but that the hook is attached once.

use std::fs;
use std::path::Path;

use super::kernel::Kernel;
use super::{Check, Verdict};
use crate::app::registry_counters;
use crate::config::Runtimes;
use crate::containers::metadata::{Said, ask_all};
use crate::metrics::AgentMetrics;
use crate::model::Capability;
use crate::{detect, enter};

pub(super) fn checks(kernel: &Kernel) -> Vec<Check> {
    let mut checks = vec![name()];
    checks.extend(kernel.checks());
    checks.extend([btf(kernel), hook(), cgroups(kernel), devices(), security(), ptrace_scope()]);
    checks
}

fn name() -> Check {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let distribution = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = distribution.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name.unwrap_or("an unknown distribution").trim_matches('"');
    // For people: what it can do was tried.
    Check::new("kernel", Verdict::Ok, format!("Linux {release} {}, {name}", std::env::consts::ARCH))
}

fn btf(kernel: &Kernel) -> Check {
    match fs::metadata("/sys/kernel/btf/vmlinux") {
        Ok(about) if !kernel.lacks(Capability::KernelBtf) => {
            Check::new("BTF", Verdict::Ok, format!("/sys/kernel/btf/vmlinux, {} KiB", about.len() >> 10))
        }
        _ => Check::new("BTF", Verdict::Warn, "none: needed where cgroups are those of v1 alone"),
    }
}

fn hook() -> Check {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let attached = runtime.map_err(|e| e.to_string()).and_then(|runtime| {
        runtime.block_on(async { detect::attach().map(drop).map_err(|e| e.to_string()) })
    });
    match attached {
        Ok(()) => Check::new("exec hook", Verdict::Ok, "the eBPF program loads and attaches"),
        Err(error) => Check::new("exec hook", Verdict::Fail, error),
    }
}

fn cgroups(kernel: &Kernel) -> Check {
    let killed = if kernel.lacks(Capability::CgroupKill) { "no cgroup.kill" } else { "cgroup.kill" };
    let limits = [
        ("memory", Capability::CgroupMemory),
        ("pids", Capability::CgroupPids),
        ("cpu", Capability::CgroupCpu),
    ];
    let limits: Vec<_> =
        limits.iter().filter(|(_, capability)| !kernel.lacks(*capability)).map(|(name, _)| *name).collect();
    let there = |path: &str| Path::new(path).exists();
    let mode = if there("/sys/fs/cgroup/cgroup.controllers") {
        format!("v2, {killed}")
    } else if there("/sys/fs/cgroup/unified/cgroup.controllers") {
        format!("hybrid, {killed}")
    } else {
        "v1".to_owned()
    };
    let verdict = match limits.len() {
        3 => Verdict::Ok,
        _ if mode == "v1" && !Path::new("/sys/fs/cgroup/freezer").exists() => Verdict::Fail,
        _ => Verdict::Warn,
    };
    Check::new("cgroups", verdict, format!("{mode}; runs can be limited in {}", limits.join(", ")))
}

fn devices() -> Check {
    let (verdict, found) = match enter::device_rule() {
        Ok(Some(by)) => (Verdict::Ok, format!("observers open no devices but those of their root: {by}")),
        Ok(None) => (Verdict::Warn, "none: a container's nodes can lead observers to any device".to_owned()),
        Err(error) => (Verdict::Fail, error),
    };
    Check::new("device rule", verdict, found)
}

fn security() -> Check {
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let found = if modules.is_empty() { "not known: securityfs is not mounted".to_owned() } else { modules };
    Check::new("LSMs", Verdict::Ok, found)
}

fn ptrace_scope() -> Check {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    Check::new(
        "Yama",
        Verdict::Ok,
        scope.map_or("absent".into(), |scope| format!("ptrace_scope {}", scope.trim())),
    )
}

/// Those that the agent would ask, and what they answer.
pub(super) fn runtimes(which: &Runtimes) -> Check {
    let asked = || -> Result<_, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let counters = registry_counters(&AgentMetrics::new().map_err(|error| error.to_string())?).metadata;
        Ok(runtime.map_err(|error| error.to_string())?.block_on(ask_all(which, &counters)))
    };
    let answers = match asked() {
        Ok(answers) => answers,
        Err(error) => return Check::new("runtimes", Verdict::Fail, error),
    };
    if answers.is_empty() {
        return match which {
            Runtimes::Auto => Check::new(
                "runtimes",
                Verdict::Warn,
                "no socket of a runtime (CRI, Docker, Podman) at the usual places; name it under runtimes:",
            ),
            Runtimes::Listed(_) => Check::new("runtimes", Verdict::Ok, "none is asked, as runtimes: has it"),
        };
    }
    // Docker's own containerd is at a usual place and speaks no CRI: that is nothing to mend where another one answers.
    let is_one_answering = answers.iter().any(|said| said.answer.is_ok());
    let is_usual = matches!(which, Runtimes::Auto) && is_one_answering;
    let is_wrong = answers.iter().any(|said| said.answer.is_err() && !(said.is_lasting && is_usual));
    let told = |said: &Said| match &said.answer {
        Ok(count) => format!("{} answers: {count} containers", said.socket.display()),
        // It names the socket.
        Err(error) => error.clone(),
    };
    let found: Vec<_> = answers.iter().map(told).collect();
    Check::new("runtimes", if is_wrong { Verdict::Warn } else { Verdict::Ok }, found.join("\n"))
}
