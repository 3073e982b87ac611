//! Roots of the machines: Debian's suites with systemd and the container runtimes that they have, each as one image of ext4
//! to which the machines write nothing that lasts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::progress;

const MAKE: &str = include_str!("root.sh");

/// What every root has: the system, what the tests run, and the runtimes.
const PACKAGES: &str = "\
    systemd systemd-sysv systemd-container dbus dbus-user-session libpam-systemd udev kmod mount passwd e2fsprogs \
    apparmor bash procps iproute2 iptables nftables ca-certificates busybox-static tmux tcpdump curl conntrack iputils-ping openssl \
    containerd containernetworking-plugins runc crun docker.io podman conmon catatonit netavark aardvark-dns \
    uidmap slirp4netns fuse-overlayfs lxc prometheus";

/// What later suites have apart.
const LATER: &str = "docker-cli passt";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// Debian's suite.
    pub(super) suite: &'static str,
    more: &'static str,
}

pub(super) const BOOKWORM: Root = Root { suite: "bookworm", more: "" };
pub(super) const TRIXIE: Root = Root { suite: "trixie", more: LATER };
pub(super) const SID: Root = Root { suite: "sid", more: LATER };

pub(super) const ROOTS: [Root; 3] = [BOOKWORM, TRIXIE, SID];

/// Where its image is kept.
pub(super) fn image(cache: &Path, root: Root) -> PathBuf {
    let Root { suite, more } = root;
    cache.join(format!("root-{suite}-{}.ext4", super::key(&[suite, more, MAKE, PACKAGES])))
}

pub(super) fn ready(cache: &Path, root: Root, fresh: bool) -> anyhow::Result<()> {
    let image = image(cache, root);
    if image.is_file() && !fresh {
        return Ok(());
    }
    let new = tempfile::Builder::new().prefix("new-").tempdir_in(cache)?;
    let made = new.path().join("image");
    let mut make = Command::new("bash");
    make.args(["-c", MAKE, "bash", root.suite]).arg(&made);
    make.args(PACKAGES.split_whitespace()).args(root.more.split_whitespace());
    progress::quietly(
        &format!("making a root of Debian {} with its container runtimes", root.suite),
        &mut make,
    )?;
    super::forget(cache, &format!("root-{}-", root.suite))?;
    fs::rename(&made, &image).with_context(|| format!("keeping {}", image.display()))
}
