//! What containerd and CNI are told: texts that name only things inside the bed's own folder, and its own bridge.

use std::path::Path;

use anyhow::Context as _;

use crate::driver::{Cgroups, Driver, version_of};
use crate::image::PAUSE_IMAGE;

/// Where distributions put the CNI plugins: Debian's package, and the upstream archives.
const CNI_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// containerd's configuration, in the version that this one knows best: 2.x reads an older one, and loses what stands under
/// names that are no more.
pub(crate) fn containerd(dir: &Path, snapshotter: &str, driver: &Driver) -> anyhow::Result<String> {
    let dir = dir.display();
    let plugins = cni_folder()?;
    let program = driver.path()?;
    let (program, systemd) = (program.display(), driver.cgroups == Cgroups::Systemd);
    let (version, cri, pause, snapshots, folders, images) = if version_of("containerd")?.starts_with("1.") {
        let pause = format!("sandbox_image = \"{PAUSE_IMAGE}\"");
        let snapshots = format!("snapshotter = \"{snapshotter}\"");
        let folders = format!("bin_dir = \"{plugins}\"");
        (2, "io.containerd.grpc.v1.cri", pause, snapshots, folders, String::new())
    } else {
        let images = format!(
            r#"[plugins."io.containerd.cri.v1.images"]
  snapshotter = "{snapshotter}"

  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE_IMAGE}"
"#
        );
        let folders = format!("bin_dirs = [\"{plugins}\"]");
        (3, "io.containerd.cri.v1.runtime", String::new(), String::new(), folders, images)
    };
    // apparmor and the netns path are said because the defaults would write outside of the folder: a profile into the
    // kernel, mounts into /var/run/netns. Lowering oom_score_adj needs CAP_SYS_RESOURCE, which containers and some
    // virtual machines lack; nothing here depends on it.
    Ok(format!(
        r#"version = {version}
root = "{dir}/root"
state = "{dir}/state"

[grpc]
  address = "{dir}/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"

{images}
[plugins."{cri}"]
  {pause}
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true

  [plugins."{cri}".cni]
    {folders}
    conf_dir = "{dir}/cni"

  [plugins."{cri}".containerd]
    {snapshots}
    default_runtime_name = "runc"

    [plugins."{cri}".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."{cri}".containerd.runtimes.runc.options]
        SystemdCgroup = {systemd}
        BinaryName = "{program}"
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
