//! What `cargo xtask arm64` needs: Debian's compiler and C library for the other machine, the emulators, and Rust's own library
//! for it, from rustup. Installed when it is asked for, and not for the tests.

use std::process::Command;

use anyhow::bail;

use super::{exists, found, install};
use crate::arm64::{LIBRARIES, LINKER, TARGET};
use crate::progress;

/// What is looked for, and the package that has it.
fn packages() -> [(bool, &'static str); 4] {
    [
        (found(LINKER), "gcc-aarch64-linux-gnu"),
        (exists(&format!("{LIBRARIES}/lib/libc.so.6")), "libc6-dev-arm64-cross"),
        (found("qemu-aarch64"), "qemu-user"),
        // For `--vm`.
        (found("qemu-system-aarch64"), "qemu-system-arm"),
    ]
}

pub(super) fn add() -> anyhow::Result<()> {
    let missing: Vec<_> = packages().into_iter().filter(|(met, _)| !met).map(|(_, name)| name).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    if !has_library() {
        progress::openly(
            "Rust's library for arm64",
            Command::new("timeout").args(["120", "rustup", "target", "add", TARGET]),
        )?;
    }
    Ok(())
}

pub(crate) fn check_arm64() -> anyhow::Result<()> {
    let missing = packages().into_iter().filter(|(met, _)| !met).map(|(_, name)| name);
    let missing: Vec<_> = missing.chain((!has_library()).then_some("rustup's target for it")).collect();
    if !missing.is_empty() {
        bail!("missing for arm64: {}; cargo xtask setup --arm64 installs it", missing.join(", "));
    }
    Ok(())
}

fn has_library() -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", TARGET]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = rustc.output().ok().filter(|output| output.status.success());
    output.is_some_and(|output| exists(String::from_utf8_lossy(&output.stdout).trim()))
}
