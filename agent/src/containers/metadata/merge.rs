//! Pure: one description out of several sources, with every text bounded.

use crate::model::Metadata;

/// A Kubernetes name has at most 253 characters (RFC 1123 subdomain); an image reference may be longer.
const MAX_NAME: usize = 253;
const MAX_IMAGE: usize = 512;
/// Labels kept per container, and the bytes of each name and value: Kubernetes' own limits are 63 and 253 + 63.
const MAX_LABELS: usize = 64;
const MAX_LABEL: usize = 320;

/// `newer` over `older`: what it does not say stays. `pod_labels` lie below the container's own labels.
pub(super) fn merge(older: Option<&Metadata>, newer: &Metadata, pod: Option<&Metadata>) -> Metadata {
    let empty = Metadata::default();
    let older = older.unwrap_or(&empty);
    let pod = pod.unwrap_or(&empty);
    let pick = |of: fn(&Metadata) -> &String, limit: usize| {
        let first = [newer, older, pod].into_iter().map(of).find(|text| !text.is_empty());
        bounded(first.map_or("", |text| text), limit)
    };
    // An image id says less than the name that the bundle has kept.
    let image_of = if is_id(&newer.image) && !older.image.is_empty() { &older.image } else { &newer.image };
    let image_of = if image_of.is_empty() { &older.image } else { image_of };
    let sandbox = newer.sandbox || older.sandbox;
    let labels = pod.labels.iter().chain(&older.labels).chain(&newer.labels);
    Metadata {
        container: if sandbox { String::new() } else { pick(|m| &m.container, MAX_NAME) },
        pod: pick(|m| &m.pod, MAX_NAME),
        namespace: pick(|m| &m.namespace, MAX_NAME),
        pod_uid: pick(|m| &m.pod_uid, MAX_NAME),
        image: bounded(image_of, MAX_IMAGE),
        labels: labels
            .take(3 * MAX_LABELS)
            .map(|(name, value)| (bounded(name, MAX_LABEL), bounded(value, MAX_LABEL)))
            .collect(),
        sandbox,
    }
}

/// containerd's ids of images begin with `sha256:`; CRI-O's are the digits alone.
fn is_id(image: &str) -> bool {
    image.starts_with("sha256:") || image.len() == 64 && image.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The text, cut at a character's edge.
fn bounded(text: &str, limit: usize) -> String {
    text.get(..text.floor_char_boundary(limit)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_wins_where_it_says_something() {
        let bundle = Metadata {
            container: "cart".into(),
            pod: "cart-0".into(),
            image: "registry.k8s.io/cart:1".into(),
            ..Metadata::default()
        };
        let answer = Metadata {
            container: "cart".into(),
            image: "sha256:0123".into(),
            labels: [("app".into(), "own".into())].into(),
            ..Metadata::default()
        };
        let pod = Metadata {
            namespace: "shop".into(),
            labels: [("app".into(), "pod".into()), ("tier".into(), "web".into())].into(),
            sandbox: true,
            ..Metadata::default()
        };
        let got = merge(Some(&bundle), &answer, Some(&pod));
        assert_eq!(
            (got.container.as_str(), got.pod.as_str(), got.namespace.as_str()),
            ("cart", "cart-0", "shop")
        );
        assert_eq!(got.image, "registry.k8s.io/cart:1");
        assert_eq!(got.labels, [("app".into(), "own".into()), ("tier".into(), "web".into())].into());
        assert!(!got.sandbox);
    }

    #[test]
    fn an_images_name_is_kept_before_its_id_and_an_id_is_better_than_nothing() {
        let with = |image: &str| Metadata { image: image.into(), ..Metadata::default() };
        let id = "0123456789abcdef".repeat(4);
        for (older, newer, expected) in [
            ("registry.k8s.io/cart:1", id.as_str(), "registry.k8s.io/cart:1"),
            ("registry.k8s.io/cart:1", "registry.k8s.io/cart:2", "registry.k8s.io/cart:2"),
            ("", &id, &id),
        ] {
            assert_eq!(merge(Some(&with(older)), &with(newer), None).image, expected);
        }
    }

    #[test]
    fn texts_are_bounded_at_a_characters_edge() {
        let long = Metadata { pod: "é".repeat(500), image: "i".repeat(5000), ..Metadata::default() };
        let got = merge(None, &long, None);
        assert_eq!((got.pod.len(), got.image.len()), (252, 512));
    }
}
