//! Memory on the host's disk: what makes a command dump, and where the dump would go.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use futures_util::future::join_all;
use testbed::{Agent, Kind};

use super::{ALLOWED, Held, by_hand, tried};
use crate::common::Rig;

const PATTERN: &str = "/proc/sys/kernel/core_pattern";
/// With nine kinds whose root may kill a joined command, and two patterns, more than a hundred in all.
const ROUNDS: usize = 6;

/// Where cores go, until it is dropped.
struct CorePattern(String);

impl CorePattern {
    fn set(pattern: &str) -> Self {
        let before = Self(fs::read_to_string(PATTERN).unwrap());
        fs::write(PATTERN, pattern).unwrap();
        before
    }
}

impl Drop for CorePattern {
    fn drop(&mut self) {
        let _ = fs::write(PATTERN, &self.0);
    }
}

/// 10: A container may send signals to a joined command and raise its limits up to the hard ones; one in the host's pid namespace
/// may do so to an observer. Nothing of a command comes onto the host's disk: no file (`core(5)`: a limit below a page gives
/// none), and no handler is given a core where `core_pattern` is a pipe, which ignores a limit of 0 and, alone, is refused at
/// one of 1 (`fs/coredump.c`).
#[tokio::test(flavor = "multi_thread")]
async fn a10_a_killed_command_leaves_no_core() {
    let rig = Rig::new().await;
    let folder = rig.path("cores");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let handler = rig.path("handler");
    fs::write(&handler, format!("#!/bin/sh\nexec /bin/cat > {}/$1-$2\n", folder.display())).unwrap();
    fs::set_permissions(&handler, fs::Permissions::from_mode(0o755)).unwrap();
    let unseen: Vec<_> = Kind::ALL.into_iter().filter(|kind| *kind != Kind::HostPid).collect();
    let sleep = "command: [sleep, '1.31337'], timeout: 5s";
    let joined = format!("{sleep}, isolation: joined");
    let agent = rig.agent(&by_hand(&[("joined", &joined), ("observer", sleep)], ALLOWED)).await;
    let mut killed = 0;
    for pattern in [format!("{}/%e-%p", folder.display()), format!("|{} %e %p", handler.display())] {
        let _set = CorePattern::set(&pattern);
        assert_eq!(cores(&folder, "sh"), 0);
        dump();
        assert_eq!(cores(&folder, "sh"), 1, "{pattern}: who may dump does");
        // One in the host's pid namespace reaches the commands of all others.
        for kinds in [&unseen[..], &[Kind::HostPid]] {
            let held = Held::all(&rig, kinds, &["/attacker", "hunt", "/out", "abort"]).await;
            let here = join_all(held.iter().map(|one| abort(one, &agent))).await;
            killed += here.iter().sum::<usize>();
            for (one, killed) in held.into_iter().zip(here) {
                // A user namespace's root is nobody to the host, and may not.
                assert_eq!(killed > 0, one.kind != Kind::User, "{}: {killed} killed", one.kind);
                one.remove().await;
            }
        }
        for program in ["sleep", "parachute"] {
            assert_eq!(cores(&folder, program), 0, "{pattern}: {program}");
        }
        for file in fs::read_dir(&folder).unwrap().flatten() {
            fs::remove_file(file.path()).unwrap();
        }
    }
    assert!(killed >= 100, "{killed} were killed");
    println!("{killed} commands were made to dump");
    for attack in ["into a file", "into a pipe"] {
        tried(&format!("a10 a core {attack}"), &Kind::ALL);
    }
    rig.finish(agent);
}

/// How many runs a container has killed.
async fn abort(held: &Held, agent: &Agent) -> usize {
    let probes: &[_] = if held.kind == Kind::HostPid { &["joined", "observer"] } else { &["joined"] };
    let rounds = if held.kind == Kind::User { 1 } else { ROUNDS };
    let mut killed = 0;
    for _ in 0..rounds {
        for probe in probes {
            let answer = held.run(agent, probe).await;
            killed += usize::from(answer["outcome"] != "ok");
        }
    }
    killed
}

/// A process that may dump its memory and does.
fn dump() {
    let shell = Command::new("sh").args(["-c", "ulimit -c unlimited; kill -ABRT $$"]).status().unwrap();
    assert!(!shell.success());
}

fn cores(folder: &Path, program: &str) -> usize {
    let names = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with(program)).count()
}
