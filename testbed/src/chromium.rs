//! A real browser without a window: what a page looks like, and what it is after its scripts have run.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// How long a page may take; chromium's own start is most of it.
const DEADLINE: Duration = Duration::from_secs(60);

/// How the page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// In pixels. Chromium makes no window narrower than 500 (as of version 156).
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

impl View {
    pub const DESK: Self = Self { width: 1200, height: 900, dark: false };
}

/// A browser with a profile of its own in this folder, which is its starter's to remove.
#[derive(Clone, Copy, Debug)]
pub struct Chromium<'a> {
    pub profile: &'a Path,
    pub view: View,
}

impl Chromium<'_> {
    /// The document as it stands after scripts, if any ran.
    pub async fn dom(&self, url: &str) -> anyhow::Result<String> {
        let output = self.run(&["--dump-dom".to_owned(), url.to_owned()]).await?;
        String::from_utf8(output.stdout).context("a document that is not UTF-8")
    }

    /// Draws the page into a PNG.
    pub async fn screenshot(&self, url: &str, path: &Path) -> anyhow::Result<()> {
        self.run(&[format!("--screenshot={}", path.display()), url.to_owned()]).await?;
        ensure!(path.exists(), "chromium drew no {}", path.display());
        Ok(())
    }

    async fn run(&self, arguments: &[String]) -> anyhow::Result<Output> {
        let View { width, height, dark } = self.view;
        let mut chromium = Command::new("chromium");
        chromium
            // Its sandbox refuses root. The page is our own.
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            // Time that passes as fast as the page allows: timers of a script have run when the document is dumped.
            .args(["--hide-scrollbars", "--virtual-time-budget=3000", "--timeout=20000"])
            // Nobody in the world needs to know.
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            // TLS is tested elsewhere; here the certificates are the test's own.
            .arg("--ignore-certificate-errors")
            .arg(format!("--user-data-dir={}", self.profile.display()))
            .arg(format!("--window-size={width},{height}"))
            .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)))
            .args(arguments)
            .stdin(Stdio::null());
        let mut chromium = tokio::process::Command::from(chromium);
        let output = tokio::time::timeout(DEADLINE, chromium.kill_on_drop(true).output())
            .await
            .with_context(|| format!("chromium has not drawn a page in {DEADLINE:?}"))?
            .context("starting chromium (cargo xtask setup installs it)")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "chromium ended with {}: {said}", output.status);
        Ok(output)
    }
}
