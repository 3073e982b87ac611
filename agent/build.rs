//! Compiles what the agent carries, and leaves it in `OUT_DIR`: the kernel half (`agent-ebpf`) for the eBPF machine, which
//! `detect::kernel` and `enter::launcher::devices` embed, and the program that enters containers (`agent-stub`) as a static
//! one, which `enter::launcher::spawner` embeds. It downloads nothing but crates: what is missing is said in one line.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const OBJECTS: [&str; 2] = ["parachute-exec", "parachute-devices"];
const TARGET: &str = "bpfel-unknown-none";
const STUB: &str = "parachute-stub";
/// With this set to 1 empty objects are embedded, which are refused when they are to be loaded: for `cargo check`, clippy and
/// docs on a machine without the eBPF toolchain.
const SKIP: &str = "PARACHUTE_SKIP_EBPF";

/// What is left of a line, if it is.
type Kept = fn(&str) -> Option<&str>;

/// What `config` embeds, and what of a line it does without.
const TEXTS: [(&str, Kept); 2] = [
    // A third of it is the blanks before each line.
    ("parachute.schema.json", |line| Some(line.trim_start())),
    // Comments are for who reads the file.
    ("parachute.example.yml", |line| (!line.trim_start().starts_with('#')).then_some(line)),
];
/// The folder of the probes that come with the program. Their lines keep their numbers, which mistakes are told by.
const PROBES: &str = "probes";

/// A compiler that can build `core` for the eBPF machine.
enum Toolchain {
    /// A distribution's rustc that ships `core` for it (Debian: libstd-rust-web-dev-bpf or libstd-rust-dev-bpf).
    Distribution(PathBuf),
    /// rustup's nightly with rust-src, which builds `core` on the way.
    Nightly,
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../agent-ebpf");
    println!("cargo::rerun-if-changed=../agent-stub");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    println!("cargo::rerun-if-changed=../Cargo.toml");
    println!("cargo::rerun-if-env-changed={SKIP}");
    println!("cargo::rerun-if-changed=../{PROBES}");
    for (text, _) in TEXTS {
        println!("cargo::rerun-if-changed=../{text}");
    }
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo".to_owned());
    if let Err(problem) =
        out.map(PathBuf::from).and_then(|out| texts(&out).and_then(|()| stub(&out)).and_then(|()| ebpf(&out)))
    {
        println!("cargo::error={problem}");
        std::process::exit(1);
    }
}

