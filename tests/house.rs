//! The house's rules, read off the sources: who may import whom, where `unsafe` may stand, how long a file may be, and
//! that every crate takes part in the workspace's lints.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use std::fs;
use std::path::{Path, PathBuf};

/// A file is split before it is longer than this.
const MAX_LINES: usize = 400;

/// Room → the rooms it may import, besides itself. One direction: nothing here leads back.
const MAY_IMPORT: [(&str, &[&str]); 15] = [
    ("model", &[]),
    ("config", &["model"]),
    ("detect", &["model", "config", "enter"]),
    ("containers", &["model", "config", "detect", "enter"]),
    ("triggers", &["model", "config", "containers"]),
    ("probes", &["model", "config", "enter", "parse", "captures"]),
    ("enter", &["model", "config"]),
    ("parse", &["model", "config"]),
    ("metrics", &["model", "config"]),
    ("captures", &["model", "config"]),
    ("peers", &["model", "config"]),
    ("upload", &["model", "config"]),
    ("http", &["model", "config", "containers", "triggers", "probes", "metrics", "captures"]),
    ("exec", &["model", "enter"]),
    ("privileges", &[]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["agent", "agent-ebpf", "agent-stub", "bench", "fuzz", "testbed", "xtask", "tests"] {
        sources(&root().join(folder), &mut found);
    }
    assert!(found.len() > 40, "the sources were not found: {found:?}");
    // Generated from a .proto, and checked to be up to date by `cargo xtask codegen --check`.
    found.retain(|path| {
        !path.to_string_lossy().contains("generated") && !path.to_string_lossy().contains("/target/")
    });
    found
}

/// A line without its comment and without what stands in quotes.
fn code(line: &str) -> String {
    let line = line.split("//").next().unwrap_or_default();
    line.split('"').step_by(2).collect()
}

/// The first part of what `crate::…` paths in this line lead to.
fn imports(line: &str) -> Vec<String> {
    code(line)
        .split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

#[test]
fn a_room_imports_only_what_its_place_allows() {
    let src = root().join("agent/src");
    let mut wrong = Vec::new();
    for path in all_sources().iter().filter(|path| path.starts_with(&src)) {
        let room =
            path.strip_prefix(&src).unwrap().iter().next().unwrap().to_string_lossy().replace(".rs", "");
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else {
            // cli and app wire everything; main and lib hold nothing.
            assert!(
                ["cli", "app", "main", "lib"].contains(&room.as_str()),
                "{room} has no place in the house"
            );
            continue;
        };
        for (number, line) in fs::read_to_string(path).unwrap().lines().enumerate() {
            for import in imports(line) {
                let is_room =
                    MAY_IMPORT.iter().any(|(name, _)| *name == import) || import == "app" || import == "cli";
                if is_room && import != room && !allowed.contains(&import.as_str()) {
                    wrong.push(format!("{}:{}: {room} imports {import}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_in_one_room() {
    // The second is the first one's part that is a program of its own.
    let allowed = ["agent/src/enter", "agent-stub/src"].map(|room| root().join(room));
    // The attacker makes the calls that must fail, and is no part of the agent.
    let attacker = root().join("testbed/attacker/sys.rs");
    let wrong: Vec<_> = all_sources()
        .into_iter()
        // The eBPF programs are kernel code: its verifier checks them.
        .filter(|path| {
            let in_kernel = ["main.rs", "devices.rs"].map(|name| root().join("agent-ebpf/src").join(name));
            !allowed.iter().any(|room| path.starts_with(room))
                && *path != attacker
                && !in_kernel.contains(path)
        })
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            text.lines().any(|line| {
                code(line).split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe")
            })
        })
        .collect();
    assert!(wrong.is_empty(), "unsafe outside agent/src/enter and agent-stub: {wrong:?}");
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for path in all_sources() {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines: split it", path.display());
        assert!(text.starts_with("//!"), "{} does not begin with what it is for", path.display());
    }
}

#[test]
fn every_crate_takes_part_in_the_lints() {
    for member in ["agent", "agent-ebpf", "agent-stub", "bench", "testbed", "xtask"] {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{member} does not inherit the workspace's lints"
        );
    }
}
