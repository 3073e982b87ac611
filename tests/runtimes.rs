//! What works with a container runtime on this kernel: a row of the README's table for each. `cargo xtask vm` runs them on many
//! kernels and takes the rows from the file that PARACHUTE_CELLS names.

mod cells;
mod known;
mod subjects;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use testbed::{Agent, Rootless, Snapshot};

use self::cells::{Cell, Cells};
use self::subjects::{About, Engines, Subject};
use crate::common::{self, Rig};

/// Each pair is the same command in both isolations.
const CONFIGURATION: &str = r"
probes:
  listeners:
    command: [ss, -tlnH]
    parse: { regex: [{ name: runtimes_listeners, type: gauge, help: Listening TCP sockets., pattern: '^LISTEN' }] }
  listeners-joined:
    command: [ss, -tlnH]
    isolation: joined
    keep: always
    parse: { regex: [{ name: runtimes_joined_listeners, type: gauge, help: Listening TCP sockets., pattern: '^LISTEN' }] }
  processes: { command: [ps, -e, -o, comm=], parse: none }
  processes-joined: { command: [ps, -e, -o, comm=], isolation: joined, parse: none }
  addresses: { command: [ip, -4, -o, address], parse: none }
  addresses-joined: { command: [ip, -4, -o, address], isolation: joined, parse: none }
triggers:
  by-hand: { http: {}, probes: [listeners, listeners-joined, processes, processes-joined, addresses, addresses-joined] }
";

#[tokio::test(flavor = "multi_thread")]
async fn containerd() {
    let rig = Rig::new().await;
    let about = About::containerd(&rig.bed);
    let agent = rig.agent(CONFIGURATION).await;
    let subject = Subject::in_pod(&rig.bed).await;
    let cells = Cells::fill(&agent, &subject, rig.folder()).await;
    rig.finish(agent);
    tell(&about, &cells);
}

#[tokio::test(flavor = "multi_thread")]
async fn docker() {
    of(Engines::Docker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_crun() {
    of(Engines::Podman("crun")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_runc() {
    of(Engines::Podman("runc")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_rootless() {
    if let Some(why) = Rootless::why_not() {
        // Set where it has to be there: in the machines of `cargo xtask vm`.
        assert!(std::env::var_os("TESTBED_ROOTLESS").is_none(), "{why}");
        eprintln!("NOT TESTED here, but in the virtual machines of cargo xtask vm: {why}");
        return;
    }
    of(Engines::Rootless).await;
}

async fn of(which: Engines) {
    let lock = tokio::task::spawn_blocking(testbed::alone).await.unwrap().unwrap();
    let before = Snapshot::take();
    let folder = tempfile::Builder::new().prefix("pt-").tempdir().unwrap();
    let bed = folder.path().join("bed");
    let engine = which.start(lock.try_clone().unwrap(), &bed);
    let about = which.about(engine.as_ref());
    let configuration = folder.path().join("parachute.yml");
    fs::write(&configuration, which.runtimes(&bed) + CONFIGURATION).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_parachute"));
    let mut agent = Agent::start(program, &configuration, |line| println!("agent: {line}")).unwrap();
    agent.ready(common::READY).await.unwrap();
    let subject = Subject::of_engine(which, engine.as_ref());
    let cells = Cells::fill(&agent, &subject, folder.path()).await;
    drop(agent);
    drop(engine);
    drop(folder);
    assert_eq!(before.leftovers(), [""; 0]);
    tell(&about, &cells);
}

/// Hands the row to whoever asked for it, and fails if a cell should be ok and is not.
fn tell(about: &About, cells: &Cells) {
    println!("{about}: {cells:?}");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned();
    let known = |name: &str, cell: &Cell| known::reason(&about.runtime, &kernel, name, cell);
    if let Some(path) = std::env::var_os("PARACHUTE_CELLS") {
        let row = json!({
            "kernel": kernel, "cgroups": cgroups(), "runtime": about.runtime, "version": about.version, "how": about.how,
            "cells": cells.to_json(known),
        });
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "{row}").unwrap();
    }
    let mistakes: Vec<String> = cells
        .all()
        .filter(|(name, cell)| known(name, cell).is_none())
        .filter_map(|(name, cell)| Some(format!("{name}: {}", cell.as_ref().err()?)))
        .collect();
    assert_eq!(mistakes, [""; 0], "{about} on {kernel}");
}

/// Which cgroup hierarchies this machine has.
fn cgroups() -> &'static str {
    let has = |path: &str| Path::new(path).exists();
    match (has("/sys/fs/cgroup/cgroup.controllers"), has("/sys/fs/cgroup/unified/cgroup.controllers")) {
        (true, _) => "v2",
        (false, true) => "hybrid",
        (false, false) => "v1",
    }
}
