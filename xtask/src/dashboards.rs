//! Grafana's dashboards, which TypeScript in `dashboards/` makes: its own scripts do it, and this only calls them with what
//! `dashboards/package-lock.json` pins.

use std::path::PathBuf;
use std::process::Command;

use crate::progress;

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dashboards")
}

/// Fetches from npm's registry exactly what the lock file says. No package runs a script of its own at that.
pub(crate) fn install() -> anyhow::Result<()> {
    npm("fetching Grafana's schema and TypeScript", &["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
}

/// Writes the dashboards, or tells whether they are what would be written and right.
pub(crate) fn make(check: bool) -> anyhow::Result<()> {
    if !folder().join("node_modules/.package-lock.json").is_file() {
        install()?;
    }
    if check {
        npm("checking the dashboards", &["run", "--silent", "check"])
    } else {
        npm("writing the dashboards", &["run", "--silent", "write"])
    }
}

fn npm(what: &str, words: &[&str]) -> anyhow::Result<()> {
    progress::quietly(what, Command::new("npm").args(words).current_dir(folder()))
}