fn texts(out: &Path) -> Result<(), String> {
    let probes = Path::new("..").join(PROBES);
    let files = std::fs::read_dir(&probes).map_err(|error| format!("{}: {error}", probes.display()))?;
    // An editor's own files are none of them.
    let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
    let files = names
        .filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "yml"))
        .map(|name| format!("{PROBES}/{name}"));
    // Further to the right it may be a line of a shell's.
    let files = files
        .map(|name| -> (String, Kept) { (name, |line| Some(if line.starts_with('#') { "" } else { line })) });
    std::fs::create_dir_all(out.join(PROBES)).map_err(|error| format!("{}: {error}", out.display()))?;
    for (name, kept) in TEXTS.map(|(name, kept)| (name.to_owned(), kept)).into_iter().chain(files) {
        let from = Path::new("..").join(&name);
        let text = std::fs::read_to_string(&from).map_err(|error| format!("{}: {error}", from.display()))?;
        let lines: Vec<_> = text.lines().filter_map(kept).collect();
        let path = out.join(name);
        std::fs::write(&path, lines.join("\n")).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// For the agent's own machine, with the C library in it, so that it runs in whatever mounts it finds itself.
fn stub(out: &Path) -> Result<(), String> {
    let mut target = env::var("TARGET").map_err(|error| format!("TARGET: {error}"))?;
    let rustc = env::var_os("RUSTC").unwrap_or("rustc".into());
    // Where `cargo xtask dist` makes a standard library for musl there is none yet for this one, and glibc's does as well:
    // the program has its C library in it in any case.
    if !sysroot(Command::new(&rustc)).is_some_and(|root| root.join("lib/rustlib").join(&target).is_dir()) {
        target = target.replace("musl", "gnu");
    }
    // It has no standard library, which would ask for these; rustc has switched to shared ones before them, which only
    // `-static-pie` overrides. With glibc's libc.a lld makes a program that calls a weak function which is not there, at its
    // start.
    // In one piece, without up to a page of nothing before each kind of its bytes: the agent carries them all.
    let libraries = if target.contains("musl") {
        "-Wl,-z,noseparate-code -lc"
    } else {
        "-fuse-ld=bfd -Wl,-z,noseparate-code -Wl,-Bstatic -lc -lgcc_eh -lgcc -lc"
    };
    let flags = ["-Ctarget-feature=+crt-static", &format!("-Clink-args={libraries}")];
    let target_dir = carried(out).join("stub");
    let mut cargo = clean(env::var_os("CARGO").unwrap_or("cargo".into()));
    // What the outer cargo was told to link this machine's programs with, if that is another machine than the one that builds.
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        cargo.env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_")), linker);
    }
    cargo
        .args(["build", "--locked", "--release", "--package", "agent-stub", "--bin", STUB])
        .args(["--no-default-features", "--features", "program"])
        .args(["--target", &target, "--target-dir"])
        .arg(&target_dir)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .env("RUSTC", rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
    finish(cargo, "agent-stub", &target_dir.join(target).join("release"), &[STUB], out)
}

fn ebpf(out: &Path) -> Result<(), String> {
    if env::var_os(SKIP).is_some_and(|value| value == "1") {
        return OBJECTS
            .iter()
            .map(|name| out.join(name))
            .try_for_each(|object| std::fs::write(&object, []).map_err(|error| failed(&object, &error)));
    }
    let path = search_path();
    if !env::split_paths(&path).any(|dir| dir.join("bpf-linker").is_file()) {
        return Err(format!("bpf-linker is missing: run `cargo xtask setup`, or set {SKIP}=1 to check only"));
    }
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let target_dir = carried(out).join(format!("ebpf-{arch}"));
    let mut cargo = match toolchain(&path)? {
        Toolchain::Distribution(rustc) => {
            let mut cargo = clean(env::var_os("CARGO").unwrap_or("cargo".into()));
            // aya-ebpf uses an unstable feature of the compiler; this admits it on a stable one.
            cargo.arg("build").env("RUSTC_BOOTSTRAP", "1").env("RUSTC", rustc);
            cargo
        }
        Toolchain::Nightly => {
            let mut cargo = clean("rustup".into());
            cargo.args(["run", "nightly", "cargo", "build", "-Z", "build-std=core"]);
            cargo
        }
    };
    let flags = ["-Cdebuginfo=2", "-Clink-arg=--btf", "--cfg", &format!("bpf_target_arch=\"{arch}\"")];
    cargo
        .args(["--locked", "--release", "--package", "agent-ebpf", "--features", "program"])
        .args(["--bins", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        // The root of the workspace, whose Cargo.lock this build shares.
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .env("PATH", &path)
        .env("LD_LIBRARY_PATH", library_path())
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // The workspace's release profile is for the agent; `strip` would take the BTF away.
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
    finish(cargo, "agent-ebpf", &target_dir.join(TARGET).join("release"), &OBJECTS, out)?;
    OBJECTS.iter().map(|name| out.join(name)).try_for_each(|path| without_dwarf(&path))
}

/// Where both are built: in the outer cargo's target folder, which it marks so (bford.info/cachedir), and not in `out`, of which there
/// is one for each profile, for clippy, for docs and for other features.
fn carried(out: &Path) -> PathBuf {
    out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).unwrap_or(out).join("carried")
}

/// The loader needs the BTF alone, which the linker has made of the DWARF: nine tenths of the object are left out.
fn without_dwarf(path: &Path) -> Result<(), String> {
    let read = std::fs::read(path).map_err(|error| failed(path, &error))?;
    let strip = || -> object::build::Result<Vec<u8>> {
        let mut object = object::build::elf::Builder::read(&*read)?;
        for section in &mut object.sections {
            section.delete =
                [".debug_", ".rel.debug_"].iter().any(|of| section.name.starts_with(of.as_bytes()));
        }
        // What the linker has made names sections and symbols from one table, which cannot be written so.
        let names = object.sections.add();
        (names.name, names.sh_type) = (".shstrtab".into(), object::elf::SHT_STRTAB);
        names.data = object::build::elf::SectionData::SectionString;
        object.delete_orphans();
        let mut stripped = Vec::new();
        object.write(&mut stripped)?;
        Ok(stripped)
    };
    let stripped = strip().map_err(|error| format!("{}: {error}", path.display()))?;
    std::fs::write(path, stripped).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Runs the build, and copies what it has made in `folder`.
fn finish(
    mut cargo: Command,
    package: &str,
    folder: &Path,
    names: &[&str],
    out: &Path,
) -> Result<(), String> {
    let output = cargo.output().map_err(|error| format!("the build of {package} cannot start: {error}"))?;
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        return Err(format!("{package} does not build; its compiler's messages are above"));
    }
    names.iter().try_for_each(|name| {
        let built = folder.join(name);
        std::fs::copy(&built, out.join(name)).map(drop).map_err(|error| failed(&built, &error))
    })
}

fn toolchain(path: &OsString) -> Result<Toolchain, String> {
    let distribution = Path::new("/usr/bin/rustc");
    if sysroot(Command::new(distribution)).is_some_and(|root| root.join("lib/rustlib").join(TARGET).is_dir())
    {
        return Ok(Toolchain::Distribution(distribution.into()));
    }
    let mut nightly = Command::new("rustup");
    nightly.args(["run", "nightly", "rustc"]).env("PATH", path).env_remove("RUSTUP_TOOLCHAIN");
    if sysroot(nightly).is_some_and(|root| root.join("lib/rustlib/src/rust/library/core").is_dir()) {
        return Ok(Toolchain::Nightly);
    }
    Err(format!(
        "a compiler with `core` for {TARGET} is missing: run `cargo xtask setup` (or `rustup toolchain install \
         nightly --component rust-src`), or set {SKIP}=1 to check only"
    ))
}

fn sysroot(mut rustc: Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).output().ok().filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

/// PATH with cargo's own bin directory, where `cargo install` puts bpf-linker.
fn search_path() -> OsString {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    joined(env::split_paths(&env::var_os("PATH").unwrap_or_default()).chain(home.map(|dir| dir.join("bin"))))
}

/// bpf-linker brings no LLVM: it loads the one that the workspace's own rustc is made with.
fn library_path() -> OsString {
    let own = env::var_os("RUSTC").and_then(|rustc| sysroot(Command::new(rustc)));
    let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    joined(own.map(|root| root.join("lib")).into_iter().chain(env::split_paths(&before)))
}

fn joined(dirs: impl Iterator<Item = PathBuf>) -> OsString {
    env::join_paths(dirs.filter(|dir| !dir.as_os_str().is_empty())).unwrap_or_default()
}

/// A command without what the outer cargo says of its own build, which to an inner cargo would be orders. How to
/// reach the registry stays.
fn clean(program: OsString) -> Command {
    let stays = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let ours = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS"].iter().any(|prefix| text.starts_with(prefix));
        if ours && !stays.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}
