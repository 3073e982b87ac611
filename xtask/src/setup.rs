//! `cargo xtask setup`: installs what the demo and the tests need and a fresh Debian lacks; says what and why.
//!
//! A need is met by a program or file wherever it came from: Docker's containerd serves as well as Debian's, and is not
//! replaced. No service is started or enabled by what this installs.

mod arm64;
mod newest;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::bail;

pub(crate) use self::arm64::check_arm64;
use crate::{chart, dashboards, dist, progress};

/// The version that links against the LLVM inside the rustc of rust-toolchain.toml.
const BPF_LINKER: &[&str] = &["bpf-linker@0.10.0"];

/// The newest that this project's compiler takes.
const S3_SERVER: &[&str] = &["s3s-fs@0.14.1", "--features", "binary"];

/// What the project's Debian package is made by.
const DEB_MAKER: &[&str] = &["cargo-deb@3.8.0"];

/// Debian's rustc packages, compiled with a ready-made `core` for BPF targets: rustup offers none for stable.
const BPF_RUSTC_BOOKWORM: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf"];
const BPF_RUSTC_LATER: &[&str] = &["rustc", "libstd-rust-dev-bpf"];

/// The sources of their standard library: Debian has none compiled for musl. Taken only where rustup has none.
const MUSL_STD_BOOKWORM: &[&str] = &["rust-web-src", "gcc"];
const MUSL_STD_LATER: &[&str] = &["rust-src", "gcc"];

/// Installs packages with a policy under which no service starts (invoke-rc.d(8)); a policy that is there stays.
const INSTALL: &str = r#"set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
"#;

/// Debian splits the client off from version 13 on.
const DOCKER_BOOKWORM: &[&str] = &["docker.io"];
const DOCKER_LATER: &[&str] = &["docker.io", "docker-cli"];

/// Units that a package enables.
const STARTING: [(&str, &[&str]); 5] = [
    ("containerd", &["containerd"]),
    ("prometheus", &["prometheus"]),
    ("prometheus-alertmanager", &["prometheus-alertmanager"]),
    ("docker.io", &["docker.service", "docker.socket"]),
    ("podman", &["podman.service", "podman.socket", "podman-restart.service", "podman-auto-update.timer"]),
];

struct Need {
    what: &'static str,
    why: &'static str,
    met: fn() -> bool,
    from: From,
}

enum From {
    Packages(&'static [&'static str]),
    BpfRustc,
    MuslStd,
    Docker,
    Cargo(&'static [&'static str]),
    /// Python's packages for `cargo xtask chart`.
    Python,
    /// What `dashboards/package-lock.json` pins, in the folder `node_modules` beside it.
    Npm,
    /// A package of Debian's newest suite, unpacked beside the build and not installed.
    Newest {
        package: &'static str,
        into: fn() -> PathBuf,
    },
}

