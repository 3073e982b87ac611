//! What a runtime leaves on disk of a container: the annotations in its OCI bundle's `config.json`. Read at once, without
//! asking anybody; what the annotations mean is a pure function.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use serde::Deserialize;

use super::Kind;
use crate::model::Metadata;

/// A bundle's config.json is tens of kilobytes; more than this is none.
const MAX_SIZE: u64 = 4 * 1024 * 1024;

/// Bundles where runtimes put them unless told otherwise; `{id}` is the container's.
const USUAL: [&str; 4] = [
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}",
    "/run/containers/storage/overlay-containers/{id}/userdata",
    "/var/run/containers/storage/overlay-containers/{id}/userdata",
    "/var/lib/containers/storage/overlay-containers/{id}/userdata",
];

/// What a bundle tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bundle {
    pub(super) kind: Option<Kind>,
    pub(super) sandbox_id: String,
    pub(super) metadata: Metadata,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: HashMap<String, String>,
}

/// Finds and reads the bundle of the container `id`. `near` is the working directory of the init's parent: a containerd
/// shim stands in the bundle of its pod's sandbox, beside which lie those of its containers.
pub(super) fn read(id: &str, near: Option<&Path>) -> Option<Bundle> {
    let usual = USUAL.iter().map(|path| PathBuf::from(path.replace("{id}", id)));
    near.into_iter()
        .flat_map(|near| beside(id, near))
        .filter(|folder| is_roots(folder))
        .chain(usual)
        .find_map(|folder| {
            let text = read_bounded(&folder.join("config.json")).ok()?;
            let spec: Spec = serde_json::from_slice(&text).ok()?;
            Some(bundle(&spec.annotations))
        })
}

/// Only folders whose path holds the container's own id.
fn beside(id: &str, near: &Path) -> Vec<PathBuf> {
    let inside = near.iter().any(|part| part == id).then(|| near.to_owned());
    inside.into_iter().chain(near.parent().map(|tasks| tasks.join(id))).collect()
}

/// Whether this is where the folder is, by no link, and nobody but root could have put it there. A sticky folder lets
/// others make things beside root's, and take none of root's away.
fn is_roots(folder: &Path) -> bool {
    let is_kept = |about: &fs::Metadata| about.mode() & 0o022 == 0 || about.mode() & 0o1000 != 0;
    folder.canonicalize().is_ok_and(|real| real == folder)
        && folder
            .ancestors()
            .all(|part| part.metadata().is_ok_and(|about| about.uid() == 0 && is_kept(&about)))
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    )?;
    let stat = fstat(&file)?;
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() || stat.st_uid != 0 || size > MAX_SIZE {
        return Err(io::Error::other("not a bundle's config.json"));
    }
    let mut text = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    File::from(file).take(MAX_SIZE).read_to_end(&mut text)?;
    Ok(text)
}

