//! Compiles what runs in the pods as static programs: their image holds no libc, no loader and no shell.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    for name in ["workload", "attacker"] {
        compile(name);
    }
}

fn compile(name: &str) {
    let source = format!("{name}/main.rs");
    println!("cargo::rerun-if-changed={name}");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let program = Path::new(&variable("OUT_DIR")).join(name);
    // rustc itself, not cargo: a nested cargo would wait for the target folder that the outer one holds.
    let status = Command::new(variable("RUSTC"))
        .args([
            "--edition=2024",
            "-Copt-level=s",
            "-Cpanic=abort",
            "-Cstrip=symbols",
            "-Ctarget-feature=+crt-static",
        ])
        .arg("--target")
        .arg(variable("TARGET"))
        // What cargo was told to link with, where the programs are for another machine than this one.
        .args(env::var("RUSTC_LINKER").map(|linker| format!("-Clinker={linker}")).ok())
        .arg("-o")
        .arg(&program)
        .arg(&source)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => println!("cargo::error=compiling {source} as a static program: {status}"),
        Err(error) => println!("cargo::error=starting rustc for {source}: {error}"),
    }
}
