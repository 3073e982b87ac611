//! The rule by which Docker's and Podman's containers get the three labels `namespace`, `pod` and `container`. Pure.
//!
//! `container` is what the container is, `pod` which one of its kind, `namespace` what it belongs to: sums over `pod` give a
//! service's number in Compose as they do in Kubernetes. The first line that fits holds:
//!
//! | who made it | `namespace` | `pod` | `container` |
//! | --- | --- | --- | --- |
//! | a kubelet by way of cri-dockerd | as in Kubernetes | as in Kubernetes | as in Kubernetes |
//! | Compose | the project | the container's name | the service |
//! | Podman, in a pod | | the pod's name | the container's name without the pod's before it |
//! | a person | | | the container's name |

use std::collections::BTreeMap;

use crate::model::Metadata;

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";

/// What an engine tells of a container.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) labels: BTreeMap<String, String>,
    /// Podman's pod; empty without one.
    pub(super) pod: String,
    pub(super) is_infra: bool,
}

/// The description, and the id of its pod's sandbox if the labels tell that.
pub(super) fn describe(told: Told) -> (Metadata, Option<String>) {
    let Told { name, image, labels, pod, is_infra } = told;
    if let Some(kubelet) = of_kubelet(&name, &image, &labels) {
        return kubelet;
    }
    let label = |name: &str| labels.get(name).filter(|value| !value.is_empty()).cloned();
    let plain = Metadata { image, labels: labels.clone(), sandbox: is_infra, ..Metadata::default() };
    let metadata = match (label(PROJECT), label(SERVICE)) {
        (Some(namespace), Some(container)) if !is_infra => {
            Metadata { namespace, pod: name, container, ..plain }
        }
        _ if is_infra => Metadata { pod, ..plain },
        // `podman kube play` puts the pod's name before each of its containers' own.
        _ => {
            let own = name.strip_prefix(pod.as_str()).and_then(|rest| rest.strip_prefix('-'));
            let container = own.filter(|own| !pod.is_empty() && !own.is_empty()).unwrap_or(&name).to_owned();
            Metadata { container, pod, ..plain }
        }
    };
    (metadata, None)
}

/// Any image may carry the kubelet's labels. It cannot choose the container's name, in which the kubelet says the same.
fn of_kubelet(
    name: &str,
    image: &str,
    labels: &BTreeMap<String, String>,
) -> Option<(Metadata, Option<String>)> {
    let get = |name: &str| labels.get(&format!("io.kubernetes.{name}")).cloned();
    let (pod, namespace) = (get("pod.name")?, get("pod.namespace")?);
    let pod_uid = get("pod.uid").unwrap_or_default();
    let container = get("container.name").unwrap_or_default();
    let sandbox = get("docker.type").as_deref() == Some("podsandbox");
    let shown = if sandbox { "POD" } else { &container };
    if !name.starts_with(&format!("k8s_{shown}_{pod}_{namespace}_{pod_uid}_")) {
        return None;
    }
    // The kubelet's own, and the annotations that cri-dockerd keeps among the labels.
    let is_own = |name: &String| !name.starts_with("io.kubernetes.") && !name.starts_with("annotation.");
    let own = labels.iter().filter(|(name, _)| is_own(name));
    let metadata = Metadata {
        container: if sandbox { String::new() } else { container },
        pod,
        namespace,
        pod_uid,
        image: image.to_owned(),
        labels: own.map(|(name, value)| (name.clone(), value.clone())).collect(),
        sandbox,
    };
    Some((metadata, get("sandbox.id")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str, pod: &str, is_infra: bool, labels: &[(&str, &str)]) -> [String; 3] {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let told = Told { name: name.into(), pod: pod.into(), is_infra, labels, ..Told::default() };
        let metadata = describe(told).0;
        assert_eq!(metadata.sandbox, metadata.container.is_empty());
        [metadata.namespace, metadata.pod, metadata.container]
    }

    #[test]
    fn the_first_line_that_fits_holds() {
        let compose = [(PROJECT, "shop"), (SERVICE, "cart")];
        let kubelet = [
            ("io.kubernetes.pod.name", "cart-0"),
            ("io.kubernetes.pod.namespace", "shop"),
            ("io.kubernetes.pod.uid", "u-1"),
            ("io.kubernetes.container.name", "cart"),
            (PROJECT, "other"),
            (SERVICE, "other"),
        ];
        let sandbox = [kubelet[0], kubelet[1], kubelet[2], ("io.kubernetes.docker.type", "podsandbox")];
        for (got, expected) in [
            (names("web", "", false, &[]), ["", "", "web"]),
            (names("shop-cart-1", "", false, &compose), ["shop", "shop-cart-1", "cart"]),
            (names("shop-cart-2", "", false, &compose), ["shop", "shop-cart-2", "cart"]),
            (names("web", "", false, &compose[..1]), ["", "", "web"]),
            (names("web", "front", false, &[]), ["", "front", "web"]),
            (names("front-web", "front", false, &[]), ["", "front", "web"]),
            (names("front-", "front", false, &[]), ["", "front", "front-"]),
            (names("6f1b8459d8ac-infra", "front", true, &[]), ["", "front", ""]),
            (names("k8s_cart_cart-0_shop_u-1_0", "", false, &kubelet), ["shop", "cart-0", "cart"]),
            (names("k8s_POD_cart-0_shop_u-1_0", "", false, &sandbox), ["shop", "cart-0", ""]),
        ] {
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn an_image_with_the_kubelets_labels_is_no_pod() {
        let labels = [
            ("io.kubernetes.pod.name", "etcd"),
            ("io.kubernetes.pod.namespace", "kube-system"),
            ("io.kubernetes.pod.uid", "u-1"),
            ("io.kubernetes.container.name", "etcd"),
        ];
        for name in ["web", "k8s_etcd", "k8s_etcd_etcd_kube-system"] {
            assert_eq!(names(name, "", false, &labels), ["", "", name]);
        }
    }
}
