//! `GET /api/v1/sd`: the containers as Prometheus' `http_sd_configs` reads them
//! (<https://prometheus.io/docs/prometheus/latest/http_sd/>), one group for each. Names follow those of Prometheus' own
//! `kubernetes_sd_configs`, so that rules for relabelling are found by analogy.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::view::ContainerView;
use crate::model::Container;

const PREFIX: &str = "__meta_parachute_";

/// One container.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Group {
    /// Its id, which `/probe` takes for its `target`: names can be shared, by a container and its successor for instance.
    targets: [String; 1],
    labels: BTreeMap<String, String>,
}

/// Sandboxes run nothing that a probe would look at, and are left out.
pub(super) fn groups(containers: &[Arc<Container>], node: &str) -> Vec<Group> {
    let mut groups: Vec<_> =
        containers.iter().filter(|one| !one.is_sandbox()).map(|one| group(one, node)).collect();
    groups.sort_by(|a, b| a.targets.cmp(&b.targets));
    groups
}

fn group(container: &Container, node: &str) -> Group {
    let view = ContainerView::from(container);
    let mut labels = BTreeMap::new();
    for (name, value) in view.pod_labels {
        let name = sanitised(&name);
        labels.insert(format!("{PREFIX}pod_labelpresent_{name}"), "true".to_owned());
        // Two names that differ only in what is replaced are one: the first stays, whatever the order of the runtime's map.
        labels.entry(format!("{PREFIX}pod_label_{name}")).or_insert(value);
    }
    for (name, value) in [
        ("namespace", view.labels.namespace),
        ("pod", view.labels.pod),
        ("container", view.labels.container),
        ("container_id", view.id.clone()),
        ("image", view.image),
        ("pod_uid", view.pod_uid),
        ("runtime", view.runtime.to_owned()),
        ("node", node.to_owned()),
        // Until its runtime has said what it is, a container is called by its id.
        ("described", view.described.to_string()),
    ] {
        labels.insert(format!("{PREFIX}{name}"), value);
    }
    Group { targets: [view.id], labels }
}

/// What Prometheus makes of a Kubernetes label's name.
fn sanitised(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Metadata;
    use crate::model::testing::{container, named};

    #[test]
    fn each_container_is_a_group_of_its_own() {
        let labels = [("app.kubernetes.io/name", "cart"), ("app-kubernetes-io/name", "other"), ("ü", "é\"")];
        let metadata = Metadata {
            image: "registry/cart:1".into(),
            pod_uid: "1-2".into(),
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..named("shop", "cart-0", "cart")
        };
        let sandbox = Metadata { sandbox: true, ..named("shop", "cart-0", "") };
        let all = [container("b", None), container("a", metadata), container("c", sandbox)];
        let json = serde_json::to_value(groups(&all, "node-1")).unwrap();
        let (first, second) = ("a".repeat(64), "b".repeat(64));
        let expected = serde_json::json!([
            { "targets": [first], "labels": {
                "__meta_parachute_namespace": "shop", "__meta_parachute_pod": "cart-0",
                "__meta_parachute_container": "cart", "__meta_parachute_container_id": first,
                "__meta_parachute_image": "registry/cart:1", "__meta_parachute_pod_uid": "1-2",
                "__meta_parachute_runtime": "containerd", "__meta_parachute_node": "node-1",
                "__meta_parachute_described": "true",
                "__meta_parachute_pod_label_app_kubernetes_io_name": "other",
                "__meta_parachute_pod_labelpresent_app_kubernetes_io_name": "true",
                "__meta_parachute_pod_label__": "é\"", "__meta_parachute_pod_labelpresent__": "true",
            } },
            { "targets": [second], "labels": {
                "__meta_parachute_namespace": "", "__meta_parachute_pod": "",
                "__meta_parachute_container": "b".repeat(12), "__meta_parachute_container_id": second,
                "__meta_parachute_image": "", "__meta_parachute_pod_uid": "",
                "__meta_parachute_runtime": "containerd", "__meta_parachute_node": "node-1",
                "__meta_parachute_described": "false",
            } },
        ]);
        assert_eq!(json, expected);
        assert_eq!(serde_json::to_string(&groups(&[], "n")).unwrap(), "[]");
    }
}
