//! `cargo xtask arm64 --vm`: the agent on an Arm kernel of Debian's, in QEMU, with one processor in software. There is no container
//! runtime: what is detected and looked into is a process with namespaces of its own in a cgroup that is named as a
//! container's. `vm/init.sh` is what runs there.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{LIBRARIES, ROOT};
use crate::progress;

/// What the machine has beside the agent.
const PACKAGES: [&str; 2] = ["linux-image-cloud-arm64", "busybox-static"];
/// As long as all of it may take, in seconds, on a machine that does other things as well.
const DEADLINE: &str = "900";
const INIT: &str = include_str!("vm/init.sh");
const CONFIGURATION: &str = include_str!("vm/parachute.yml");
/// The first program: a root that is no initial one, which pivot_root(2) refuses.
const FIRST: &str = "#!/bin/busybox sh\n/bin/busybox mount -t tmpfs -o mode=755 root /new\n\
    /bin/busybox cp -a /image/. /new/\nexec /bin/busybox switch_root /new /init\n";
/// The libraries that a program of Rust's asks for.
const SHARED: [&str; 4] = ["ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libgcc_s.so.1"];

/// Fails unless each step in there has ended well. `left_out` are tests that could not be run elsewhere.
pub(super) fn run(executables: &[PathBuf], left_out: &[&str]) -> anyhow::Result<()> {
    let folder = Path::new(ROOT).join("target/arm64-vm");
    let files = fetched(&folder)?;
    let named = |name: &str| {
        let found = executables.iter().find(|path| file_name(path).starts_with(name));
        found.with_context(|| format!("no executable {name} was built"))
    };
    let mut archive = Archive::new(&folder.join("initrd.gz"))?;
    for below in ["new", "dev", "proc", "sys"] {
        archive.folder(below)?;
    }
    for below in "dev proc sys tmp run etc var/lib usr/bin root home".split(' ') {
        archive.folder(&format!("image/{below}"))?;
    }
    archive.file("init", 0o755, FIRST.as_bytes())?;
    let busybox = fs::read(files.join("bin/busybox"))?;
    archive.file("bin/busybox", 0o755, &busybox)?;
    archive.file("image/bin/busybox", 0o755, &busybox)?;
    archive.file("image/init", 0o755, INIT.as_bytes())?;
    archive.file("image/parachute.yml", 0o644, CONFIGURATION.as_bytes())?;
    archive.file("image/left-out", 0o644, left_out.join("\n").as_bytes())?;
    for (path, name) in
        [("bin/parachute", "parachute"), ("tests-agent", "parachute-"), ("tests-stub", "agent_stub-")]
    {
        archive.file(&format!("image/{path}"), 0o755, &fs::read(named(name)?)?)?;
    }
    for library in SHARED {
        let bytes = fs::read(Path::new(LIBRARIES).join("lib").join(library))?;
        archive.file(&format!("image/lib/{library}"), 0o755, &bytes)?;
    }
    let initrd = archive.finish()?;
    boot(&kernel(&files)?, &initrd)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Shows what the machine says, and reads of it whether all went well.
fn boot(kernel: &Path, initrd: &Path) -> anyhow::Result<()> {
    let mut qemu = Command::new("timeout");
    // It ends with this program, however that ends.
    qemu.args([
        "--foreground",
        DEADLINE,
        "setpriv",
        "--pdeathsig",
        "KILL",
        "--",
        "qemu-system-aarch64",
        "-M",
        "virt",
        "-cpu",
        "cortex-a72",
        "-m",
        "2048",
        "-nographic",
    ]);
    qemu.args(["-no-reboot", "-net", "none", "-append", "console=ttyAMA0 quiet panic=-1"]);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd).stdin(Stdio::null()).stderr(Stdio::inherit());
    eprintln!("booting an Arm kernel ...");
    let output = qemu.output().with_context(|| progress::starting(&qemu))?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    let mut steps = said.lines().filter_map(|line| line.trim().strip_prefix("STATUS ")).peekable();
    ensure!(steps.peek().is_some() && said.contains("== done"), "the machine did not come to its end");
    let failed: Vec<_> = steps.filter(|step| !step.ends_with(" 0")).collect();
    ensure!(failed.is_empty(), "on arm64: {}", failed.join(", "));
    Ok(())
}

