//! `cargo xtask codegen`: the Rust code that speaks gRPC, made from the .proto files and committed, so that a build
//! needs neither protoc nor this task, and the dashboards. `--check` only tells whether what is committed is what would be made.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::dashboards;

/// The file that prost names after the package.
const FILE: &str = "runtime.v1.rs";

/// One .proto file, the folder its code goes to, and whether it is answered and not asked.
const TABLE: [(&str, &str, bool); 3] = [
    ("agent/proto/cri.proto", "agent/src/containers/metadata/generated", false),
    ("testbed/proto/cri.proto", "testbed/src/generated", false),
    ("testbed/proto/crio.proto", "testbed/src/generated/crio", true),
];

pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let scratch = tempfile::tempdir().context("making a scratch folder for generated code")?;
    for (proto, folder, answered) in TABLE {
        let proto = root.join(proto);
        let include = proto.parent().context("a .proto file stands in a folder")?;
        let descriptors =
            protox::compile([&proto], [include]).with_context(|| format!("compiling {}", proto.display()))?;
        let builder = if answered {
            tonic_prost_build::configure().build_client(false)
        } else {
            // The tests answer as a runtime would.
            tonic_prost_build::configure().server_mod_attribute(".", "#[cfg(test)]")
        };
        builder
            .out_dir(scratch.path())
            .compile_fds(descriptors)
            .with_context(|| format!("generating code for {}", proto.display()))?;
        let made =
            fs::read_to_string(scratch.path().join(FILE)).with_context(|| format!("reading {FILE}"))?;
        let committed = root.join(folder).join(FILE);
        if !check {
            fs::write(&committed, made).with_context(|| format!("writing {}", committed.display()))?;
        } else if fs::read_to_string(&committed).unwrap_or_default() != made {
            bail!("{folder}/{FILE} is not what its .proto makes: run cargo xtask codegen");
        }
    }
    dashboards::make(check)
}
