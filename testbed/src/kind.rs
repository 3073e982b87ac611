//! The kinds of container that security depends on. What the runtime is asked for, for each.

use std::fmt;

use crate::cri;

/// Where a container of the kind [`Kind::Cgroups`] finds the host's cgroup hierarchies.
pub const CGROUPS: &str = "/hostcgroup";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The runtime's default capabilities, no seccomp.
    #[default]
    Default,
    /// And SYS_PTRACE.
    Ptrace,
    /// And SYS_ADMIN.
    Admin,
    /// And PERFMON.
    Perfmon,
    Privileged,
    /// All capabilities dropped, no_new_privs, the runtime's seccomp profile.
    Nothing,
    /// In the host's pid namespace.
    HostPid,
    /// In the host's network namespace.
    HostNetwork,
    /// The host's cgroup hierarchies can be written.
    Cgroups,
    /// With a user namespace: its root is nobody on the host. Not by CRI, which containerd 1.6 cannot do.
    User,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Default,
        Self::Ptrace,
        Self::Admin,
        Self::Perfmon,
        Self::Privileged,
        Self::Nothing,
        Self::HostPid,
        Self::HostNetwork,
        Self::Cgroups,
        Self::User,
    ];

    /// What the kubelet asks for: a pid namespace for each container, unless the pod says otherwise.
    pub(crate) fn namespaces(self) -> cri::NamespaceOption {
        let pid =
            if self == Self::HostPid { cri::NamespaceMode::Node } else { cri::NamespaceMode::Container };
        let network =
            if self == Self::HostNetwork { cri::NamespaceMode::Node } else { cri::NamespaceMode::Pod };
        cri::NamespaceOption { pid: pid.into(), network: network.into(), ..Default::default() }
    }

    pub(crate) fn dropped(self) -> Vec<String> {
        if self == Self::Nothing { vec!["ALL".to_owned()] } else { Vec::new() }
    }

    pub(crate) fn mounts(self) -> Vec<cri::Mount> {
        let cgroups = || cri::Mount {
            container_path: CGROUPS.to_owned(),
            host_path: "/sys/fs/cgroup".to_owned(),
            readonly: false,
            propagation: cri::MountPropagation::PropagationPrivate.into(),
        };
        if self == Self::Cgroups { vec![cgroups()] } else { Vec::new() }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Ptrace => "sys-ptrace",
            Self::Admin => "sys-admin",
            Self::Perfmon => "perfmon",
            Self::Privileged => "privileged",
            Self::Nothing => "nothing",
            Self::HostPid => "host-pid",
            Self::HostNetwork => "host-network",
            Self::Cgroups => "cgroups",
            Self::User => "user-namespace",
        })
    }
}