/// The packages' files. apt is asked for the other machine's with lists and a cache of their own, so that this machine's are
/// as they were.
fn fetched(folder: &Path) -> anyhow::Result<PathBuf> {
    let files = folder.join("files");
    if files.is_dir() {
        return Ok(files);
    }
    for part in ["state/lists/partial", "cache/archives/partial", "packages"] {
        fs::create_dir_all(folder.join(part))?;
    }
    fs::write(folder.join("state/status"), "")?;
    let state = folder.join("state").canonicalize()?;
    let apt = |program: &str| {
        let mut apt = Command::new(program);
        for (option, value) in [
            ("APT::Architecture", "arm64".into()),
            ("APT::Architectures", "arm64".into()),
            ("Dir::State", state.display().to_string()),
            ("Dir::State::status", state.join("status").display().to_string()),
            ("Dir::Cache", state.with_file_name("cache").display().to_string()),
        ] {
            apt.arg("-o").arg(format!("{option}={value}"));
        }
        apt.current_dir(state.with_file_name("packages"));
        apt
    };
    progress::quietly("fetching arm64's package lists", apt("apt-get").arg("update"))?;
    // The first is a name for the newest one.
    let mut depends = apt("apt-cache");
    let said = depends.args(["depends", "--important", PACKAGES[0]]).output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let image = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .context("no kernel of arm64's")?;
    progress::quietly("fetching a kernel for arm64", apt("apt-get").args(["download", image, PACKAGES[1]]))?;
    let fresh = folder.join("fresh");
    for package in fs::read_dir(folder.join("packages"))? {
        let mut unpack = Command::new("dpkg-deb");
        progress::quietly("unpacking", unpack.arg("-x").arg(package?.path()).arg(&fresh))?;
    }
    fs::rename(&fresh, &files)?;
    Ok(files)
}

fn kernel(files: &Path) -> anyhow::Result<PathBuf> {
    let found = fs::read_dir(files.join("boot"))?.flatten().map(|entry| entry.path());
    found.filter(|path| file_name(path).starts_with("vmlinuz")).last().context("no kernel in its package")
}

/// A first file system: cpio's `newc` (Documentation/driver-api/early-userspace/buffer-format.rst), compressed.
struct Archive {
    path: PathBuf,
    into: GzEncoder<fs::File>,
    number: usize,
    folders: Vec<String>,
}

impl Archive {
    fn new(path: &Path) -> anyhow::Result<Self> {
        let file = fs::File::create(path).with_context(|| path.display().to_string())?;
        let into = GzEncoder::new(file, Compression::fast());
        Ok(Self { path: path.into(), into, number: 0, folders: Vec::new() })
    }

    fn folder(&mut self, name: &str) -> anyhow::Result<()> {
        if name.is_empty() || self.folders.iter().any(|known| known == name) {
            return Ok(());
        }
        self.folder(name.rsplit_once('/').map_or("", |(above, _)| above))?;
        self.folders.push(name.into());
        self.entry(name, 0o040_755, &[])
    }

    fn file(&mut self, name: &str, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
        self.folder(name.rsplit_once('/').map_or("", |(above, _)| above))?;
        self.entry(name, 0o100_000 | mode, bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
        self.number += 1;
        let (size, length) = (bytes.len(), name.len() + 1);
        let ids = format!("{:08X}{mode:08X}{:016X}{:08X}{:08X}", self.number, 0, 1, 0);
        let head = format!("070701{ids}{size:08X}{:032X}{length:08X}{:08X}{name}\0", 0, 0);
        let padding = |written: usize| vec![0; written.next_multiple_of(4) - written];
        for part in [head.as_bytes(), &padding(head.len()), bytes, &padding(size)] {
            self.into.write_all(part)?;
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<PathBuf> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.into.finish()?;
        Ok(self.path)
    }
}
