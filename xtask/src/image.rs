//! `cargo xtask image`: the container images, as archives that docker, podman, ctr and k3s take in: the program alone, and the
//! same with the tools that probes run, for nodes that have none. Both are made from nothing but the program and Debian's
//! packages, of which no maintainer script is run.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use testbed::{ImageSpec, write_image};

use crate::{dist, progress};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

const ZONES: &str = "/usr/share/zoneinfo";

/// What probes run, and what a shell's text for them takes for granted.
const TOOLS: &str = "base-files,bash,bind9-dnsutils,conntrack,coreutils,dash,ethtool,findutils,grep,iproute2,iputils-ping,\
    iputils-tracepath,lsof,mawk,net-tools,openssl,procps,psmisc,sed,strace,tcpdump";
/// Nobody reads them in an image.
const LEFT_OUT: [&str; 7] = [
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/bin/perl*",
    "/usr/share/perl*",
    "/usr/lib/x86_64-linux-gnu/perl*",
];
const SOURCES: [&str; 2] = [
    "deb http://deb.debian.org/debian bookworm main",
    "deb http://deb.debian.org/debian-security bookworm-security main",
];
/// Folders that are mounted over, or that the agent makes its own in. runc can make none in a root that is read-only.
const FOLDERS: [(&str, u32); 11] = [
    ("dev", 0o755),
    ("etc/parachute", 0o755),
    ("proc", 0o755),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr/bin", 0o755),
    ("usr/share/doc/parachute", 0o755),
    ("usr/share/parachute", 0o755),
    ("var/lib/parachute", 0o700),
    ("var/tmp", 0o1777),
];

pub(crate) fn run(no_build: bool) -> anyhow::Result<()> {
    if !no_build {
        dist::run()?;
    }
    make()
}

/// Of the dist/parachute that is there.
pub(crate) fn make() -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    for variant in ["", "-tools"] {
        let mut layer = tar::Builder::new(Vec::new());
        for (folder, mode) in FOLDERS {
            folder_entry(&mut layer, folder, mode)?;
        }
        for (from, to, mode) in files()? {
            let bytes = fs::read(&from).with_context(|| from.display().to_string())?;
            file_entry(&mut layer, &to, mode, &bytes)?;
        }
        if variant == "-tools" {
            add_tools(&mut layer)?;
        }
        let path = Path::new(ROOT).join(format!("dist/parachute-image{variant}.tar"));
        let fresh = path.with_extension("fresh");
        let image = ImageSpec {
            name: &format!("parachute:{version}{variant}"),
            entrypoint: &["/usr/bin/parachute"],
            command: &["agent"],
            environment: &environment,
        };
        write_image(&fresh, &layer.into_inner()?, &[image])?;
        fs::rename(&fresh, &path)?;
        eprintln!("{}: {:.1} MB", path.display(), fs::metadata(&path)?.len() as f64 / 1e6);
    }
    Ok(())
}

/// The project's own files in the images.
fn files() -> anyhow::Result<Vec<(PathBuf, String, u32)>> {
    let root = Path::new(ROOT);
    let mut all = vec![
        (root.join("dist/parachute"), "usr/bin/parachute".to_owned(), 0o755),
        (root.join("LICENSE"), "usr/share/doc/parachute/LICENSE".to_owned(), 0o644),
        (
            root.join("parachute.example.yml"),
            "usr/share/doc/parachute/parachute.example.yml".to_owned(),
            0o644,
        ),
    ];
    let mut probes: Vec<PathBuf> = match fs::read_dir(root.join("probes")) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?,
        Err(_) => Vec::new(),
    };
    probes.retain(|path| path.extension().is_some_and(|extension| extension == "yml"));
    probes.sort();
    all.extend(probes.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        Some((path, format!("usr/share/parachute/probes/{name}"), 0o644))
    }));
    zones(Path::new(ZONES), &mut all)?;
    Ok(all)
}

/// Schedules may be in any time zone, and even UTC is looked up. Those of this machine's tzdata, each zone once.
fn zones(folder: &Path, all: &mut Vec<(PathBuf, String, u32)>) -> anyhow::Result<()> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("{}: cargo xtask setup installs tzdata", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("posix") && !path.ends_with("right") {
            zones(&path, all)?;
        } else if path.is_file() {
            all.push((path.clone(), path.display().to_string().trim_start_matches('/').to_owned(), 0o644));
        }
    }
    Ok(())
}

/// Adds the packages' files. They are fetched once for each list of them.
fn add_tools(layer: &mut tar::Builder<Vec<u8>>) -> anyhow::Result<()> {
    let folder = Path::new(ROOT).join("target/image");
    fs::create_dir_all(&folder)?;
    let (archive, list) = (folder.join("tools.tar"), folder.join("tools.list"));
    let wanted = [TOOLS, &LEFT_OUT.join(" "), &SOURCES.join(" ")].join("\n");
    if fs::read_to_string(&list).unwrap_or_default() != wanted || !archive.exists() {
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(["--mode=root", "--variant=extract"]).arg(format!("--include={TOOLS}"));
        mmdebstrap.arg("--aptopt=APT::Install-Recommends \"false\"");
        mmdebstrap.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
        progress::quietly(
            "fetching the tools of the image",
            mmdebstrap.arg("bookworm").arg(&archive).args(SOURCES),
        )?;
        fs::write(&list, wanted)?;
    }
    let mut tools = tar::Archive::new(File::open(&archive)?);
    for entry in tools.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        // The runtime fills /dev. What the packages keep of their own past is of no use where nothing is installed.
        if ["./dev", "./var/lib/apt", "./var/cache", "./var/lib/dpkg/info"]
            .iter()
            .any(|left| path.starts_with(left))
        {
            continue;
        }
        let mut header = entry.header().clone();
        header.set_mtime(0);
        if let Some(target) = entry.link_name()? {
            let target = target.into_owned();
            layer.append_link(&mut header, &path, target)?;
        } else {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            layer.append_data(&mut header, &path, bytes.as_slice())?;
        }
    }
    Ok(())
}

fn folder_entry(layer: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(mode);
    layer.append_data(&mut header, format!("{path}/"), std::io::empty())?;
    Ok(())
}

fn file_entry(layer: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    layer.append_data(&mut header, path, bytes)?;
    Ok(())
}
