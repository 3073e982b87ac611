//! `cargo xtask deb`: the Debian package, of dist/parachute. What is in it is said in agent/Cargo.toml; what is made of the
//! program itself, man pages and completions, is written to target/deb first.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::{dist, progress, setup};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const MAINTAINER: &str = "the authors of parachute <parachute@parachute.invalid>";
const SHELLS: [(&str, &str); 3] =
    [("bash", "parachute.bash"), ("zsh", "_parachute"), ("fish", "parachute.fish")];

pub(crate) fn run(no_build: bool) -> anyhow::Result<()> {
    setup::ensure("deb")?;
    if !no_build {
        dist::run()?;
    }
    make(&format!("{}-1", env!("CARGO_PKG_VERSION")), "dist").map(drop)
}

/// A Debian that systemd boots, with what the package asks for, and no package of any network's at hand.
const DEBIAN: &str = "curl,dbus,iproute2,procps,systemd,systemd-sysv";

/// What the package's test installs: this version, one to upgrade to, and the machine.
pub(crate) fn for_tests() -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    make(&format!("{version}-1"), "dist")?;
    let folder = Path::new(ROOT).join("target/deb-test");
    fs::create_dir_all(&folder)?;
    let two = make(&format!("{version}-2"), "target/deb-test")?;
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning"]).arg(&two);
    progress::quietly("asking lintian about the package", &mut lintian)?;
    let (machine, fresh) = (folder.join("root"), folder.join("fresh"));
    if machine.exists() {
        return Ok(());
    }
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--mode=root", "--variant=minbase"]).arg(format!("--include={DEBIAN}"));
    mmdebstrap.arg("--aptopt=APT::Install-Recommends \"false\"");
    mmdebstrap.args(
        ["/usr/share/doc/*", "/usr/share/locale/*"].map(|path| format!("--dpkgopt=path-exclude={path}")),
    );
    progress::quietly("making a Debian to install the package in", mmdebstrap.arg("bookworm").arg(&fresh))?;
    fs::rename(&fresh, &machine)?;
    Ok(())
}

/// A package of this version from the dist/parachute that is there, in this folder of the project's.
pub(crate) fn make(version: &str, folder: &str) -> anyhow::Result<PathBuf> {
    let root = Path::new(ROOT);
    let program = root.join("dist/parachute");
    let made = root.join("target/deb");
    if made.exists() {
        fs::remove_dir_all(&made)?;
    }
    fs::create_dir_all(made.join("man"))?;
    pages(&program, &[], &made.join("man"))?;
    for (shell, name) in SHELLS {
        fs::write(made.join(name), said(&program, &["completions", shell])?)?;
    }
    compressed(&made.join("CHANGELOG.md.gz"), &fs::read(root.join("CHANGELOG.md"))?)?;
    fs::write(made.join("changelog"), changelog(version)?)?;
    // The package has its program where packages have them; who installs by hand has it in /usr/local.
    let unit = fs::read_to_string(root.join("deploy/parachute.service"))?;
    ensure!(unit.contains("/usr/local/bin/parachute"), "the unit starts no /usr/local/bin/parachute");
    fs::write(
        made.join("parachute.service"),
        unit.replace("/usr/local/bin/parachute", "/usr/bin/parachute"),
    )?;

    let output = root.join(folder).join(format!("parachute_{version}_amd64.deb"));
    let mut deb = progress::cargo();
    deb.args([
        "deb",
        "--package",
        "parachute",
        "--no-build",
        "--no-strip",
        "--deb-version",
        version,
        "--output",
    ])
    .arg(&output);
    progress::quietly(&format!("packing {}", output.display()), &mut deb)?;
    Ok(output)
}

/// The man page of this verb, and those of the verbs that it names as its own.
fn pages(program: &Path, verb: &[&str], folder: &Path) -> anyhow::Result<()> {
    let page = said(program, &[&["man"], verb].concat())?;
    let name = [&["parachute"], verb].concat().join("-");
    compressed(&folder.join(format!("{name}.1.gz")), &page)?;
    let page = String::from_utf8(page)?.replace("\\-", "-");
    let below = page
        .lines()
        .filter_map(|line| line.strip_prefix(name.as_str())?.strip_prefix('-')?.strip_suffix("(1)"));
    for below in below.filter(|below| *below != "help") {
        pages(program, &[verb, &[below]].concat(), folder)?;
    }
    Ok(())
}

/// In Debian's form, as the date of the last change.
fn changelog(version: &str) -> anyhow::Result<String> {
    let mut git = Command::new("git");
    let log = git.current_dir(ROOT).args(["log", "-1", "--format=%aD"]).output().context("starting git")?;
    ensure!(log.status.success(), "git log: {}", String::from_utf8_lossy(&log.stderr));
    let date = String::from_utf8(log.stdout)?;
    Ok(format!(
        "parachute ({version}) unstable; urgency=medium\n\n  * See /usr/share/doc/parachute/changelog.gz.\n\n -- {MAINTAINER}  {}\n",
        date.trim()
    ))
}

fn said(program: &Path, words: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new(program).args(words).output().with_context(|| program.display().to_string())?;
    ensure!(
        output.status.success(),
        "parachute {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

fn compressed(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = GzEncoder::new(File::create(path)?, Compression::best());
    file.write_all(bytes)?;
    file.finish()?;
    Ok(())
}
