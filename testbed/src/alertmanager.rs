//! A real Alertmanager on a port and a folder of its own, in the two versions that the tests promise something about.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::request;
use crate::served::{Served, free_address};

/// Where `cargo xtask setup` unpacks Debian's newest package, which does not install on an older Debian.
const NEWEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/testbed/alertmanager");

/// Mounts the package's own data folder (which holds a template whose path is compiled in) over the installed one, for
/// this process alone, and becomes the program.
const IN_ITS_OWN_FOLDER: &str = r#"mount --bind "$1/usr/share/prometheus" /usr/share/prometheus
root=$1 && shift && exec "$root/usr/bin/prometheus-alertmanager" "$@""#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertmanagerVersion {
    /// The package of this machine's Debian: 0.25 in bookworm.
    Installed,
    /// The newest of Debian's: 0.33 when this was written.
    Newest,
}

impl AlertmanagerVersion {
    pub const ALL: [Self; 2] = [Self::Installed, Self::Newest];

    fn command(self) -> Command {
        match self {
            Self::Installed => Command::new("prometheus-alertmanager"),
            Self::Newest => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-ec", IN_ITS_OWN_FOLDER, "sh", NEWEST]);
                command
            }
        }
    }
}

impl fmt::Display for AlertmanagerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Installed => "installed",
            Self::Newest => "newest",
        })
    }
}

/// Where the newest one is unpacked.
pub fn newest_alertmanager() -> PathBuf {
    NEWEST.into()
}

/// A running Alertmanager. Dropping it kills it; the folder is its starter's to remove.
#[derive(Debug)]
pub struct Alertmanager {
    served: Served,
}

impl Alertmanager {
    /// Starts one in `folder`, which is made if need be, on the text of an `alertmanager.yml`. It knows of no other one.
    pub async fn start(
        version: AlertmanagerVersion,
        folder: &Path,
        configuration: &str,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let path = folder.join("alertmanager.yml");
        fs::write(&path, configuration)?;
        let address = free_address()?;
        let mut command = version.command();
        command
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            // What the payloads name; by default it would be this machine's name.
            .arg("--web.external-url=http://alertmanager.test")
            .arg("--cluster.listen-address=");
        Ok(Self { served: Served::start(&folder.join("log"), address, command).await? })
    }

    pub fn address(&self) -> SocketAddr {
        self.served.address
    }

    /// Its version as it tells it itself, such as `0.25.0`.
    pub async fn version(&self) -> anyhow::Result<String> {
        let status = self.get("/api/v2/status").await?;
        Ok(status["versionInfo"]["version"].as_str().context("it tells no version")?.to_owned())
    }

    /// Hands it alerts as Prometheus does: a list of `labels`, `annotations`, `startsAt`, `endsAt`.
    pub async fn alert(&self, alerts: &Value) -> anyhow::Result<()> {
        let answer = request(self.address(), "POST", "/api/v2/alerts", &alerts.to_string()).await?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
        Ok(())
    }

    /// What it says of its own, in the exposition format.
    pub async fn metrics(&self) -> anyhow::Result<Vec<crate::Sample>> {
        crate::samples(&request(self.address(), "GET", "/metrics", "").await?.body)
    }

    pub fn log(&self) -> String {
        self.served.log()
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = request(self.address(), "GET", path, "").await?;
        ensure!(answer.status == 200, "{path}: {}: {}", answer.status, answer.body);
        Ok(serde_json::from_str(&answer.body)?)
    }
}
