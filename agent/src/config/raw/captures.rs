//! The section `captures:`, and a probe's `keep`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::yaml::at::{At, Tried};

/// What runs printed is kept in the sub-folder `captures` of `--storage.path`, the oldest of it removed first.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawCaptures {
    /// Room on the disk for all captures together, 1MiB to 16TiB. Failed runs are removed for want of room only where they
    /// alone take more than half of it. Default 1GiB.
    #[serde(default)]
    #[schemars(extend("type" = ["string", "integer"]))]
    pub(in crate::config) max_size: Option<Tried<At<String>>>,
    /// How long captures of runs that ended well are kept, 1m to 10y. Default 7d.
    #[serde(default)]
    pub(in crate::config) max_age: Option<Tried<At<String>>>,
    /// How long captures of failed runs are kept, from max_age to 10y. Default 30d, or max_age where that is longer.
    #[serde(default)]
    pub(in crate::config) failures_max_age: Option<Tried<At<String>>>,
    /// Object store that captures are copied to as well, in builds that have the feature object-store: s3://BUCKET/PREFIX,
    /// gs://BUCKET/PREFIX or az://CONTAINER/PREFIX. Credentials and endpoint come from the agent's environment.
    #[serde(default)]
    pub(in crate::config) store: Option<Tried<At<String>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum RawKeep {
    /// Every run's.
    Always,
    /// That of runs whose outcome is not ok.
    OnFailure,
    /// No run's.
    Never,
}
