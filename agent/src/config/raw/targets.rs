//! The section `targets:`, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::raw::RawNames;
use crate::config::yaml::at::{At, Tried};

/// What is looked into besides the containers of runtimes. Each is called by its own name in the label `container`, with
/// `namespace` and `pod` empty. Names are globs with `*`, `?`, `[a-z]` and `{a,b}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTargets {
    /// Services of the host's systemd by the names of their units: `["nginx.service", "app@*.service"]`. A backslash stands for
    /// itself, as in units' names. What a service has no namespace of its own for is the host's: docs/host.md.
    #[serde(default)]
    pub(in crate::config) services: Option<Tried<At<RawNames>>>,
    /// Machines of systemd-nspawn by name.
    #[serde(default)]
    pub(in crate::config) machines: Option<Tried<At<RawNames>>>,
    /// LXC's containers by name.
    #[serde(default)]
    pub(in crate::config) lxc: Option<Tried<At<RawNames>>>,
    /// Any cgroups by their paths below the hierarchy's root, as in /proc/PID/cgroup: `["/batch/*"]`; `*` stands for no slash.
    #[serde(default)]
    pub(in crate::config) cgroups: Option<Tried<At<RawNames>>>,
    /// Single processes, such as those of unshare(1), by files that hold their number: `["/run/app.pid"]`. Such a file, and each
    /// folder above it, must be root's alone.
    #[serde(default)]
    pub(in crate::config) pid_files: Option<Tried<At<RawNames>>>,
}
