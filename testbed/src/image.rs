//! The pods' images, made here because no registry can be asked: docker-archive tars of one layer, which
//! `ctr images import` reads. Format: <https://github.com/moby/docker-image-spec>, and `manifest.json` as
//! `docker save` writes it.

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// Holds `/workload` and `/attacker` and nothing else. The `.test` domain never exists, so no runtime can pull it by mistake.
pub const WORKLOAD_IMAGE: &str = "parachute.test/workload:1";

/// Holds the folders of a Debian and nothing in them: with the host's `/usr` mounted there it has the host's programs.
pub const HOST_IMAGE: &str = "parachute.test/host:1";

/// The sandbox container of every pod.
pub(crate) const PAUSE_IMAGE: &str = "parachute.test/pause:1";

/// The static build of workload/main.rs.
pub const WORKLOAD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/workload"));

/// The static build of attacker/main.rs.
pub(crate) const ATTACKER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/attacker"));

/// The attacker as a program of the host's: a tool that somebody has taken over.
pub fn attacker() -> &'static [u8] {
    ATTACKER
}

/// One image of an archive.
#[derive(Clone, Copy, Debug)]
pub struct ImageSpec<'a> {
    pub name: &'a str,
    pub entrypoint: &'a [&'a str],
    pub command: &'a [&'a str],
    pub environment: &'a [&'a str],
}

/// Writes the pods' images into one archive: they share their only layer.
pub(crate) fn write_archive(path: &Path) -> anyhow::Result<()> {
    let image = |name, verb| ImageSpec { name, entrypoint: &["/workload"], command: verb, environment: &[] };
    write_image(path, &layer()?, &[image(PAUSE_IMAGE, &["sleep"]), image(WORKLOAD_IMAGE, &["true"])])
}

/// Writes [`HOST_IMAGE`] into an archive.
pub(crate) fn write_host_archive(path: &Path) -> anyhow::Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    for (folder, mode) in [
        ("etc", 0o755),
        ("usr", 0o755),
        ("run", 0o755),
        ("root", 0o700),
        ("var/lib", 0o755),
        ("var/log", 0o755),
        ("tmp", 0o1777),
        ("var/tmp", 0o1777),
    ] {
        let mut header = header(0, mode);
        header.set_entry_type(tar::EntryType::Directory);
        layer.append_data(&mut header, folder, std::io::empty())?;
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        let mut header = header(0, 0o777);
        header.set_entry_type(tar::EntryType::Symlink);
        layer.append_link(&mut header, link, format!("usr/{link}"))?;
    }
    append(&mut layer, "etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
    append(&mut layer, "etc/group", 0o644, b"root:x:0:\ndocker:x:999:\n")?;
    let image = ImageSpec { name: HOST_IMAGE, entrypoint: &[], command: &["/bin/sh"], environment: &[] };
    write_image(path, &layer.into_inner()?, &[image])
}

/// Writes an archive of images that have this tar as their only layer. The same bytes make the same archive.
pub fn write_image(path: &Path, layer: &[u8], images: &[ImageSpec<'_>]) -> anyhow::Result<()> {
    let layer_digest = hex(layer);
    let mut archive =
        tar::Builder::new(File::create(path).with_context(|| format!("creating {}", path.display()))?);
    append(&mut archive, "layer.tar", 0o644, layer)?;
    let mut manifest = Vec::new();
    for image in images {
        let config = serde_json::to_vec(&serde_json::json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": image.entrypoint, "Cmd": image.command, "Env": image.environment },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        }))?;
        let config_name = format!("{}.json", hex(&config));
        append(&mut archive, &config_name, 0o644, &config)?;
        manifest.push(serde_json::json!({
            "Config": config_name, "RepoTags": [image.name], "Layers": ["layer.tar"],
        }));
    }
    append(&mut archive, "manifest.json", 0o644, &serde_json::to_vec(&manifest)?)?;
    archive.finish()?;
    Ok(())
}

fn layer() -> anyhow::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "workload", 0o755, WORKLOAD)?;
    append(&mut layer, "attacker", 0o755, ATTACKER)?;
    Ok(layer.into_inner()?)
}

fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    mode: u32,
    bytes: &[u8],
) -> anyhow::Result<()> {
    archive.append_data(&mut header(bytes.len() as u64, mode), name, bytes)?;
    Ok(())
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header
}

fn hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Go's word for this machine's architecture, which image configurations use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
