//! Walks the cgroup trees for containers that already run: at start, and after records were lost.

use std::collections::HashMap;
use std::path::Path;

use super::cgroup;
use super::hierarchy::{Cgroup, Hierarchies, directories};
use crate::config::Targets;

/// A cgroup tree deeper or larger than this is not walked to its end; a container is a few levels down, and a node
/// has some thousands of cgroups at most.
const MAX_DEPTH: usize = 24;
const MAX_CGROUPS: usize = 65_536;

/// Why the trees are walked; `as_str` is the label value of `parachute_resyncs_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Start,
    Loss,
    /// The configuration names other targets than before.
    Reload,
    /// While there was no launcher, or none that answered, containers could not be looked at.
    Launcher,
}

impl Reason {
    pub const ALL: [Self; 4] = [Self::Start, Self::Loss, Self::Reload, Self::Launcher];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Loss => "loss",
            Self::Reload => "reload",
            Self::Launcher => "launcher",
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
pub fn walk(hierarchies: &Hierarchies, targets: &Targets) -> Scan {
    let mut scan = Scan::default();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (root, unified) in hierarchies.roots() {
        walk_one(root, targets, |named| {
            // An id says more than a path, which is another one in each of the hierarchies.
            let key = match &named.name {
                cgroup::Name::Id(id) => id.as_str().to_owned(),
                cgroup::Name::Own(_) => named.path.clone(),
            };
            let place = places.get(&key).copied().unwrap_or(scan.cgroups.len());
            match scan.cgroups.get_mut(place) {
                // An id that is a user's word is nothing against one where users make no cgroups.
                Some(known) if known.named.is_users() && !named.is_users() => {
                    if let Some(found) = hierarchies.found(root, named, unified) {
                        *known = found;
                    }
                }
                Some(_) => {}
                None => {
                    scan.cgroups.extend(hierarchies.found(root, named, unified));
                    places.insert(key, place);
                }
            }
        })
        .unwrap_or_else(|TooLarge| scan.truncated = true);
    }
    scan
}

struct TooLarge;

fn walk_one(root: &Path, targets: &Targets, mut found: impl FnMut(cgroup::Named)) -> Result<(), TooLarge> {
    let mut looked_into = 0;
    let mut too_deep = false;
    let mut waiting = vec![(root.to_owned(), 0)];
    while let Some((dir, depth)) = waiting.pop() {
        looked_into += 1;
        if looked_into > MAX_CGROUPS {
            return Err(TooLarge);
        }
        // A path that is no text names nothing, and neither does what is below it.
        let Some(path) = dir.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
        let path = format!("/{path}");
        if let Some(named) = cgroup::parse(&path, targets) {
            // What is below a container is the container's.
            let whole = named.runtime.is_container();
            // Below another target it is met with again and again.
            if named.path == path {
                found(named);
            }
            if whole {
                continue;
            }
        }
        if depth < MAX_DEPTH {
            waiting.extend(directories(&dir).map(|below| (below, depth + 1)));
        } else {
            too_deep = true;
        }
    }
    if too_deep { Err(TooLarge) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> Targets {
        let text = "targets: { services: ['app@*.service'], lxc: ['*'] }\n\
                    probes: { p: { command: [/bin/true], parse: none } }\n";
        Targets::clone(&crate::config::from_str(text, Path::new("p.yml")).unwrap().targets)
    }

    fn ids(root: &Path) -> (Vec<String>, bool) {
        let mut ids = Vec::new();
        let whole = walk_one(root, &targets(), |named| {
            ids.push(match named.name {
                cgroup::Name::Id(id) => id.as_str().to_owned(),
                cgroup::Name::Own(name) => name,
            });
        })
        .is_ok();
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
            format!("system.slice/system-app.slice/app@1.service/sub/{}", "d".repeat(64)),
            format!("lxc.payload.web/system.slice/app@1.service/{}", "e".repeat(64)),
        ] {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let d = "d".repeat(64);
        assert_eq!(ids(root.path()), (vec![a, "app@1.service".into(), b, d, "web".into()], true));
    }

    #[test]
    fn an_id_that_a_user_has_taken_is_found_where_it_is_true() {
        let root = tempfile::tempdir().unwrap();
        let (id, own) = ("a".repeat(64), "b".repeat(64));
        let users = "user.slice/user-1000.slice/user@1000.service";
        // The first hierarchy is walked first, and there the user's.
        for path in
            [format!("first/{users}/{id}"), format!("first/{users}/{own}"), format!("other/docker/{id}")]
        {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let path = root.path().display();
        let table = format!(
            "1 2 0:1 / {path}/first rw - cgroup2 x rw\n1 2 0:2 / {path}/other rw - cgroup x rw,pids\n"
        );
        let hierarchies = Hierarchies::of(&table).unwrap();
        let mut found: Vec<_> =
            walk(&hierarchies, &targets()).cgroups.into_iter().map(|cgroup| cgroup.named.path).collect();
        found.sort();
        assert_eq!(found, [format!("/docker/{id}"), format!("/{users}/{own}")]);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_said_to_be() {
        let root = tempfile::tempdir().unwrap();
        let deep = vec!["d"; MAX_DEPTH + 2].join("/");
        std::fs::create_dir_all(root.path().join(deep).join("e".repeat(64))).unwrap();
        assert_eq!(ids(root.path()), (vec![], false));
    }
}
