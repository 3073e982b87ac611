//! A real Prometheus on a port and a folder of its own. What it scrapes and evaluates is the test's configuration.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::request;
use crate::served::{Served, encoded, free_address};

/// A running Prometheus. Dropping it kills it; the folder is its starter's to remove.
#[derive(Debug)]
pub struct Prometheus {
    served: Served,
    configuration: PathBuf,
}

impl Prometheus {
    /// Starts it in `folder`, which is made if need be, on the text of a `prometheus.yml`. Paths in the text that are
    /// relative are relative to the folder.
    pub async fn start(folder: &Path, configuration: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let path = folder.join("prometheus.yml");
        fs::write(&path, configuration)?;
        let address = free_address()?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"));
        let served = Served::start(&folder.join("log"), address, command).await?;
        Ok(Self { served, configuration: path })
    }

    pub fn address(&self) -> SocketAddr {
        self.served.address
    }

    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// The series of an instant query: each with its `metric` and its `value`.
    pub async fn query(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        let data = self.data(&format!("/api/v1/query?query={}", encoded(query))).await?;
        data["result"].as_array().cloned().with_context(|| format!("no result in {data}"))
    }

    /// The series of a query over the last `seconds`, one value each second: each with its `metric` and its `values`.
    pub async fn range(&self, query: &str, seconds: u64) -> anyhow::Result<Vec<Value>> {
        let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let start = end.saturating_sub(seconds);
        let path =
            format!("/api/v1/query_range?query={}&start={start}&end={end}&step=1", encoded(query));
        let data = self.data(&path).await?;
        data["result"].as_array().cloned().with_context(|| format!("no result in {data}"))
    }

    /// Its rules, each with `name`, `type`, `health` and `lastError`.
    pub async fn rules(&self) -> anyhow::Result<Vec<Value>> {
        let data = self.data("/api/v1/rules").await?;
        let groups = data["groups"].as_array().with_context(|| format!("no groups in {data}"))?;
        Ok(groups.iter().filter_map(|group| group["rules"].as_array()).flatten().cloned().collect())
    }

    /// What it scrapes, with `labels`, `health` and `lastError`.
    pub async fn targets(&self) -> anyhow::Result<Vec<Value>> {
        let data = self.data("/api/v1/targets?state=active").await?;
        data["activeTargets"].as_array().cloned().with_context(|| format!("no targets in {data}"))
    }

    /// The alerts of its rules, with `labels`, `state` and `activeAt`.
    pub async fn alerts(&self) -> anyhow::Result<Vec<Value>> {
        let data = self.data("/api/v1/alerts").await?;
        data["alerts"].as_array().cloned().with_context(|| format!("no alerts in {data}"))
    }

    pub fn log(&self) -> String {
        self.served.log()
    }

    async fn data(&self, path: &str) -> anyhow::Result<Value> {
        let answer = request(self.address(), "GET", path, "").await?;
        ensure!(answer.status == 200, "{path}: {}: {}", answer.status, answer.body);
        let body: Value = serde_json::from_str(&answer.body)?;
        ensure!(body["status"] == "success", "{path}: {body}");
        Ok(body["data"].clone())
    }
}
