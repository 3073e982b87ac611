//! The section `peers:`, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::yaml::at::{At, Tried};

/// The agents of the other nodes. An alert whose target is not, or not only, on this node is passed on to all of them, once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawPeers {
    /// HOST:PORT. All addresses of the name are agents, as behind a headless Service; it is looked up for each alert. This
    /// agent may be among them.
    pub(in crate::config) service: Tried<At<String>>,
    /// File whose first line is the token that the other agents' web configuration gives the role trigger; root's alone.
    pub(in crate::config) token_file: Tried<At<String>>,
    /// Default https.
    #[serde(default)]
    pub(in crate::config) scheme: Option<Tried<At<RawScheme>>>,
    /// File with the authority of the other agents' certificates, in PEM. They are for the service's host name.
    #[serde(default)]
    pub(in crate::config) ca_file: Option<Tried<At<String>>>,
    /// For one request to one agent, 100ms to 30s. Default 3s.
    #[serde(default)]
    pub(in crate::config) timeout: Option<Tried<At<String>>>,
    /// So long agents that do not take an alert are asked again, 1s to 10m. Default 1m.
    #[serde(default)]
    pub(in crate::config) give_up_after: Option<Tried<At<String>>>,
    /// Addresses that are asked, 1 to 4000; those beyond are counted. Default 1000.
    #[serde(default)]
    pub(in crate::config) max_peers: Option<Tried<At<u64>>>,
    /// Alerts that wait to be passed on or are on their way, 1 to 100000; those beyond are to be delivered again. Default 1000.
    #[serde(default)]
    pub(in crate::config) queue: Option<Tried<At<u64>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawScheme {
    /// The token goes over the network as it is: only where nobody else can listen.
    Http,
    Https,
}
