//! A private dockerd with a containerd of its own: its folders, its bridge, its process, its way out. It touches neither
//! the firewall nor the forwarding of the machine.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::containerd::{last_lines, random_number};
use crate::engine::{self, Engine, Traces};
use crate::{cleanup, image};

/// How long dockerd may take to answer after its start.
const START_DEADLINE: Duration = Duration::from_mins(2);
/// How long it may take to end its containers and itself.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// A running dockerd with the bed's images. Dropping it removes every container and all that it has made on the machine.
#[derive(Debug)]
pub struct Docker {
    daemon: Option<Child>,
    options: Vec<String>,
    traces: Traces,
}

impl Docker {
    /// Why there can be none here; `None` where there can.
    pub fn why_not() -> Option<String> {
        let missing =
            ["dockerd", "docker", "containerd", "runc"].into_iter().find(|name| !engine::found(name))?;
        Some(format!(
            "Docker is not installed: there is no {missing} in PATH (cargo xtask setup installs docker.io)"
        ))
    }

    /// Starts dockerd in `dir`, which is made if need be and should be empty. Needs root.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_under(cleanup::lock()?, dir, &[])
    }

    /// As [`Self::start`], under a lock of [`crate::alone`]'s, with more options of dockerd's.
    pub fn start_under(lock: File, dir: &Path, more: &[&str]) -> anyhow::Result<Self> {
        ensure!(dir.is_absolute(), "{}: the folder's path must be absolute", dir.display());
        fs::create_dir_all(dir.join("client")).with_context(|| format!("creating {}", dir.display()))?;
        let number = random_number()?;
        let bridge = format!("pb{number:08x}");
        let bundles = dir.join("exec/containerd/daemon/io.containerd.runtime.v2.task/moby");
        // From here on dropping it removes what was made.
        let mut bed = Self {
            daemon: None,
            options: Vec::new(),
            traces: Traces::new(dir, bridge.clone(), bundles, lock),
        };
        // As for containerd's pods; the address is the gateway that Docker wants.
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&[
            "address",
            "add",
            &format!("198.{}.{}.1/24", 18 + (number >> 8) % 2, number & 0xff),
            "dev",
            &bridge,
        ])?;
        ip(&["link", "set", &bridge, "up"])?;
        fs::write(
            dir.join("daemon.json"),
            r#"{"iptables": false, "ip6tables": false, "ip-forward": false, "userland-proxy": false}"#,
        )?;
        let path = |name: &str| format!("{}/{name}", dir.display());
        bed.options = [
            ("config-file", path("daemon.json")),
            ("data-root", path("data")),
            ("exec-root", path("exec")),
            ("pidfile", path("docker.pid")),
            ("host", format!("unix://{}", path("docker.sock"))),
            ("bridge", bridge),
            ("exec-opt", format!("native.cgroupdriver={}", engine::cgroup_driver())),
        ]
        .map(|(name, value)| format!("--{name}={value}"))
        .into();
        if engine::lacks_sys_resource() {
            let runtime = engine::modest_runtime(dir, "runc")?;
            bed.options.push(format!("--add-runtime=modest={}", runtime.display()));
            bed.options.push("--default-runtime=modest".to_owned());
        }
        bed.options.extend(more.iter().map(|&word| word.to_owned()));
        bed.start_daemon()?;
        let archive = dir.join("images.tar");
        image::write_archive(&archive)?;
        bed.load(&archive)?;
        image::write_host_archive(&archive)?;
        bed.load(&archive)?;
        fs::remove_file(&archive)?;
        Ok(bed)
    }

    /// The socket of its API, for an agent's `runtimes:`.
    pub fn socket(&self) -> PathBuf {
        self.traces.dir.join("docker.sock")
    }

    /// The OCI runtime that the bed has put in the place of runc, if this machine needs that.
    pub fn runtime(&self) -> Option<PathBuf> {
        engine::lacks_sys_resource().then(|| engine::modest_path(&self.traces.dir, "runc"))
    }

    /// Kills dockerd alone; its containers run on and its socket's file stays and refuses connections.
    pub fn stop_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // Both only fail when it is gone already.
            let _ = daemon.kill();
            let _ = daemon.wait();
            // Its containerd goes with it. Until init has collected that, the next dockerd takes it for a living one.
            let file = self.traces.dir.join("exec/containerd/containerd.pid");
            let pid = fs::read_to_string(&file).ok().and_then(|pid| pid.trim().parse().ok());
            let deadline = Instant::now() + STOP_DEADLINE;
            while pid.is_some_and(cleanup::is_alive) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = fs::remove_file(file);
        }
    }

    /// Starts dockerd, and waits until it answers.
    pub fn start_daemon(&mut self) -> anyhow::Result<()> {
        let log_path = self.traces.dir.join("dockerd.log");
        let log = File::options().create(true).append(true).open(&log_path)?;
        let daemon = Command::new("dockerd")
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C in the terminal is for us: dockerd must outlive it until the containers are gone.
            .process_group(0)
            .spawn()
            .context("starting dockerd")?;
        self.daemon = Some(daemon);
        let deadline = Instant::now() + START_DEADLINE;
        while let Err(not_yet) = self.ask(&["version", "--format", "{{.Server.Version}}"]) {
            if let Some(status) = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().ok()).flatten() {
                bail!("dockerd ended at once with {status}:\n{}", last_lines(&log_path));
            }
            ensure!(
                Instant::now() < deadline,
                "dockerd is not ready ({not_yet:#}); its log ends with:\n{}",
                last_lines(&log_path)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Engine for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn client(&self) -> Command {
        let mut client = engine::patient("docker");
        client.arg("--config").arg(self.traces.dir.join("client"));
        client.arg("--host").arg(format!("unix://{}", self.socket().display()));
        client.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        client
    }

    fn traces(&self) -> &Traces {
        &self.traces
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // What it cannot remove is removed without it.
            if let Ok(ids) = self.ask(&["ps", "--all", "--quiet"]).map(|ids| ids.replace('\n', " ")) {
                let ids = ids.split_whitespace();
                let words: Vec<&str> = ["rm", "--force", "--volumes"].into_iter().chain(ids).collect();
                let _ = if words.len() > 3 { self.ask(&words).map(drop) } else { Ok(()) };
            }
            let _ = i32::try_from(daemon.id()).map(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM));
            let deadline = Instant::now() + STOP_DEADLINE;
            while matches!(daemon.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        self.traces.remove();
    }
}

fn ip(words: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(words).output().context("starting ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", words.join(" "), said.trim());
    Ok(())
}