const NEEDS: &[Need] = &[
    Need {
        what: "rustc for BPF",
        why: "compiles the exec tracepoint",
        met: || bpf_core().is_some(),
        from: From::BpfRustc,
    },
    Need {
        what: "bpf-linker",
        why: "links the exec tracepoint",
        met: || found("bpf-linker"),
        from: From::Cargo(BPF_LINKER),
    },
    Need {
        what: "s3s-fs",
        why: "the S3 server that the uploads are tested against",
        met: || found("s3s-fs"),
        from: From::Cargo(S3_SERVER),
    },
    Need {
        what: "cargo-deb",
        why: "makes the Debian package",
        met: || found("cargo-deb"),
        from: From::Cargo(DEB_MAKER),
    },
    package("python3-venv", "Helm and the chart's schemas are Python's", python_has_venv, &["python3-venv"]),
    Need {
        what: "Helm",
        why: "the chart is linted and rendered by it",
        met: chart::has_packages,
        from: From::Python,
    },
    package("systemd-nspawn", "boots that machine", || found("systemd-nspawn"), &["systemd-container"]),
    package("lxc", "a test looks into a container of its", || found("lxc-start"), &["lxc"]),
    package(
        "busybox",
        "that container's, and a machine's, only program",
        || exists("/bin/busybox"),
        &["busybox-static"],
    ),
    package("lintian", "checks the Debian package", || found("lintian"), &["lintian"]),
    package(
        "tzdata",
        "the images hold the time zones",
        || exists("/usr/share/zoneinfo/Europe/Berlin"),
        &["tzdata"],
    ),
    package(
        "mmdebstrap",
        "unpacks the tools of the image, and the machine of the package's test",
        || found("mmdebstrap"),
        &["mmdebstrap"],
    ),
    Need {
        what: "a standard library for musl",
        why: "the shipped program is static",
        met: dist::musl_std,
        from: From::MuslStd,
    },
    package("musl-gcc", "compiles the C in the shipped program", || found("musl-gcc"), &["musl-tools"]),
    package("containerd", "runs the pods", || found("containerd") && found("ctr"), &["containerd"]),
    package("runc", "starts the pods' containers", || found("runc"), &["runc"]),
    package(
        "CNI plugins",
        "give each pod its network",
        || exists("/usr/lib/cni/bridge") || exists("/opt/cni/bin/bridge"),
        &["containernetworking-plugins"],
    ),
    Need {
        what: "Docker",
        why: "the tests run its containers",
        met: || found("dockerd") && found("docker"),
        from: From::Docker,
    },
    package(
        "Podman",
        "the tests run its containers",
        || found("podman") && found("conmon") && found("catatonit"),
        &["podman", "netavark", "aardvark-dns", "catatonit"],
    ),
    package("crun", "starts some of Podman's containers", || found("crun"), &["crun"]),
    package("iproute2", "ip and ss are probes", || found("ip") && found("ss"), &["iproute2"]),
    package("procps", "ps is a probe", || found("ps"), &["procps"]),
    package("dig", "the shipped probe of the resolver runs it", || found("dig"), &["bind9-dnsutils"]),
    package("conntrack", "a shipped probe runs it", || found("conntrack"), &["conntrack"]),
    package("ping", "the shipped probe of the path runs it", || found("ping"), &["iputils-ping"]),
    package("openssl", "a shipped probe reads certificates with it", || found("openssl"), &["openssl"]),
    package("perf", "a shipped probe samples stacks with it", || found("perf"), &["linux-perf"]),
    package(
        "prometheus",
        "the tests scrape with it and check with promtool",
        || found("promtool"),
        &["prometheus"],
    ),
    package(
        "Alertmanager",
        "the tests are alerted by it",
        || found("prometheus-alertmanager"),
        &["prometheus-alertmanager"],
    ),
    Need {
        what: "the newest Alertmanager",
        why: "the tests are alerted by it, too",
        met: || testbed::newest_alertmanager().join("usr/bin/prometheus-alertmanager").is_file(),
        from: From::Newest { package: "prometheus-alertmanager", into: testbed::newest_alertmanager },
    },
    package("jsonnet", "a test builds the mixin with it", || found("jsonnet"), &["jsonnet"]),
    package("node", "makes and checks the dashboards", || found("node"), &["nodejs"]),
    package("npm", "fetches what they are checked with", || found("npm"), &["npm"]),
    Need {
        what: "Grafana's schema and TypeScript",
        why: "the dashboards are checked with them",
        met: || dashboards::folder().join("node_modules/.package-lock.json").is_file(),
        from: From::Npm,
    },
    package("tcpdump", "a test records a pod's packets with it", || found("tcpdump"), &["tcpdump"]),
    package("tshark", "the tests read such a record with it", || found("tshark"), &["tshark"]),
    package("chromium", "the tests look at the agent's page with it", || found("chromium"), &["chromium"]),
    package("groff-base", "the tests read man pages with it", || found("groff"), &["groff-base"]),
    package("zsh", "the tests complete a container's name in it", || found("zsh"), &["zsh"]),
    package("fish", "the tests complete a container's name in it", || found("fish"), &["fish"]),
    package("losetup", "the tests make disks of files with it", || found("losetup"), &["mount"]),
    package("e2fsprogs", "a test unmounts an ext4 file system", || found("mkfs.ext4"), &["e2fsprogs"]),
    package("curl", "the tests ask the agent's Unix socket with it", || found("curl"), &["curl"]),
    package("bpftrace", "the bench counts execs with it, too", || found("bpftrace"), &["bpftrace"]),
    package("strace", "the bench shows with it what an idle agent does", || found("strace"), &["strace"]),
    package(
        "QEMU",
        "runs the tests on other kernels (cargo xtask vm)",
        || found("qemu-system-x86_64"),
        &["qemu-system-x86"],
    ),
    package("busybox", "the first process of these machines", || exists("/bin/busybox"), &["busybox-static"]),
    package("depmod", "finds what these kernels' modules need", || found("depmod"), &["kmod"]),
    package("xz", "unpacks these modules", || found("xz"), &["xz-utils"]),
    package("zstd", "unpacks those of others", || found("zstd"), &["zstd"]),
    package("systemd-analyze", "rates the unit in deploy/", || found("systemd-analyze"), &["systemd"]),
    package("tmux", "the tests of parachute exec need a terminal", || found("tmux"), &["tmux"]),
];

const fn package(
    what: &'static str,
    why: &'static str,
    met: fn() -> bool,
    packages: &'static [&'static str],
) -> Need {
    Need { what, why, met, from: From::Packages(packages) }
}

