//! A private Podman, run by root: its folders, its network, the API service if it is wanted, its way out. It has no daemon,
//! touches no firewall, and takes either of the usual OCI runtimes.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::resource::{Resource, getrlimit};

use crate::containerd::random_number;
use crate::engine::{self, Engine, Traces};
use crate::{cleanup, image, settings};

/// Where Podman looks for netavark, besides PATH.
const HELPERS: [&str; 3] = ["/usr/lib/podman", "/usr/libexec/podman", "/usr/local/libexec/podman"];
const UNIFIED: &str = "/sys/fs/cgroup/unified/cgroup.controllers";
/// How long the API service may take to listen.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// A Podman with the bed's images. Dropping it removes every container and all that it has made on the machine.
#[derive(Debug)]
pub struct Podman {
    runtime: PathBuf,
    service: Option<Child>,
    /// Keeps the v2 hierarchy without controllers, where crun asks for that.
    controllers: Option<Child>,
    traces: Traces,
}

impl Podman {
    /// Why there can be none with this runtime (`runc` or `crun`) here; `None` where there can.
    pub fn why_not(runtime: &str) -> Option<String> {
        let missing = ["podman", "conmon", runtime].into_iter().find(|name| !engine::found(name))?;
        Some(format!(
            "Podman is not installed: there is no {missing} in PATH (cargo xtask setup installs podman, crun and runc)"
        ))
    }

    /// Makes one in `dir`, which should be empty, that starts containers by `runtime`. Needs root.
    pub fn start(dir: &Path, runtime: &str) -> anyhow::Result<Self> {
        Self::start_under(cleanup::lock()?, dir, runtime)
    }