/// containerd: `io.kubernetes.cri.*` (pkg/cri/annotations in containerd). CRI-O: `io.kubernetes.cri-o.*` and
/// `io.kubernetes.*` (pkg/annotations in cri-o).
fn bundle(annotations: &HashMap<String, String>) -> Bundle {
    let get = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| annotations.get(*name))
            .filter(|text| !text.is_empty())
            .cloned()
            .unwrap_or_default()
    };
    let kind = match get(&["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"]).as_str()
    {
        "sandbox" => Some(Kind::Sandbox),
        "container" => Some(Kind::Container),
        _ => None,
    };
    let sandbox = kind == Some(Kind::Sandbox);
    let labels = annotations.get("io.kubernetes.cri-o.Labels");
    let mut labels: BTreeMap<String, String> =
        labels.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    // The kubelet's own, as in the runtime's answers.
    labels.retain(|name, _| !name.starts_with("io.kubernetes."));
    Bundle {
        kind,
        sandbox_id: get(&["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"]),
        metadata: Metadata {
            // A CRI-O sandbox carries the name POD.
            container: if sandbox {
                String::new()
            } else {
                get(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name"])
            },
            pod: get(&[
                "io.kubernetes.cri.sandbox-name",
                "io.kubernetes.pod.name",
                "io.kubernetes.cri-o.KubeName",
            ]),
            namespace: get(&[
                "io.kubernetes.cri.sandbox-namespace",
                "io.kubernetes.pod.namespace",
                "io.kubernetes.cri-o.Namespace",
            ]),
            pod_uid: get(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]),
            image: get(&[
                "io.kubernetes.cri.image-name",
                "io.kubernetes.cri-o.ImageName",
                "io.kubernetes.cri-o.Image",
            ]),
            labels,
            sandbox,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(text: &str) -> HashMap<String, String> {
        serde_json::from_str::<Spec>(text).unwrap().annotations
    }

    #[test]
    fn containerd_and_cri_o_say_the_same_in_their_own_words() {
        let containerd = annotations(
            r#"{"annotations":{"io.kubernetes.cri.container-name":"cart","io.kubernetes.cri.container-type":"container",
            "io.kubernetes.cri.image-name":"registry.k8s.io/cart:1","io.kubernetes.cri.sandbox-id":"ab",
            "io.kubernetes.cri.sandbox-name":"cart-0","io.kubernetes.cri.sandbox-namespace":"shop",
            "io.kubernetes.cri.sandbox-uid":"u-1"}}"#,
        );
        let crio = annotations(
            r#"{"annotations":{"io.kubernetes.container.name":"cart","io.kubernetes.cri-o.ContainerType":"container",
            "io.kubernetes.cri-o.ImageName":"registry.k8s.io/cart:1","io.kubernetes.cri-o.SandboxID":"ab",
            "io.kubernetes.pod.name":"cart-0","io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"u-1"}}"#,
        );
        let expected = Bundle {
            kind: Some(Kind::Container),
            sandbox_id: "ab".into(),
            metadata: Metadata {
                container: "cart".into(),
                pod: "cart-0".into(),
                namespace: "shop".into(),
                pod_uid: "u-1".into(),
                image: "registry.k8s.io/cart:1".into(),
                ..Metadata::default()
            },
        };
        assert_eq!(bundle(&containerd), expected);
        assert_eq!(bundle(&crio), expected);
    }

    #[test]
    fn a_sandbox_has_no_container_name_and_a_strange_bundle_no_kind() {
        let sandbox = annotations(
            r#"{"annotations":{"io.kubernetes.container.name":"POD","io.kubernetes.cri-o.ContainerType":"sandbox",
            "io.kubernetes.cri-o.Labels":"{\"app\":\"cart\",\"io.kubernetes.pod.name\":\"cart-0\"}","io.kubernetes.pod.name":"cart-0"}}"#,
        );
        let got = bundle(&sandbox);
        assert_eq!(
            (got.kind, got.metadata.container.as_str(), got.metadata.sandbox),
            (Some(Kind::Sandbox), "", true)
        );
        assert_eq!(got.metadata.labels, [("app".to_owned(), "cart".to_owned())].into());
        assert_eq!(bundle(&annotations("{}")), Bundle::default());
    }

    #[test]
    fn a_bundle_is_looked_for_beside_the_shims_and_never_elsewhere() {
        let id = "c1";
        let paths = |near: &str| {
            beside(id, Path::new(near)).iter().map(|p| p.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(paths("/run/x/k8s.io/s1"), ["/run/x/k8s.io/c1"]);
        assert_eq!(paths("/run/y/c1/userdata"), ["/run/y/c1/userdata", "/run/y/c1/c1"]);
        assert!(paths("/").is_empty());
    }

    #[test]
    fn a_folder_of_somebody_elses_and_a_link_to_a_bundle_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap();
        let (victim, id) = (place.join("victim"), "f".repeat(64));
        fs::create_dir(&victim).unwrap();
        let text = r#"{"annotations":{"io.kubernetes.cri.container-name":"pay"}}"#;
        fs::write(victim.join("config.json"), text).unwrap();
        let shim = place.join("s");
        let found = |shim: &Path| read(&id, Some(shim)).map(|bundle| bundle.metadata.container);
        std::os::unix::fs::symlink(&victim, place.join(&id)).unwrap();
        assert_eq!(found(&shim), None, "a link");
        fs::remove_file(place.join(&id)).unwrap();
        fs::rename(&victim, place.join(&id)).unwrap();
        assert_eq!(found(&shim).as_deref(), Some("pay"));
        std::os::unix::fs::chown(&place, Some(1000), None).unwrap();
        assert_eq!(found(&shim), None, "who could have put it there");
    }

    #[test]
    fn links_devices_and_giants_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(read_bounded(&path).is_err());
        assert!(read_bounded(Path::new("/dev/zero")).is_err());
        let giant = folder.path().join("giant");
        File::create(&giant).unwrap().set_len(MAX_SIZE + 1).unwrap();
        assert!(read_bounded(&giant).is_err());
    }
}
