//! The private Docker and Podman themselves: every option that the tests of the agent give a container, and nothing left.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use std::fs;
use std::path::Path;

use testbed::{Docker, Engine, Podman, Snapshot};

const OPTIONS: [&[&str]; 6] = [
    &["--network=none"],
    &["--network=bridge"],
    &["--network=host"],
    &["--pid=host"],
    &["--privileged"],
    &["--read-only"],
];

fn runs(engine: &dyn Engine) {
    for (number, options) in OPTIONS.into_iter().enumerate() {
        let name = format!("c{number}");
        let container = engine.run(&name, options, &["/workload", "sleep"]).unwrap();
        assert_eq!(container.id.len(), 64, "{}", container.id);
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", container.pid)).unwrap();
        assert!(cgroups.contains(&container.id), "{options:?}: {cgroups}");
    }
    engine.run("beside", &["--pid=container:c0"], &["/workload", "sleep"]).unwrap();
    engine.remove("beside").unwrap();
    engine.ask(&["pause", "c1"]).unwrap();
}

/// Nothing of one is left, neither when it is asked to go nor when it cannot be asked any more.
#[test]
fn docker_comes_and_goes() {
    if let Some(why) = Docker::why_not() {
        panic!("{why}");
    }
    let lock = testbed::alone().unwrap();
    let before = Snapshot::take();
    for hard in [false, true] {
        let dir = tempfile::Builder::new().prefix("pt-").tempdir().unwrap();
        let mut docker = Docker::start_under(lock.try_clone().unwrap(), &dir.path().join("d"), &[]).unwrap();
        runs(&docker);
        if hard {
            docker.stop_daemon();
        }
        drop(docker);
        assert!(!Path::new(&dir.path().join("d")).exists());
        assert_eq!(before.leftovers(), [""; 0], "hard: {hard}");
    }
}

#[test]
fn podman_comes_and_goes() {
    for runtime in ["runc", "crun"] {
        if let Some(why) = Podman::why_not(runtime) {
            panic!("{why}");
        }
        let lock = testbed::alone().unwrap();
        let before = Snapshot::take();
        let dir = tempfile::Builder::new().prefix("pt-").tempdir().unwrap();
        let mut podman =
            Podman::start_under(lock.try_clone().unwrap(), &dir.path().join("p"), runtime).unwrap();
        podman.serve().unwrap();
        runs(&podman);
        drop(podman);
        assert!(!Path::new(&dir.path().join("p")).exists());
        assert_eq!(before.leftovers(), [""; 0], "{runtime}");
    }
}
