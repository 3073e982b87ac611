//! The private containerd itself: its folder, its process, its way out.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tonic::transport::{Channel, Endpoint};

use crate::UserContainer;
use crate::cri::image_service_client::ImageServiceClient;
use crate::cri::runtime_service_client::RuntimeServiceClient;
use crate::image::{PAUSE_IMAGE, WORKLOAD_IMAGE, write_archive};
use crate::pod::PodBuilder;
use crate::{Driver, cleanup, cri, patience, settings};

/// How long containerd may take to answer after its start, with its images imported.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// `sun_path` holds 108 bytes with its final NUL (unix(7)), and containerd adds `.ttrpc` to its socket's name.
const LONGEST_SOCKET: usize = 107 - ".ttrpc".len();

/// Connected at its first call.
fn channel(socket: &Path) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(format!("unix://{}", socket.display()))?.connect_lazy())
}

/// For calls that no builder makes.
pub type CriClient = RuntimeServiceClient<Channel>;

/// A running containerd with its own root, state, socket, network and images. Dropping it kills every pod and removes
/// all that it made on the machine, the folder's contents included.
#[derive(Debug)]
pub struct Containerd {
    dir: PathBuf,
    bridge: String,
    driver: Driver,
    daemon: Option<Child>,
    channel: Channel,
    /// The uids of all pods ever started here: their cgroups are removed at the end.
    pod_uids: Mutex<Vec<String>>,
    /// Held shared while the bed lives; see `cleanup::shared_folders`.
    lock: File,
}

