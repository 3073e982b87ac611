//! Cgroup path → container. Pure: it reads nothing but the text.
//!
//! The outermost component that names a container wins. A container that may create cgroups can name the ones below
//! its own as it likes; it has no say in those above.

use crate::model::{ContainerId, Runtime};

/// What a cgroup's path tells of the container it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub id: ContainerId,
    /// A guess: `Unknown` where only the id is there.
    pub runtime: Runtime,
    /// From the kubelet's part of the path.
    pub pod_uid: Option<String>,
    /// The path up to and with the container's own component: the container's cgroup, of which the given one may
    /// be a descendant.
    pub path: String,
}

/// The container that a cgroup belongs to; `None` for services, slices, scopes and whatever else is not one.
pub fn parse(path: &str) -> Option<Named> {
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
                    id: ContainerId::new(id),
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
            let found = parse(path).map(|named| {
                assert!(path.starts_with(&named.path) && named.path.contains(named.id.as_str()), "{path}");
                (named.id.as_str().to_owned(), named.runtime.as_str(), named.pod_uid)
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
        let named = parse(&format!("{own}/container/deeper")).map(|named| named.path);
        assert_eq!(named.as_deref(), Some(own.as_str()));
    }

    proptest! {
        #[test]
        fn no_text_panics_it(path in "\\PC*") {
            let _ = parse(&path);
        }

        #[test]
        fn what_is_below_never_changes_the_answer(below in "[a-z0-9:._/-]{0,200}") {
            let own = format!("/kubepods/burstable/pod{}/{}", "1".repeat(32), "a".repeat(64));
            prop_assert_eq!(parse(&format!("{own}/{below}")), parse(&own));
        }
    }
}
