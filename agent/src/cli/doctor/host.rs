//! What the host has: kernel, cgroups, security modules, runtimes. Reads; changes nothing but that the hook is attached once.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{Check, Verdict};
use crate::containers::metadata::USUAL_SOCKETS;
use crate::{detect, enter};

/// The oldest kernel on which everything works (README, "Kernels").
const OLDEST: (u32, u32) = (5, 10);

pub(super) fn checks() -> Vec<Check> {
    vec![kernel(), btf(), hook(), cgroups(), devices(), security(), ptrace_scope(), runtimes()]
}

fn kernel() -> Check {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let distribution = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = distribution.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name.unwrap_or("an unknown distribution").trim_matches('"');
    let verdict =
        if version(&release).is_some_and(|version| version >= OLDEST) { Verdict::Ok } else { Verdict::Warn };
    Check::new("kernel", verdict, format!("Linux {release} {}, {name}", std::env::consts::ARCH))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn btf() -> Check {
    match fs::metadata("/sys/kernel/btf/vmlinux") {
        Ok(about) => {
            Check::new("BTF", Verdict::Ok, format!("/sys/kernel/btf/vmlinux, {} KiB", about.len() >> 10))
        }
        Err(_) => Check::new("BTF", Verdict::Warn, "none: needed where cgroups are those of v1 alone"),
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

fn cgroups() -> Check {
    let controllers = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    // Since Linux 5.14; the root has no such file, and it may have no children.
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let has_kill = version(&release).is_some_and(|version| version >= (5, 14));
    let killed = if has_kill { "cgroup.kill" } else { "no cgroup.kill, which is from Linux 5.14" };
    let v1 = ["memory", "pids", "cpu"].map(|name| (name, Path::new("/sys/fs/cgroup").join(name)));
    let v1: Vec<_> =
        v1.iter().filter(|(_, path)| path.join("cgroup.procs").exists()).map(|(name, _)| *name).collect();
    let (mode, limits) = if let Some(all) = controllers("/sys/fs/cgroup/cgroup.controllers") {
        let has = |name: &&str| all.split(' ').any(|controller| controller == *name);
        let limits: Vec<_> = ["memory", "pids", "cpu"].into_iter().filter(has).collect();
        (format!("v2, {killed}"), limits)
    } else if controllers("/sys/fs/cgroup/unified/cgroup.controllers").is_some() {
        (format!("hybrid, {killed}"), v1)
    } else {
        ("v1".to_owned(), v1)
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

fn runtimes() -> Check {
    let socket = |path: &&str| Path::new(path).exists();
    let state = |path: &str| match UnixStream::connect(path) {
        Ok(_) => format!("{path} listens"),
        Err(error) => format!("{path}: {error}"),
    };
    let found: Vec<_> = USUAL_SOCKETS.iter().filter(|path| socket(path)).map(|path| state(path)).collect();
    if found.is_empty() {
        return Check::new(
            "runtimes",
            Verdict::Warn,
            "no CRI socket at the usual places; name it under runtimes:",
        );
    }
    Check::new("runtimes", Verdict::Ok, found.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        for (release, expected) in [
            ("5.10.0-28-amd64", Some((5, 10))),
            ("6.18.44-fc-v669", Some((6, 18))),
            ("5.4.0", Some((5, 4))),
            ("x", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
        assert!(version("5.10.1") >= Some(OLDEST) && version("5.4.300") < Some(OLDEST));
    }
}
