//! A fake CRI-O: it is not packaged. Its containers are real, made by runc in bundles and cgroups as CRI-O makes them; what
//! answers CRI is a server of the test bed's own that says what CRI-O says. Where the facts come from stands beside each:
//! the sources of CRI-O 1.2x and 1.3x. There is no conmon, no network of a pod's, and no image store.

mod answers;
mod bundle;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;

use self::answers::{Answers, api};
use crate::cleanup::cgroup_hierarchies;
use crate::containerd::random_uuid;
use crate::pod::PodContainer;

/// Where CRI-O keeps its containers' bundles: `RunRoot` of containers/storage, as storage.conf(5) has it for root.
const BUNDLES: &str = "/run/containers/storage/overlay-containers";

/// `cgroup_manager` of crio.conf(5). The fake makes the paths that each of them makes; systemd itself has no part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    Systemd,
    Cgroupfs,
}

impl CgroupDriver {
    /// The pod's cgroup, as the kubelet names it for a burstable one.
    fn pod(self, uid: &str) -> String {
        match self {
            Self::Systemd => format!(
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice",
                uid.replace('-', "_")
            ),
            Self::Cgroupfs => format!("kubepods/burstable/pod{uid}"),
        }
    }

    /// `containerCgroupPath` in internal/config/cgmgr, and with systemd the scope that is made of it.
    fn container(self, id: &str) -> String {
        match self {
            Self::Systemd => format!("crio-{id}.scope"),
            Self::Cgroupfs => format!("crio-{id}"),
        }
    }
}

/// Who a pod is, and the one container in it.
#[derive(Clone, Copy, Debug)]
pub struct CrioContainer<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    /// One of the pod's labels.
    pub label: (&'a str, &'a str),
    pub name: &'a str,
    pub command: &'a [&'a str],
    /// Whether the sandbox has a process. CRI-O makes none unless it is told otherwise (`drop_infra_ctr` in crio.conf(5)).
    pub infra: bool,
}

/// Dropping it ends all of its containers and removes what it has made.
#[derive(Debug)]
pub struct FakeCrio {
    folder: PathBuf,
    driver: CgroupDriver,
    answers: Answers,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    /// Ids of containers, and the uids of pods.
    made: Vec<String>,
    pods: Vec<String>,
}

impl FakeCrio {
    /// Answers at `crio.sock` in this folder, which is made if need be. Needs root.
    pub fn start(folder: &Path, driver: CgroupDriver) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let answers = Answers::default();
        let listener = UnixListener::bind(folder.join("crio.sock")).context("binding crio.sock")?;
        let service = api::runtime_service_server::RuntimeServiceServer::new(answers.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        let server = tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        Ok(Self { folder: folder.into(), driver, answers, server, made: Vec::new(), pods: Vec::new() })
    }

    /// For an agent's `runtimes:`.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("crio.sock")
    }

    /// Runs a pod with one container, in CRI-O's order: the sandbox is listed, then its container is made, is listed, and is
    /// started.
    pub fn run(&mut self, asked: &CrioContainer<'_>) -> anyhow::Result<PodContainer> {
        let uid = random_uuid()?;
        let (sandbox, id) = (random_id()?, random_id()?);
        let made = bundle::Made { asked, uid: &uid, sandbox: &sandbox, id: &id };
        self.pods.push(uid.clone());
        if asked.infra {
            self.create(&sandbox, &uid, &made.sandbox_spec())?;
            self.runc(&["start", &sandbox])?;
        }
        self.answers.add_sandbox(made.sandbox_answer());
        self.create(&id, &uid, &made.container_spec())?;
        self.answers.add_container(made.container_answer());
        self.runc(&["start", &id])?;
        let pid = fs::read_to_string(bundle_of(&id).join("pidfile"))?.trim().parse()?;
        Ok(PodContainer { name: asked.name.to_owned(), id, pid })
    }

    /// Kills the container and forgets it.
    pub fn kill(&mut self, id: &str) -> anyhow::Result<()> {
        self.runc(&["delete", "--force", id])?;
        self.answers.remove_container(id);
        Ok(())
    }

    /// What was asked over CRI, each call by its name.
    pub fn calls(&self) -> Vec<&'static str> {
        self.answers.calls()
    }

    fn create(&mut self, id: &str, uid: &str, spec: &bundle::Spec) -> anyhow::Result<()> {
        let folder = bundle_of(id);
        let cgroup = format!("/{}/{}", self.driver.pod(uid), self.driver.container(id));
        self.made.push(id.to_owned());
        spec.write(&folder, &cgroup)?;
        let (bundle, pidfile) = (folder.display().to_string(), folder.join("pidfile").display().to_string());
        self.runc(&["create", "--bundle", &bundle, "--pid-file", &pidfile, id])
    }

    fn runc(&self, words: &[&str]) -> anyhow::Result<()> {
        let path = self.folder.join("runc.log");
        let log = fs::File::options().create(true).append(true).open(&path)?;
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(self.folder.join("runc")).args(words).stdin(Stdio::null());
        let status = runc.stdout(log.try_clone()?).stderr(log).status().context("starting runc")?;
        ensure!(status.success(), "runc {}: {}", words[0], fs::read_to_string(&path)?);
        Ok(())
    }
}

impl Drop for FakeCrio {
    fn drop(&mut self) {
        self.server.abort();
        for id in &self.made {
            // One that was killed is gone already, which `--force` does not mind.
            if let Err(error) = self.runc(&["delete", "--force", id]) {
                eprintln!("testbed: {error:#}");
            }
            let _ = fs::remove_dir_all(Path::new(BUNDLES).join(id));
        }
        // Where Podman or a real CRI-O has something there, it is not empty.
        for folder in Path::new(BUNDLES).ancestors().take(3) {
            let _ = fs::remove_dir(folder);
        }
        for (uid, hierarchy) in self
            .pods
            .iter()
            .flat_map(|uid| cgroup_hierarchies().into_iter().map(move |hierarchy| (uid, hierarchy)))
        {
            // The kubelet's own folders go with the last pod in them.
            for folder in Path::new(&self.driver.pod(uid)).ancestors().filter(|part| *part != Path::new("")) {
                let _ = fs::remove_dir(hierarchy.join(folder));
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn bundle_of(id: &str) -> PathBuf {
    Path::new(BUNDLES).join(id).join("userdata")
}

/// 64 lower-case hex digits (`stringid.GenerateNonCryptoID` of containers/storage).
fn random_id() -> anyhow::Result<String> {
    Ok((random_uuid()? + &random_uuid()?).replace('-', ""))
}
