//! Cgroup path → container. Pure: it reads nothing but the text.
//!
//! The outermost component that names a container wins. A container that may create cgroups can name the ones below
//! its own as it likes; it has no say in those above.
//!
//! The configuration may name other targets. A machine and one of LXC's are containers as all others. A service, or any
//! other cgroup, is a group of the host's processes: the containers below it (Podman's in a user's service, those of a
//! containerd that was told no parent) stay what they are, and are no part of it.

use crate::config::Targets;
use crate::model::{ContainerId, Runtime};

/// What a cgroup's path tells of the container it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: Name,
    /// A guess: `Unknown` where only the id is there.
    pub runtime: Runtime,
    /// From the kubelet's part of the path.
    pub pod_uid: Option<String>,
    /// The path up to and with the container's own component: the container's cgroup, of which the given one may
    /// be a descendant.
    pub path: String,
}

impl Named {
    /// Whether its name is no more than a user's word.
    pub fn is_users(&self) -> bool {
        is_users(&self.path)
    }
}

/// How a container is called by its cgroup's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// The runtime's id.
    Id(ContainerId),
    /// A target's own name.
    Own(String),
}

/// The container or target that a cgroup belongs to; `None` for whatever else is on a host.
pub fn parse(path: &str, targets: &Targets) -> Option<Named> {
    let container = container(path);
    let Some(target) = targets.aimed(path) else { return container };
    match container {
        Some(container) if container.path.len() <= target.end || !target.kind.is_container() => {
            Some(container)
        }
        _ => Some(Named {
            name: Name::Own(target.name),
            runtime: target.kind,
            pod_uid: None,
            path: path.get(..target.end)?.to_owned(),
        }),
    }
}

/// A runtime's container alone.
pub fn container(path: &str) -> Option<Named> {
    let (mut pod_uid, mut parent, mut end) = (None, "", 0);
    for component in path.split('/') {
        end += component.len();
        match recognise(component, parent) {
            Component::Container(id, runtime) => {
                let runtime = match runtime {
                    // A bare id below the kubelet's groups, with nothing that tells more.
                    Runtime::Unknown if pod_uid.is_some() => Runtime::Containerd,
                    known => known,
                };
                let pod_uid = pod_uid.or_else(|| pod_uid_of(component));
                return Some(Named {
                    name: Name::Id(ContainerId::new(id)),
                    runtime,
                    pod_uid,
                    path: path[..end].to_owned(),
                });
            }
            Component::Monitor => return None,
            Component::Other => {}
        }
        pod_uid = pod_uid.or_else(|| pod_uid_of(component));
        parent = component;
        end += 1;
    }
    None
}

/// Whether what is at this path is below a user's own systemd, who may make cgroups there and call them as they like: an id in
/// such a name is the user's word and no runtime's. Root needs no trick, so root's own systemd is none of these.
pub fn is_users(path: &str) -> bool {
    let mut components = path.split('/').peekable();
    while let Some(component) = components.next() {
        let Some(uid) = component.strip_prefix("user-").and_then(|rest| rest.strip_suffix(".slice")) else {
            continue;
        };
        let is_uid = uid != "0" && !uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_digit());
        let manager = format!("user@{uid}.service");
        if is_uid && components.next_if(|next| *next == manager).is_some() && components.peek().is_some() {
            return true;
        }
    }
    false
}

enum Component<'a> {
    Container(&'a str, Runtime),
    /// conmon, which stands beside its container in the host's namespaces.
    Monitor,
    Other,
}

fn recognise<'a>(component: &'a str, parent: &str) -> Component<'a> {
    // Bare, as the cgroupfs driver names it; the directory above is the runtime's.
    if is_id(component) {
        return match parent {
            "docker" | "moby" => Component::Container(component, Runtime::Docker),
            // containerd's namespaces: the CRI plugin's and nerdctl's.
            "k8s.io" | "default" => Component::Container(component, Runtime::Containerd),
            // Podman's pods have groups of their own here; its containers are below them as libpod-ID.
            "libpod_parent" => Component::Other,
            _ => Component::Container(component, Runtime::Unknown),
        };
    }
    // SLICE:PREFIX:ID: runc's name for systemd, taken by a runtime that was told to use cgroupfs.
    if let Some((rest, id)) = component.rsplit_once(':') {
        let prefix = rest.rsplit(':').next().unwrap_or_default();
        return if is_id(id) { named(prefix, id) } else { Component::Other };
    }
    // PREFIX-ID.scope with the systemd driver; CRI-O and Podman use PREFIX-ID with the other one too.
    let unit = component.strip_suffix(".scope").unwrap_or(component);
    match unit.rsplit_once('-') {
        Some((prefix, id)) if is_id(id) => named(prefix, id),
        _ => Component::Other,
    }
}

