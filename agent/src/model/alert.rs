//! An alert as Alertmanager tells of it, as far as a run and its capture need to know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One alert of a webhook's. Every text here is chosen by whoever writes rules and deploys; the reader bounds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    pub labels: BTreeMap<String, String>,
    /// Alertmanager's hash of the labels, hex; empty where the sender gives none.
    pub fingerprint: String,
    /// Alertmanager's name of the group that the alert came with.
    pub group_key: String,
    /// When it began to fire, as the sender wrote it (RFC 3339).
    pub starts_at: String,
}

impl Alert {
    /// The rule's name; empty where there is none.
    pub fn name(&self) -> &str {
        self.labels.get("alertname").map_or("", String::as_str)
    }
}