pub(crate) fn run(check: bool, with_arm64: bool) -> anyhow::Result<()> {
    if !check {
        ensure("setup")?;
        return if with_arm64 { arm64::add() } else { Ok(()) };
    }
    if with_arm64 {
        check_arm64()?;
    }
    let missing = missing();
    for need in &missing {
        println!("missing: {} ({})", need.what, need.why);
    }
    if !missing.is_empty() {
        bail!("{} of {} needs are missing: cargo xtask setup installs them", missing.len(), NEEDS.len());
    }
    println!("nothing is missing");
    Ok(())
}

/// Installs what is missing; `verb` is the task that needs it, for the message to whoever is not root.
pub(crate) fn ensure(verb: &str) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "this needs root, to load an eBPF program and enter namespaces: \
             run sudo env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask {verb}"
        );
    }
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    let Some(debian) = debian_version() else {
        bail!(
            "this sets up Debian alone: install {names} with your system's package manager and run it again"
        );
    };
    for need in &missing {
        eprintln!("missing: {} ({})", need.what, need.why);
    }
    let mut packages = Vec::new();
    let mut crates = Vec::new();
    let mut unpacked = Vec::new();
    let mut python = false;
    let mut npm = false;
    for need in &missing {
        match need.from {
            From::Packages(names) => packages.extend(names),
            From::BpfRustc if debian < 13 => packages.extend(BPF_RUSTC_BOOKWORM),
            From::BpfRustc => packages.extend(BPF_RUSTC_LATER),
            From::MuslStd if dist::add_target() => {}
            From::MuslStd if debian < 13 => packages.extend(MUSL_STD_BOOKWORM),
            From::MuslStd => packages.extend(MUSL_STD_LATER),
            From::Docker if debian < 13 => packages.extend(DOCKER_BOOKWORM),
            From::Docker => packages.extend(DOCKER_LATER),
            From::Cargo(name) => crates.push(name),
            From::Python => python = true,
            From::Npm => npm = true,
            From::Newest { package, into } => unpacked.push((package, into)),
        }
    }
    if !packages.is_empty() {
        install(&packages)?;
    }
    for what in crates {
        progress::quietly(
            &format!("compiling {}", what[0]),
            // Not optimised: they run for seconds, and take two or three times as long to compile otherwise.
            progress::cargo()
                .args(["install", "--locked", "--debug"])
                .env("CARGO_PROFILE_DEV_DEBUG", "0")
                .args(what),
        )?;
    }
    if python {
        chart::add_packages()?;
    }
    if npm {
        dashboards::install()?;
    }
    for (package, into) in unpacked {
        newest::unpack(package, &into())?;
    }
    Ok(())
}

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !(need.met)()).collect()
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    progress::quietly("fetching the package lists", Command::new("apt-get").arg("update"))?;
    let what = format!("installing {}", packages.join(" "));
    progress::quietly(&what, Command::new("sh").args(["-c", INSTALL, "sh"]).args(packages))?;
    // The policy only keeps them from starting now: this, from starting at the next boot.
    let installed = STARTING.iter().filter(|(package, _)| packages.contains(package));
    let services: Vec<_> = installed.flat_map(|(_, units)| *units).collect();
    if !services.is_empty() && found("systemctl") {
        let mut disable = Command::new("systemctl");
        progress::quietly(
            "keeping their services from starting at boot",
            disable.arg("disable").args(services),
        )?;
    }
    Ok(())
}

/// The release's number; a Debian without one (testing, unstable) is newer than all that have one.
fn debian_version() -> Option<u32> {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    (field("ID") == Some("debian"))
        .then(|| field("VERSION_ID").and_then(|v| v.trim_matches('"').parse().ok()).unwrap_or(u32::MAX))
}

/// Where a `core` for BPF comes from: Debian's packages, or the sources beside a nightly of rustup's.
fn bpf_core() -> Option<PathBuf> {
    let packaged = exists("/usr/bin/rustc").then(|| PathBuf::from("/usr/lib/rustlib/bpfel-unknown-none"));
    let toolchains = env::var_os("RUSTUP_HOME")
        .map_or_else(|| Path::new(&env::var_os("HOME").unwrap_or_default()).join(".rustup"), PathBuf::from)
        .join("toolchains");
    let nightlies = fs::read_dir(toolchains).into_iter().flatten().flatten();
    let sources = nightlies
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("nightly"))
        .map(|entry| entry.path().join("lib/rustlib/src/rust/library/core"));
    packaged.into_iter().chain(sources).find(|path| path.exists())
}

fn python_has_venv() -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", "import ensurepip, venv"]).output().is_ok_and(|output| output.status.success())
}

/// Also where sudo's or a plain user's PATH does not lead.
pub(crate) fn found(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(more).any(|folder| folder.join(program).is_file())
}

fn exists(path: &str) -> bool {
    Path::new(path).exists()
}
