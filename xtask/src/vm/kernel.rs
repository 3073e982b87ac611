//! Kernels of Debian's, each with a first root that holds the modules that the tests need. Nothing is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::cpio::Cpio;
use crate::progress;

const FETCH: &str = include_str!("kernel.sh");
const INIT: &[u8] = include_bytes!("guest/init.sh");

/// What root and runtimes need, and what a kernel without modules to load by itself must have from the start. One that is
/// built in, or that a kernel does not have, is left out.
const MODULES: &str = "\
    crc32c_generic crc32c_intel libcrc32c crc16 mbcache jbd2 ext4 \
    virtio_pci virtio_blk virtio_console virtio_rng autofs4 overlay fuse loop squashfs configfs \
    veth bridge stp llc br_netfilter tun dummy macvlan \
    inet_diag tcp_diag udp_diag raw_diag unix_diag netlink_diag af_packet af_packet_diag \
    nf_tables nft_compat nft_counter nft_chain_nat nft_nat nft_masq nft_ct nft_fib nft_fib_inet nft_fib_ipv4 nft_fib_ipv6 \
    nft_reject nft_reject_inet nft_log nft_limit nf_conntrack nf_conntrack_netlink nf_nat nf_reject_ipv4 nf_reject_ipv6 \
    x_tables ip_tables ip6_tables iptable_filter iptable_nat iptable_mangle iptable_raw ip6table_filter ip6table_nat \
    xt_MASQUERADE xt_comment xt_addrtype xt_conntrack xt_nat xt_mark xt_multiport xt_tcpudp xt_REDIRECT xt_CHECKSUM \
    ip_set xt_set";

/// A kernel: what this project calls it, and where Debian has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) name: &'static str,
    package: &'static str,
    suite: &'static str,
    archive: &'static str,
}

const DEBIAN: &str = "http://deb.debian.org/debian";

pub(super) const KERNELS: [Kernel; 4] = [
    Kernel {
        name: "5.10",
        package: "linux-image-cloud-amd64",
        suite: "bullseye-security",
        archive: "http://deb.debian.org/debian-security",
    },
    Kernel { name: "6.1", package: "linux-image-cloud-amd64", suite: "bookworm", archive: DEBIAN },
    Kernel { name: "6.12", package: "linux-image-cloud-amd64", suite: "trixie", archive: DEBIAN },
    Kernel { name: "newest", package: "linux-image-cloud-amd64", suite: "sid", archive: DEBIAN },
];

/// Where it is kept: `vmlinuz`, `release` and `initrd`.
pub(super) fn folder(cache: &Path, kernel: Kernel) -> PathBuf {
    let Kernel { name, package, suite, archive } = kernel;
    let init = String::from_utf8_lossy(INIT);
    cache.join(format!("kernel-{name}-{}", super::key(&[package, suite, archive, FETCH, MODULES, &init])))
}

pub(super) fn ready(cache: &Path, kernel: Kernel, fresh: bool) -> anyhow::Result<()> {
    let folder = folder(cache, kernel);
    if folder.is_dir() && !fresh {
        return Ok(());
    }
    let new = tempfile::Builder::new().prefix("new-").tempdir_in(cache)?;
    let mut fetch = Command::new("sh");
    fetch.args(["-c", FETCH, "sh"]).arg(new.path());
    fetch.args([kernel.package, kernel.suite, kernel.archive]);
    progress::quietly(&format!("fetching kernel {} of {}", kernel.name, kernel.suite), &mut fetch)?;
    let release = fs::read_to_string(new.path().join("release"))?;
    let tree = new.path().join("lib/modules").join(release.trim());
    fs::write(new.path().join("initrd"), first_root(&tree)?)?;
    fs::remove_dir_all(new.path().join("lib"))?;
    // What is there is whole: of older texts, or of an older day, until this moment.
    super::forget(cache, &format!("kernel-{}-", kernel.name))?;
    let made = new.keep();
    fs::rename(&made, &folder).with_context(|| format!("keeping {}", folder.display()))?;
    Ok(())
}

/// The archive with busybox, the script that is the first process, and the modules in the order in which they load.
fn first_root(tree: &Path) -> anyhow::Result<Vec<u8>> {
    let mut archive = Cpio::default();
    for folder in ["bin", "dev", "proc", "sys", "modules", "vm"] {
        archive.folder(folder);
    }
    archive.device("dev/console", (5, 1));
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.is_file());
    let busybox = busybox.context("busybox is missing: cargo xtask setup installs it")?;
    archive.file("bin/busybox", 0o755, &fs::read(busybox)?);
    archive.file("init", 0o755, INIT);
    let dependencies =
        fs::read_to_string(tree.join("modules.dep")).context("reading what depmod has found")?;
    for (number, path) in in_order(&dependencies, MODULES).into_iter().enumerate() {
        let (name, _) = path.rsplit_once(".ko").unwrap_or((path, ""));
        let name = name.rsplit('/').next().unwrap_or(name);
        archive.file(&format!("modules/{number:03}-{name}.ko"), 0o644, &module(&tree.join(path))?);
    }
    Ok(archive.finish())
}

/// The modules of this kernel that have these names and what they depend on, which comes first.
fn in_order<'a>(dependencies: &'a str, names: &str) -> Vec<&'a str> {
    let table: BTreeMap<&str, Vec<&str>> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (path, needs.split_whitespace().collect()))
        .collect();
    let name = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split(".ko").next().unwrap_or(file).replace('-', "_")
    };
    let paths: BTreeMap<String, &str> = table.keys().map(|path| (name(path), *path)).collect();
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    for path in names.split_whitespace().filter_map(|name| paths.get(name)) {
        // depmod lists all that one needs, the last needed first.
        for needed in table[path].iter().rev().chain([path]) {
            if seen.insert(*needed) {
                order.push(*needed);
            }
        }
    }
    order
}

/// Its bytes as the kernel loads them: Debian compresses them in newer suites.
fn module(path: &Path) -> anyhow::Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(path).with_context(|| format!("reading {}", path.display())),
    };
    let output = Command::new(program).args(["--decompress", "--quiet", "--stdout"]).arg(path).output();
    let output = output.with_context(|| format!("starting {program}"))?;
    ensure!(output.status.success(), "{program} {}: {}", path.display(), output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need_and_once() {
        let dependencies = "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz\n\
                            kernel/lib/crc16.ko.xz:\n\
                            kernel/fs/jbd2/jbd2.ko.xz: kernel/lib/crc16.ko.xz\n\
                            kernel/net/af-packet.ko:\n";
        assert_eq!(
            in_order(dependencies, "built_in jbd2 ext4 af_packet"),
            [
                "kernel/lib/crc16.ko.xz",
                "kernel/fs/jbd2/jbd2.ko.xz",
                "kernel/fs/ext4/ext4.ko.xz",
                "kernel/net/af-packet.ko"
            ]
        );
    }
}
