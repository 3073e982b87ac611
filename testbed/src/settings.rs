//! What containerd and CNI are told: texts that name only things inside the bed's own folder, and its own bridge.

use std::path::Path;

use anyhow::Context as _;

use crate::image::PAUSE_IMAGE;

/// Where distributions put the CNI plugins: Debian's package, and the upstream archives.
const CNI_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// containerd's configuration, version 2, which 1.x and 2.x read.
pub(crate) fn containerd(dir: &Path, snapshotter: &str) -> anyhow::Result<String> {
    let dir = dir.display();
    let plugins = cni_folder()?;
    // apparmor and the netns path are said because the defaults would write outside of the folder: a profile into the
    // kernel, mounts into /var/run/netns. Lowering oom_score_adj needs CAP_SYS_RESOURCE, which containers and some
    // virtual machines lack; nothing here depends on it.
    Ok(format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"

[grpc]
  address = "{dir}/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{dir}/cni"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{dir}/runc"
"#
    ))
}

/// A network for the pods only: a bridge without an address of the host's, hence no gateway, no forwarding sysctl and
/// no firewall rule. `number` picks one of the 512 networks of 198.18.0.0/15 (RFC 2544, never routed).
pub(crate) fn network(dir: &Path, bridge: &str, number: u16) -> String {
    let subnet = format!("198.{}.{}.0/24", 18 + (number >> 8) % 2, number & 0xff);
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": bridge,
        "plugins": [{
            "type": "bridge",
            "bridge": bridge,
            "isGateway": false,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": subnet }]],
                "dataDir": dir.join("ipam"),
            },
        }],
    })
    .to_string()
}

fn cni_folder() -> anyhow::Result<&'static str> {
    CNI_FOLDERS
        .into_iter()
        .find(|folder| Path::new(folder).join("bridge").exists())
        .with_context(|| format!("no CNI plugin `bridge` in {}", CNI_FOLDERS.join(" or ")))
}
