//! Walks the cgroup trees for containers that already run: at start, and after records were lost.

use std::collections::HashSet;
use std::path::Path;

use super::cgroup;
use super::hierarchy::{Cgroup, Hierarchies, directories};

/// A cgroup tree deeper or larger than this is not walked to its end; a container is a few levels down, and a node
/// has some thousands of cgroups at most.
const MAX_DEPTH: usize = 24;
const MAX_CGROUPS: usize = 65_536;

/// Why the trees are walked; `as_str` is the label value of `parachute_resyncs_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Start,
    Loss,
}

impl Reason {
    pub const ALL: [Self; 2] = [Self::Start, Self::Loss];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Loss => "loss",
        }
    }
}

#[derive(Debug, Default)]
pub struct Scan {
    /// Each container once, in the unified hierarchy where it is in that.
    pub cgroups: Vec<Cgroup>,
    /// A bound was reached, and there may be more.
    pub truncated: bool,
}

/// Blocks for as long as the trees take to read: a few milliseconds for hundreds of cgroups.
pub fn walk(hierarchies: &Hierarchies) -> Scan {
    let mut scan = Scan::default();
    let mut known = HashSet::new();
    for (root, unified) in hierarchies.roots() {
        walk_one(root, |named| {
            if known.insert(named.id.clone()) {
                scan.cgroups.extend(Cgroup::named(root, named, unified));
            }
        })
        .unwrap_or_else(|TooLarge| scan.truncated = true);
    }
    scan
}

struct TooLarge;

fn walk_one(root: &Path, mut found: impl FnMut(cgroup::Named)) -> Result<(), TooLarge> {
    let mut looked_into = 0;
    let mut too_deep = false;
    let mut waiting = vec![(root.to_owned(), 0)];
    while let Some((dir, depth)) = waiting.pop() {
        looked_into += 1;
        if looked_into > MAX_CGROUPS {
            return Err(TooLarge);
        }
        let path = dir.strip_prefix(root).ok().and_then(Path::to_str).unwrap_or_default();
        match cgroup::parse(&format!("/{path}")) {
            // What is below a container is the container's.
            Some(named) => found(named),
            None if depth < MAX_DEPTH => waiting.extend(directories(&dir).map(|below| (below, depth + 1))),
            None => too_deep = true,
        }
    }
    if too_deep { Err(TooLarge) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(root: &Path) -> (Vec<String>, bool) {
        let mut ids = Vec::new();
        let whole = walk_one(root, |named| ids.push(named.id.as_str().to_owned())).is_ok();
        ids.sort();
        (ids, whole)
    }

    #[test]
    fn containers_are_found_at_any_level_and_once_each() {
        let root = tempfile::tempdir().unwrap();
        let (a, b, c) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
        for path in [
            format!("kubepods/burstable/pod{}/{a}/nested/{c}", "1".repeat(32)),
            format!("system.slice/docker-{b}.scope/init.scope"),
            format!("machine.slice/libpod-conmon-{c}.scope"),
            "user.slice/user-0.slice/session-1.scope".to_owned(),
        ] {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        assert_eq!(ids(root.path()), (vec![a, b], true));
    }

    #[test]
    fn a_tree_that_is_too_deep_is_said_to_be() {
        let root = tempfile::tempdir().unwrap();
        let deep = vec!["d"; MAX_DEPTH + 2].join("/");
        std::fs::create_dir_all(root.path().join(deep).join("e".repeat(64))).unwrap();
        assert_eq!(ids(root.path()), (vec![], false));
    }
}
