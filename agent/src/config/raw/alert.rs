//! The keys of a trigger that answers alerts, as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::yaml::at::{At, Tried};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawAlert {
    /// Which alerts: a pattern for each label that matters. A pattern is one or more globs with `*` and `?`, separated by
    /// `|`; a leading `!` turns it round. A label that the alert lacks is the empty text.
    pub(in crate::config) labels: Tried<At<BTreeMap<String, Tried<At<String>>>>>,
    /// Whether alerts that begin, that are over, or both are answered. Default firing.
    #[serde(default)]
    pub(in crate::config) when: Option<Tried<At<RawAlertWhen>>>,
    /// When the alert is over, end the runs for it that still wait or run. Default false.
    #[serde(default)]
    pub(in crate::config) cancel_on_resolve: Option<Tried<At<bool>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawAlertWhen {
    Firing,
    Resolved,
    Both,
}

/// Names of the container, each a fixed text or one with labels of the alert in it, as in `{{pod}}`. They are compared as
/// they are, never as globs. A field that is absent, or that has a label in it that the alert lacks, matches everything.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTarget {
    #[serde(default)]
    pub(in crate::config) namespace: Option<Tried<At<String>>>,
    #[serde(default)]
    pub(in crate::config) pod: Option<Tried<At<String>>>,
    #[serde(default)]
    pub(in crate::config) container: Option<Tried<At<String>>>,
}