impl Containerd {
    /// Starts containerd in `dir`, which is made if need be and should be empty. Needs root.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_under(cleanup::lock()?, dir).await
    }

    /// As [`Self::start`], under a lock of [`crate::alone`]'s: there is no other bed as long as this one lives.
    pub async fn start_under(lock: File, dir: &Path) -> anyhow::Result<Self> {
        ensure!(dir.is_absolute(), "{}: the folder's path must be absolute", dir.display());
        let socket = dir.join("containerd.sock");
        ensure!(
            socket.as_os_str().len() <= LONGEST_SOCKET,
            "{}: too long for a socket's path, use a shorter folder",
            dir.display()
        );
        fs::create_dir_all(dir.join("cni")).with_context(|| format!("creating {}", dir.display()))?;
        let number = random_number()?;
        let bridge = format!("pb{number:08x}");
        let driver = Driver::asked()?;
        fs::write(dir.join("config.toml"), settings::containerd(dir, snapshotter(dir)?, &driver)?)?;
        // The low bits of a random number: neighbours may share a subnet without harm, as no bridge leads anywhere.
        let subnet = u16::try_from(number & 0x1ff)?;
        fs::write(dir.join("cni/10-bed.conflist"), settings::network(dir, &bridge, subnet))?;
        let channel = channel(&socket)?;
        let mut bed =
            Self { dir: dir.into(), bridge, driver, daemon: None, channel, pod_uids: Mutex::default(), lock };
        bed.start_daemon().await?;
        bed.import_images().await?;
        Ok(bed)
    }

    /// The CRI socket, for an agent's `runtimes:`.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    /// How its containers are made.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Its version, as it tells it.
    pub fn version(&self) -> anyhow::Result<String> {
        crate::driver::version_of("containerd")
    }

    /// Describes a pod; nothing happens before [`PodBuilder::start`].
    pub fn pod(&self, namespace: &str, name: &str) -> PodBuilder<'_> {
        PodBuilder::new(self, namespace, name)
    }

    /// Starts a container with a user namespace, which is no pod's.
    pub fn user_container(&self, command: &[&str]) -> anyhow::Result<UserContainer> {
        UserContainer::start(&self.dir.join("user"), command)
    }

    /// A client on containerd's own socket, for calls that [`PodBuilder`] does not make.
    pub fn runtime(&self) -> CriClient {
        RuntimeServiceClient::new(self.channel.clone())
    }

    /// A client with a connection of its own, which is served by the runtime that this is called in.
    pub fn connect(socket: &Path) -> anyhow::Result<CriClient> {
        channel(socket).map(RuntimeServiceClient::new)
    }

    /// Kills containerd and starts it again on the same state. The pods keep running: their shims are other processes.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop_daemon();
        self.start_daemon().await
    }

    /// Kills containerd alone; its socket's file stays and refuses connections.
    pub fn stop_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // Both only fail when it is gone already.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// Starts containerd where [`Self::stop_daemon`] has stopped it, and waits until it answers.
    pub async fn start_daemon(&mut self) -> anyhow::Result<()> {
        let log_path = self.dir.join("containerd.log");
        let log = File::options().create(true).append(true).open(&log_path)?;
        let daemon = Command::new("containerd")
            .arg("--config")
            .arg(self.dir.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C in the terminal is for us: containerd must outlive it until the pods are gone.
            .process_group(0)
            .spawn()
            .context("starting containerd (is it installed? cargo xtask setup installs it)")?;
        let daemon = self.daemon.insert(daemon);
        let deadline = Instant::now() + START_DEADLINE * patience();
        let mut runtime = RuntimeServiceClient::new(self.channel.clone());
        loop {
            let not_yet = match runtime.status(cri::StatusRequest { verbose: false }).await {
                Ok(answer) => match unmet_conditions(answer.into_inner()) {
                    unmet if unmet.is_empty() => return Ok(()),
                    unmet => unmet,
                },
                Err(error) => error.message().to_owned(),
            };
            if let Some(status) = daemon.try_wait()? {
                bail!("containerd ended at once with {status}:\n{}", last_lines(&log_path));
            }
            if Instant::now() > deadline {
                bail!("containerd is not ready ({not_yet}); its log ends with:\n{}", last_lines(&log_path));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Remembers a pod so that its cgroups can be found at the end.
    pub(crate) fn adopt(&self, pod_uid: &str) {
        self.pod_uids.lock().unwrap_or_else(PoisonError::into_inner).push(pod_uid.to_owned());
    }

    pub(crate) fn log_folder(&self) -> PathBuf {
        self.dir.join("log")
    }

    async fn import_images(&self) -> anyhow::Result<()> {
        let archive = self.dir.join("images.tar");
        write_archive(&archive)?;
        self.import(&archive, &[PAUSE_IMAGE, WORKLOAD_IMAGE]).await
    }

    /// Takes in an archive as `docker save` writes it, and waits until pods can be made of these images of it.
    pub async fn import(&self, archive: &Path, images: &[&str]) -> anyhow::Result<()> {
        let import = tokio::process::Command::new("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io", "images", "import", "--snapshotter", snapshotter(&self.dir)?])
            .arg(archive)
            .kill_on_drop(true)
            .output()
            .await
            .context("starting ctr, which comes with containerd")?;
        ensure!(import.status.success(), "ctr images import: {}", String::from_utf8_lossy(&import.stderr));
        // The CRI plugin hears of a new image by an event; a pod started before that would try to pull it.
        let deadline = Instant::now() + START_DEADLINE * patience();
        let mut service = ImageServiceClient::new(self.channel.clone());
        for &image in images {
            let image = cri::ImageSpec { image: image.into() };
            loop {
                let request = cri::ImageStatusRequest { image: Some(image.clone()) };
                if service.image_status(request).await?.into_inner().image.is_some() {
                    break;
                }
                ensure!(Instant::now() < deadline, "containerd does not show the image {}", image.image);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.stop_daemon();
        let pod_uids = self.pod_uids.get_mut().unwrap_or_else(PoisonError::into_inner);
        for mistake in cleanup::all(&self.dir, &self.bridge, self.driver.cgroups, pod_uids, &self.lock) {
            eprintln!("testbed: {mistake}");
        }
    }
}

/// overlayfs, unless the folder's file system cannot carry one (an overlay on an overlay, as inside of containers).
fn snapshotter(dir: &Path) -> anyhow::Result<&'static str> {
    let trial = dir.join("overlay");
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| trial.join(name));
    for folder in [&lower, &upper, &work, &merged] {
        fs::create_dir_all(folder)?;
    }
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let works =
        mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str())).is_ok();
    if works {
        umount2(&merged, MntFlags::MNT_DETACH)?;
    }
    fs::remove_dir_all(&trial)?;
    Ok(if works { "overlayfs" } else { "native" })
}

fn unmet_conditions(status: cri::StatusResponse) -> String {
    let conditions = status.status.unwrap_or_default().conditions;
    let unmet = conditions.into_iter().filter(|condition| !condition.status);
    unmet
        .map(|condition| format!("{}: {}", condition.r#type, condition.message))
        .collect::<Vec<_>>()
        .join(", ")
}

pub(crate) fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// A random UUID of the kernel's (random(4)).
pub(crate) fn random_uuid() -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

pub(crate) fn random_number() -> anyhow::Result<u32> {
    let uuid = random_uuid()?;
    Ok(u32::from_str_radix(uuid.split('-').next().unwrap_or_default(), 16)?)
}
