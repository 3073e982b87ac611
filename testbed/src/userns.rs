//! A container with a user namespace, started with runc alone: containerd 1.6 cannot do that over CRI. Its cgroup is where
//! a kubelet would have it, so that it is found as any other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::cleanup::cgroup_hierarchies;
use crate::containerd::random_uuid;
use crate::driver::Cgroups;
use crate::image::{ATTACKER, WORKLOAD};
use crate::pod::PodContainer;

/// Uid and gid of the container's root on the host.
const ROOT: u32 = 100_000;

/// A running container; it goes when this is dropped.
#[derive(Debug)]
pub struct UserContainer {
    pub container: PodContainer,
    state: PathBuf,
    pod: String,
}

impl UserContainer {
    pub(crate) fn start(folder: &Path, command: &[&str]) -> anyhow::Result<Self> {
        let pod = random_uuid()?;
        let id = format!("{}{}", pod.replace('-', ""), random_uuid()?.replace('-', ""));
        let bundle = folder.join(&id);
        let rootfs = bundle.join("rootfs");
        fs::create_dir_all(&rootfs)?;
        for (name, bytes) in [("workload", WORKLOAD), ("attacker", ATTACKER)] {
            fs::write(rootfs.join(name), bytes)?;
            fs::set_permissions(rootfs.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        std::os::unix::fs::chown(&rootfs, Some(ROOT), Some(ROOT))?;
        // Its root must be able to reach the bundle.
        for above in bundle.ancestors().skip(1).take_while(|above| *above != Path::new("/tmp")) {
            fs::set_permissions(above, std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
        }
        let made = Command::new("runc").args(["spec", "--bundle"]).arg(&bundle).status()?;
        ensure!(made.success(), "runc spec: {made}");
        let path = bundle.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(command);
        config["root"]["readonly"] = json!(false);
        let mapping = json!([{ "containerID": 0, "hostID": ROOT, "size": 65536 }]);
        config["linux"]["uidMappings"] = mapping.clone();
        config["linux"]["gidMappings"] = mapping;
        config["linux"]["cgroupsPath"] = json!(format!("/{}/{id}", Cgroups::Cgroupfs.of_pod(&pod)));
        let namespaces =
            config["linux"]["namespaces"].as_array_mut().context("no namespaces in runc's spec")?;
        namespaces.push(json!({ "type": "user" }));
        fs::write(&path, serde_json::to_vec(&config)?)?;
        let state = folder.join("runc");
        let log = fs::File::create(bundle.join("log"))?;
        let mut run = Command::new("runc");
        run.arg("--root").arg(&state).args(["run", "--detach", "--bundle"]).arg(&bundle).arg(&id);
        let status = run.stdin(std::process::Stdio::null()).stdout(log.try_clone()?).stderr(log).status()?;
        ensure!(status.success(), "runc run: {}", fs::read_to_string(bundle.join("log"))?);
        let kept = fs::read(state.join(&id).join("state.json"))?;
        let kept: serde_json::Value = serde_json::from_slice(&kept)?;
        let pid = i32::try_from(kept["init_process_pid"].as_i64().context("no pid in runc's state")?)?;
        Ok(Self { container: PodContainer { name: String::new(), id, pid }, state, pod })
    }
}

impl Drop for UserContainer {
    fn drop(&mut self) {
        let mut delete = Command::new("runc");
        let _ =
            delete.arg("--root").arg(&self.state).args(["delete", "--force", &self.container.id]).status();
        // runc removes its own cgroups and not the pod's.
        for hierarchy in cgroup_hierarchies() {
            let [burstable, all] = Cgroups::Cgroupfs.above();
            // Those above go with the last one in them.
            for folder in [&Cgroups::Cgroupfs.of_pod(&self.pod), burstable, all] {
                let _ = fs::remove_dir(hierarchy.join(folder));
            }
        }
    }
}