fn named<'a>(prefix: &str, id: &'a str) -> Component<'a> {
    match prefix {
        "cri-containerd" | "nerdctl" => Component::Container(id, Runtime::Containerd),
        "crio" => Component::Container(id, Runtime::Crio),
        "docker" => Component::Container(id, Runtime::Docker),
        "libpod" | "libpod-payload" => Component::Container(id, Runtime::Podman),
        "crio-conmon" | "libpod-conmon" => Component::Monitor,
        _ => Component::Container(id, Runtime::Unknown),
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The uid in `podUID` (cgroupfs) or `…-podUID.slice` (systemd, where `_` stands for `-`): 36 characters, or 32 hex
/// digits for a pod that the kubelet read from a file.
fn pod_uid_of(component: &str) -> Option<String> {
    let slice = component.split_once(".slice").map_or(component, |(name, _)| name);
    let uid = match slice.rsplit_once("-pod") {
        Some((_, uid)) => uid.replace('_', "-"),
        None => component.strip_prefix("pod")?.to_owned(),
    };
    let hex = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = uid.bytes().filter(|byte| *byte == b'-').count();
    (hex == 32 && (dashes == 0 || dashes == 4) && uid.len() == hex + dashes).then_some(uid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATHS: &str = include_str!("../../../tests/fixtures/cgroup/paths.tsv");

    #[test]
    fn paths_of_real_runtimes_are_told_apart() {
        let mut rows = 0;
        for line in PATHS.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('\t').collect();
            let [path, id, runtime, uid] = columns[..] else { panic!("not four columns: {line}") };
            let found = parse(path, &Targets::default()).map(|named| {
                let Name::Id(id) = named.name else { panic!("{path} is a target") };
                assert!(path.starts_with(&named.path) && named.path.contains(id.as_str()), "{path}");
                (id.as_str().to_owned(), named.runtime.as_str(), named.pod_uid)
            });
            let expected =
                (id != "-").then(|| (id.to_owned(), runtime, Some(uid.to_owned()).filter(|uid| uid != "-")));
            assert_eq!(found, expected, "{path}");
            rows += 1;
        }
        assert!(rows > 80, "only {rows} rows were read");
    }

    #[test]
    fn a_nested_cgroup_leads_to_the_containers_own() {
        let id = "c".repeat(64);
        let own = format!("/machine.slice/libpod-{id}.scope");
        let named = parse(&format!("{own}/container/deeper"), &Targets::default()).map(|named| named.path);
        assert_eq!(named.as_deref(), Some(own.as_str()));
    }

    #[test]
    fn containers_and_targets_on_one_path() {
        let text = "targets: { services: ['*'], machines: ['*'], lxc: ['*'], cgroups: [/batch] }\n\
                    probes: { p: { command: [/bin/true], parse: none } }\n";
        let targets = crate::config::from_str(text, std::path::Path::new("p.yml")).unwrap().targets;
        let id = "c".repeat(64);
        for (path, kind, own) in [
            // A group of the host's, with a container in it.
            (
                format!("/system.slice/containerd.service/{id}/deeper"),
                "unknown",
                format!("/system.slice/containerd.service/{id}"),
            ),
            (
                "/system.slice/containerd.service".to_owned(),
                "systemd",
                "/system.slice/containerd.service".to_owned(),
            ),
            (format!("/batch/{id}"), "unknown", format!("/batch/{id}")),
            ("/batch/other".to_owned(), "cgroup", "/batch".to_owned()),
            // A container with another one in it.
            (format!("/lxc.payload.web/docker/{id}"), "lxc", "/lxc.payload.web".to_owned()),
            (
                format!("/machine.slice/machine-web.scope/payload/docker/{id}"),
                "nspawn",
                "/machine.slice/machine-web.scope".to_owned(),
            ),
            (format!("/docker/{id}/lxc.payload.web"), "docker", format!("/docker/{id}")),
            (format!("/docker/{id}/system.slice/nginx.service"), "docker", format!("/docker/{id}")),
        ] {
            let named = parse(&path, &targets).unwrap();
            assert_eq!((named.runtime.as_str(), named.path), (kind, own), "{path}");
        }
    }

    #[test]
    fn what_is_below_a_users_own_systemd_is_the_users() {
        let id = "c".repeat(64);
        let slice = "/user.slice/user-1000.slice";
        for (path, expected) in [
            (format!("{slice}/user@1000.service/{id}"), true),
            (format!("{slice}/user@1000.service/user.slice/libpod-{id}.scope"), true),
            (format!("/kubelet{slice}/user@1000.service/{id}"), true),
            // Whole, it is the host's.
            (format!("{slice}/user@1000.service"), false),
            (format!("{slice}/session-3.scope/{id}"), false),
            (format!("{slice}/user@1001.service/{id}"), false),
            (format!("/user.slice/user-0.slice/user@0.service/{id}"), false),
            (format!("/user.slice/user-x.slice/user@x.service/{id}"), false),
            (format!("/system.slice/user@1000.service/{id}"), false),
            (format!("/docker/{id}"), false),
            (String::new(), false),
        ] {
            assert_eq!(is_users(&path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_it(path in "\\PC*") {
            let _ = parse(&path, &Targets::default());
        }

        #[test]
        fn what_is_below_never_changes_the_answer(below in "[a-z0-9:._/-]{0,200}") {
            let own = format!("/kubepods/burstable/pod{}/{}", "1".repeat(32), "a".repeat(64));
            let parse = |path: &str| parse(path, &Targets::default());
            prop_assert_eq!(parse(&format!("{own}/{below}")), parse(&own));
        }
    }
}
