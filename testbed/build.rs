//! Compiles the workload as a static program: its image holds no libc, no loader and no shell.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=workload/main.rs");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let program = Path::new(&variable("OUT_DIR")).join("workload");
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
        .arg("-o")
        .arg(&program)
        .arg("workload/main.rs")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => println!("cargo::error=compiling workload/main.rs as a static program: {status}"),
        Err(error) => println!("cargo::error=starting rustc for workload/main.rs: {error}"),
    }
}
