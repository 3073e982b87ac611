//! `cargo xtask dist`: dist/parachute, the program as it is shipped. It is static, with musl in it, and stripped: one file
//! that runs on any Linux of this architecture.
//!
//! Where rustup has a standard library for musl, that is taken. Elsewhere Debian's compiler makes one from Debian's sources
//! of it (packages rustc-web, rust-web-src and musl-tools; `cargo xtask setup` installs them), so that nothing but package
//! registries is needed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, bail};

use crate::{progress, setup};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const TARGET: &str = "x86_64-unknown-linux-musl";
/// Where Debian's musl-dev has its startup files and libc.a.
const MUSL: &str = "/usr/lib/x86_64-linux-musl";
/// What gcc's unwinder takes if it is there, and calls without asking: a static program has only what is asked for.
const UNWINDERS: [&str; 6] = [
    "pthread_once",
    "pthread_key_create",
    "pthread_getspecific",
    "pthread_setspecific",
    "pthread_mutex_lock",
    "pthread_mutex_unlock",
];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Captures are compressed at level 3 alone, which finds matches by `dfast` whatever the size of the input (`ZSTD_defaultCParameters`
/// in clevels.h): the better ways, which cost more time, are left out of zstd.
const ZSTD: &str = "-DZSTD_EXCLUDE_GREEDY_BLOCK_COMPRESSOR -DZSTD_EXCLUDE_LAZY_BLOCK_COMPRESSOR \
    -DZSTD_EXCLUDE_LAZY2_BLOCK_COMPRESSOR -DZSTD_EXCLUDE_BTLAZY2_BLOCK_COMPRESSOR -DZSTD_EXCLUDE_BTOPT_BLOCK_COMPRESSOR \
    -DZSTD_EXCLUDE_BTULTRA_BLOCK_COMPRESSOR";

pub(crate) fn run() -> anyhow::Result<()> {
    if cfg!(not(target_arch = "x86_64")) {
        bail!("the program is shipped for x86_64 alone");
    }
    if !setup::found("musl-gcc") {
        bail!(
            "musl-gcc, for the C in the program, is missing: run `cargo xtask setup`, or install musl-tools"
        );
    }
    let mut cargo = progress::cargo();
    cargo.args(["rustc", "--locked", "--profile", "dist", "--package", "parachute", "--bin", "parachute"]);
    cargo.args(["--target", TARGET]).env(format!("CFLAGS_{}", TARGET.replace('-', "_")), ZSTD);
    let link = if rustup_has_musl() { by_rustup() } else { by_debian(&mut cargo)? };
    cargo.args(["--", "-Cstrip=symbols"]).args(link);
    progress::openly("building the agent as it is shipped", &mut cargo)?;
    let built = Path::new(ROOT).join("target").join(TARGET).join("dist/parachute");
    let folder = Path::new(ROOT).join("dist");
    fs::create_dir_all(&folder)?;
    // Renamed into its place: the one that is there may be running.
    let fresh = folder.join(".parachute");
    fs::copy(&built, &fresh).with_context(|| built.display().to_string())?;
    fs::rename(&fresh, folder.join("parachute"))?;
    let size = fs::metadata(folder.join("parachute"))?.len();
    eprintln!("dist/parachute: {:.1} MB", size as f64 / 1e6);
    Ok(())
}

/// Whether there is a standard library for musl, or what one can be made of.
pub(crate) fn musl_std() -> bool {
    rustup_has_musl() || debian_sources().is_some()
}

/// Asks rustup for it. Where its server is out of reach this takes two minutes at most.
pub(crate) fn add_target() -> bool {
    eprintln!("asking rustup for {TARGET} ...");
    let added = Command::new("timeout").args(["120", "rustup", "target", "add", TARGET]).status();
    added.is_ok_and(|status| status.success()) && rustup_has_musl()
}

fn rustup_has_musl() -> bool {
    rustup_lib().is_some_and(|lib| lib.join("rustlib").join(TARGET).is_dir())
}

/// Where the toolchain that builds the project has its libraries.
fn rustup_lib() -> Option<PathBuf> {
    Some(Path::new(&printed("rustc", &["--print", "sysroot"])?).join("lib"))
}

/// The linker that comes with rustup's compiler, for what Debian 12's musl and linker do not do.
fn by_rustup() -> Vec<String> {
    let host =
        rustup_lib().map(|lib| lib.join("rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld")).unwrap_or_default();
    vec![
        "-Clink-arg=-fuse-ld=lld".into(),
        format!("-Clink-arg=-B{}", host.display()),
        // Functions of the same machine code become one. No Rust may rely on two of them having two addresses.
        "-Clink-arg=-Wl,--icf=all".into(),
        // The relocations of a position-independent program in a tenth of the bytes (DT_RELR), from musl 1.2.4 on.
        "-Clink-arg=-Wl,-z,pack-relative-relocs".into(),
    ]
}

/// The library's sources, of the version of Debian's compiler.
fn debian_sources() -> Option<PathBuf> {
    let root = printed(DEBIAN_RUSTC, &["--print", "sysroot"])?;
    let sources = Path::new(&root).join("lib/rustlib/src/rust/library");
    sources.join("std").is_dir().then_some(sources)
}

/// Debian's compiler has no startup files for musl and no unwinder beside it: those of musl-dev and gcc are named here, in
/// the order in which gcc links a position-independent static program (`gcc -static-pie -v`).
fn by_debian(cargo: &mut Command) -> anyhow::Result<Vec<String>> {
    if debian_sources().is_none() {
        bail!(
            "a standard library for musl is missing: run `rustup target add {TARGET}` or, on Debian, `cargo xtask setup`"
        );
    }
    let gcc = |file: &str| {
        let path = printed("cc", &[&format!("-print-file-name={file}")]).unwrap_or_default();
        if Path::new(&path).is_absolute() { Ok(path) } else { bail!("gcc's {file} is missing: install gcc") }
    };
    let folder = Path::new(ROOT).join("target/musl");
    fs::create_dir_all(&folder)?;
    // gcc's, under the name that LLVM's has, which the library asks for.
    let unwinder = folder.join("libunwind.a");
    fs::copy(gcc("libgcc_eh.a")?, &unwinder).with_context(|| unwinder.display().to_string())?;
    let (source, object) =
        (Path::new(ROOT).join("xtask/src/dist/find_object.c"), folder.join("find_object.o"));
    let mut compiler = Command::new("musl-gcc");
    progress::quietly(
        "compiling find_object.c",
        compiler.args(["-O2", "-fPIC", "-Wall", "-Werror", "-c", "-o"]).arg(&object).arg(&source),
    )?;
    progress::quietly("adding it to libunwind.a", Command::new("ar").arg("r").arg(&unwinder).arg(&object))?;

    let mut link = vec!["-Clink-self-contained=no".to_owned(), "-Zpre-link-arg=-nostartfiles".to_owned()];
    for start in [format!("{MUSL}/rcrt1.o"), format!("{MUSL}/crti.o"), gcc("crtbeginS.o")?] {
        link.push(format!("-Zpre-link-arg={start}"));
    }
    link.extend(UNWINDERS.map(|name| format!("-Clink-arg=-Wl,-u,{name}")));
    for end in [gcc("crtendS.o")?, format!("{MUSL}/crtn.o")] {
        link.push(format!("-Clink-arg={end}"));
    }
    link.push(format!("-Lnative={}", folder.display()));
    link.push(format!("-Lnative={MUSL}"));
    // bpf-linker, which the build starts, loads the LLVM that is inside rustup's rustc.
    let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let libraries: OsString = env::join_paths(
        rustup_lib().into_iter().chain(env::split_paths(&before).filter(|dir| dir.is_absolute())),
    )?;
    cargo
        .args(["-Z", "build-std=std,panic_unwind"])
        .env("RUSTC", DEBIAN_RUSTC)
        // The standard library is made with unstable features.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("LD_LIBRARY_PATH", libraries);
    Ok(link)
}

fn printed(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).current_dir(ROOT).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
