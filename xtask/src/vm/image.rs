//! What the machines have of this project, as an image that they mount where the host has it: the sources, the program and
//! the tests, built here as `cargo xtask test` builds them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use super::PROJECT;
use crate::progress;

/// The image, and where in it the program of the whole-agent tests is.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) image: PathBuf,
    /// The repository's folder, as the machines have it, too.
    pub(super) folder: PathBuf,
    pub(super) tests: PathBuf,
}

/// Builds it, and the image in `work`.
pub(super) fn of_project(work: &Path) -> anyhow::Result<Project> {
    let folder = fs::canonicalize(PROJECT)?;
    let tests = build()?;
    let staged = work.join("project");
    let mut files = listed(&folder)?;
    files.push(tests.strip_prefix(&folder).context("the tests are built outside of the repository")?.into());
    files.push("target/debug/parachute".into());
    for file in files {
        let (from, to) = (folder.join(&file), staged.join(&file));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        // Nothing of it is written to, so that its name may be another one of the same file.
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
    }
    let image = work.join("project.ext4");
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d"]).arg(&staged).arg(&image).arg("2G");
    progress::quietly("making an image of the project", &mut make)?;
    fs::remove_dir_all(&staged)?;
    Ok(Project { image, folder, tests })
}

/// The files that git knows and that are there.
fn listed(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.output().context("starting git")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).context("a file's name is no text")?;
    Ok(text.split_terminator('\0').map(PathBuf::from).filter(|path| folder.join(path).is_file()).collect())
}

/// The whole-agent tests and, as they need it, the program.
fn build() -> anyhow::Result<PathBuf> {
    eprintln!("building the whole-agent tests ...");
    let mut cargo = progress::cargo();
    // All that `cargo xtask test` builds: by themselves tests and program have other features of what they need, and much of that
    // would be built a second time.
    cargo.args(["test", "--locked", "--workspace", "--no-run"]);
    let output = cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit()).output();
    let output = output.with_context(|| progress::starting(&cargo))?;
    ensure!(output.status.success(), "building the whole-agent tests ended with {}", output.status);
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut built = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    // The testbed has a test of that name, too.
    let of_agent = |message: &serde_json::Value| {
        message["package_id"].as_str().is_some_and(|package| package.contains("#parachute@"))
    };
    let real = built.rfind(|message| message["target"]["name"] == "real" && of_agent(message));
    let path = real.as_ref().and_then(|message| message["executable"].as_str());
    path.map(PathBuf::from).context("cargo does not say where the whole-agent tests are")
}
