//! What every line of a container begins with, and its line of `parachute_container_info`, as text: made when something new
//! becomes known of the container, and not at every scrape.

use std::sync::Arc;

use super::store::{Facts, Subject};
use crate::metrics::encode::{label_text, write_tail};
use crate::model::{ContainerLabels, Metadata};

/// A container's texts.
#[derive(Debug)]
pub(super) struct Shown {
    /// What was known then.
    of: Option<Arc<Metadata>>,
    /// The three labels. Equal for containers with equal labels.
    pub(super) prefix: Box<str>,
    /// The tail of its information.
    pub(super) info: Box<str>,
}

impl Shown {
    pub(super) fn of(subject: &Subject) -> Self {
        // Loaded before it is used: what comes in between is found by the next look.
        let of = known(subject);
        let Facts { labels, id, image, uid, runtime, pid, sandbox, shares } = subject.facts();
        let ContainerLabels { namespace, pod, container } = &labels;
        let prefix = label_text(&[("namespace", namespace), ("pod", pod), ("container", container)]);
        let mut info = String::new();
        let labels = [
            ("id", id.as_str()),
            ("image", &image),
            ("uid", &uid),
            ("runtime", runtime),
            ("pid", &pid.to_string()),
            ("sandbox", if sandbox { "true" } else { "false" }),
            ("host_namespaces", &shares),
        ];
        write_tail(&mut info, labels, 1.0);
        Self { of, prefix: prefix.into(), info: info.into() }
    }

    /// True if no more has become known since.
    pub(super) fn is_of(&self, subject: &Subject) -> bool {
        let Subject::Live(container) = subject else { return true };
        let known = container.metadata.load();
        match (&*known, &self.of) {
            (Some(known), Some(of)) => Arc::ptr_eq(known, of),
            (None, None) => true,
            _ => false,
        }
    }
}

fn known(subject: &Subject) -> Option<Arc<Metadata>> {
    match subject {
        Subject::Live(container) => container.metadata.load_full(),
        Subject::Gone(_) => None,
    }
}