    /// As [`Self::start`], under a lock of [`crate::alone`]'s.
    pub fn start_under(lock: File, dir: &Path, runtime: &str) -> anyhow::Result<Self> {
        ensure!(dir.is_absolute(), "{}: the folder's path must be absolute", dir.display());
        fs::create_dir_all(dir.join("net")).with_context(|| format!("creating {}", dir.display()))?;
        let number = random_number()?;
        let bridge = format!("pb{number:08x}");
        let mut bed = Self {
            runtime: runtime.into(),
            service: None,
            controllers: None,
            // No containerd, no shims.
            traces: Traces::new(dir, bridge.clone(), dir.join("no-bundles"), lock),
        };
        if engine::lacks_sys_resource() {
            bed.runtime = engine::modest_runtime(dir, runtime)?;
        }
        if runtime == "crun" {
            bed.controllers = without_controllers(dir)?;
        }
        let subnet = u16::try_from(number & 0x1ff)?;
        // One for each of the two network backends.
        fs::write(dir.join("net/bed.json"), netavark(&bridge, subnet))?;
        fs::write(
            dir.join("net/bed.conflist"),
            settings::network(dir, &bridge, subnet)
                .replace(&format!(r#""name":"{bridge}""#), r#""name":"bed""#),
        )?;
        fs::write(dir.join("containers.conf"), configuration(dir)?)?;
        let archive = dir.join("images.tar");
        image::write_archive(&archive)?;
        bed.load(&archive)?;
        image::write_host_archive(&archive)?;
        bed.load(&archive)?;
        fs::remove_file(&archive)?;
        Ok(bed)
    }

    /// Where containers and their bundles are, as `podman info` has it: graph root and run root.
    pub fn roots(&self) -> [PathBuf; 2] {
        ["root", "run"].map(|name| self.traces.dir.join(name))
    }

    /// The socket of the API service, which answers after [`Self::serve`].
    pub fn socket(&self) -> PathBuf {
        self.traces.dir.join("podman.sock")
    }

    /// Starts the API service and waits until it listens.
    pub fn serve(&mut self) -> anyhow::Result<()> {
        let url = format!("unix://{}", self.socket().display());
        let log = File::create(self.traces.dir.join("service.log"))?;
        let mut service = Command::new("podman");
        service.args(self.client().get_args().skip(3)).args(["system", "service", "--time=0", &url]);
        service.env("CONTAINERS_CONF", self.traces.dir.join("containers.conf"));
        service.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        self.service = Some(service.spawn().context("starting podman system service")?);
        let deadline = Instant::now() + START_DEADLINE;
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            ensure!(Instant::now() < deadline, "podman system service does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends the API service; containers run on.
    pub fn stop_serving(&mut self) {
        end(&mut self.service);
    }
}

impl Engine for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn client(&self) -> Command {
        let mut client = engine::patient("podman");
        let dir = &self.traces.dir;
        client.arg("--root").arg(dir.join("root")).arg("--runroot").arg(dir.join("run"));
        client.arg("--tmpdir").arg(dir.join("tmp")).arg("--runtime").arg(&self.runtime);
        client.args(["--cgroup-manager", engine::cgroup_driver(), "--events-backend", "file"]);
        client.env("CONTAINERS_CONF", dir.join("containers.conf")).env_remove("CONTAINER_HOST");
        client
    }

    fn traces(&self) -> &Traces {
        &self.traces
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        end(&mut self.service);
        // It leaves pods' cgroups in hierarchies without a controller.
        let pods = self.ask(&["pod", "ps", "--quiet", "--no-trunc"]).unwrap_or_default();
        pods.lines().for_each(|id| self.traces.remember(id));
        // What it cannot remove is removed without it; one that others need is refused until those have gone.
        for _ in 0..2 {
            let _ = self.ask(&["pod", "rm", "--all", "--force", "--time", "0"]);
            let _ = self.ask(&["rm", "--all", "--force", "--time", "0", "--volumes"]);
        }
        end(&mut self.controllers);
        self.traces.remove();
    }
}

fn end(process: &mut Option<Child>) {
    if let Some(mut process) = process.take() {
        // Both only fail when it is gone already.
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// crun refuses a machine whose hierarchies are hybrid if v2 has controllers left. A v1 hierarchy of them, that only this
/// process sees, takes them away for as long as it lives.
fn without_controllers(dir: &Path) -> anyhow::Result<Option<Child>> {
    let left = fs::read_to_string(UNIFIED).unwrap_or_default().trim().replace(' ', ",");
    if left.is_empty() {
        return Ok(None);
    }
    let point = dir.join("controllers");
    fs::create_dir_all(&point)?;
    let mut holder = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(r#"mount -t cgroup -o "$0" none "$1" && echo held && exec sleep infinity"#)
        .arg(&left)
        .arg(&point)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting unshare")?;
    let mut line = String::new();
    BufReader::new(holder.stdout.take().context("no pipe")?).read_line(&mut line)?;
    let mut holder = Some(holder);
    if line.trim() != "held" {
        end(&mut holder);
        anyhow::bail!(
            "crun needs a v2 hierarchy without controllers beside v1, and {left} could not be taken from it"
        );
    }
    Ok(holder)
}

/// Podman raises limits and keeps locks in /dev/shm unless it is told otherwise.
fn configuration(dir: &Path) -> anyhow::Result<String> {
    let limit = |name: &str, resource| -> anyhow::Result<String> {
        let (soft, hard) = getrlimit(resource)?;
        // Podman lowers its own to 32768 on some machines.
        Ok(format!(r#""{name}={}:{}""#, soft.min(1 << 15), hard.min(1 << 15)))
    };
    let limits =
        [limit("nofile", Resource::RLIMIT_NOFILE)?, limit("nproc", Resource::RLIMIT_NPROC)?].join(", ");
    let netavark = HELPERS.iter().any(|folder| Path::new(folder).join("netavark").exists());
    let backend = if netavark || engine::found("netavark") { "netavark" } else { "cni" };
    Ok(format!(
        r#"[containers]
default_ulimits = [{limits}]

[engine]
lock_type = "file"
num_locks = 256

[network]
network_backend = "{backend}"
network_config_dir = "{}/net"
default_network = "bed"
"#,
        dir.display()
    ))
}

/// An internal network: no gateway of the host's, no firewall rule.
fn netavark(bridge: &str, number: u16) -> String {
    let prefix = format!("198.{}.{}", 18 + (number >> 8) % 2, number & 0xff);
    serde_json::json!({
        "name": "bed",
        "id": "bed0".repeat(16),
        "driver": "bridge",
        "network_interface": bridge,
        "created": "2026-01-01T00:00:00Z",
        "subnets": [{ "subnet": format!("{prefix}.0/24"), "gateway": format!("{prefix}.1") }],
        "ipv6_enabled": false,
        "internal": true,
        "dns_enabled": false,
        "ipam_options": { "driver": "host-local" },
    })
    .to_string()
}
