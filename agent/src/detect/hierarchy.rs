//! The mounted cgroup hierarchies: where they are, what a cgroup's id leads to, which processes are in one. Nothing
//! is assumed of where they are mounted: v2 alone, v1 alone or both (hybrid).

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::DetectError;
use super::cgroup::{self, Name, Named};
use crate::config::Targets;
use crate::enter::{handle, mountinfo};
use crate::model::{ContainerId, Runtime};

/// Directories looked into below one cgroup, and processes taken from them. A container can make both as it likes.
const MAX_BELOW: usize = 256;
const MAX_PROCS: usize = 4096;

/// A container's cgroup, found on this machine.
#[derive(Clone, Debug)]
pub struct Cgroup {
    pub named: Named,
    /// The runtime's; of another target, see [`Hierarchies::own_id`].
    pub container: ContainerId,
    /// Its directory.
    pub dir: PathBuf,
    /// Its id in the hierarchy that detection goes by, which is the inode number of `dir`; 0 in another hierarchy.
    pub id: u64,
}

/// Detection goes by the ids of one hierarchy: the unified one or, where that is not mounted, a v1 controller's.
#[derive(Debug)]
pub struct Hierarchies {
    /// The mount point of that one, held open to find cgroups by their id.
    root: PathBuf,
    file: File,
    /// Its controller, if it is of v1.
    controller: Option<&'static str>,
    /// Mount points of the others.
    others: Vec<PathBuf>,
    /// Of this start of the machine: numbers of cgroups and processes begin anew at each.
    boot: String,
}

/// Where systemd tells the id of a unit's present start (`unit_export_invocation_id` in its src/core/unit.c), for the
/// journal and for whoever does not ask it over D-Bus.
const INVOCATIONS: &str = "/run/systemd/units/invocation:";

/// v1 controllers to go by, the likeliest to have a cgroup for each container first. Each is also the name that the
/// kernel's `enum cgroup_subsys_id` has for it.
const CONTROLLERS: [&str; 5] = ["pids", "memory", "cpu", "devices", "freezer"];

impl Hierarchies {
    pub fn find() -> Result<Self, DetectError> {
        Self::of(&fs::read_to_string("/proc/self/mountinfo").map_err(DetectError::Mountinfo)?)
    }

    pub(super) fn of(table: &str) -> Result<Self, DetectError> {
        let mut mounts = mount_points(table);
        let has =
            |mount: &Mount, controller: &str| mount.options.split(',').any(|option| option == controller);
        let legacy = || {
            CONTROLLERS.iter().find_map(|controller| {
                Some((mounts.iter().position(|mount| has(mount, controller))?, Some(*controller)))
            })
        };
        let unified = mounts.iter().position(|mount| mount.unified).map(|index| (index, None));
        let (index, controller) = unified.or_else(legacy).ok_or(DetectError::NoHierarchy)?;
        let root = mounts.swap_remove(index).point;
        let file =
            File::open(&root).map_err(|source| DetectError::Hierarchy { path: root.clone(), source })?;
        let others = mounts.into_iter().map(|mount| mount.point).collect();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self { root, file, controller, others, boot })
    }

    /// An id of 64 hex digits for what has none of its own: the digest of these, and of the machine's start.
    pub fn own_id(&self, parts: &[&str]) -> ContainerId {
        let mut digest = Sha256::new_with_prefix(&self.boot);
        for part in parts {
            digest.update([0]);
            digest.update(part);
        }
        ContainerId::new(
            &digest.finalize().iter().fold(String::new(), |all, byte| format!("{all}{byte:02x}")),
        )
    }

    /// The v1 controller that detection goes by; `None` for the unified hierarchy.
    pub(super) fn controller(&self) -> Option<&'static str> {
        self.controller
    }

    /// The mount point of the one that detection goes by, open.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Every hierarchy's mount point, the one that detection goes by first, and whether it is that one.
    pub fn roots(&self) -> impl Iterator<Item = (&Path, bool)> {
        let others = self.others.iter().map(|path| (path.as_path(), false));
        std::iter::once((self.root.as_path(), true)).chain(others)
    }

    /// The container or target that the cgroup with this id belongs to: `None` when it belongs to none, or has gone.
    pub fn resolve(&self, id: u64, targets: &Targets) -> Option<Cgroup> {
        let fd = handle::open_cgroup(self.file.as_fd(), id)
            .inspect_err(|error| tracing::debug!(cgroup_id = id, %error, "cgroup cannot be opened by its id"))
            .ok()?;
        let dir = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
        let path = format!("/{}", dir.strip_prefix(&self.root).ok()?.to_str()?);
        self.found(&self.root, cgroup::parse(&path, targets)?, true)
    }

    /// `None` when its directory has gone.
    pub(super) fn found(&self, root: &Path, named: Named, has_id: bool) -> Option<Cgroup> {
        let dir = root.join(named.path.trim_start_matches('/'));
        // The ids of runtimes' containers are known without a look.
        let inode = || fs::metadata(&dir).ok().map(|about| about.ino());
        let (container, id) = match &named.name {
            Name::Id(id) => (id.clone(), if has_id { inode()? } else { 0 }),
            Name::Own(_) => {
                let inode = inode()?;
                (self.id_of(&named, inode), if has_id { inode } else { 0 })
            }
        };
        Some(Cgroup { named, container, dir, id })
    }

    /// The same once more, as it is now: a service that was started anew has another id.
    pub fn again(&self, cgroup: &Cgroup) -> Option<Cgroup> {
        let root = self.roots().find(|(root, _)| cgroup.dir.starts_with(root))?;
        self.found(root.0, cgroup.named.clone(), root.1)
    }

    /// A life lasts as long as the cgroup, and for a service no longer than one start of it: while it waits to be started
    /// again systemd may keep the cgroup.
    fn id_of(&self, named: &Named, inode: u64) -> ContainerId {
        let unit = named.path.rsplit('/').next().unwrap_or_default();
        let invocation = match named.runtime {
            Runtime::Systemd => fs::read_link(format!("{INVOCATIONS}{unit}")).unwrap_or_default(),
            _ => PathBuf::new(),
        };
        let invocation = invocation.to_string_lossy();
        self.own_id(&[named.runtime.as_str(), &named.path, &inode.to_string(), &invocation])
    }
}

impl Cgroup {
    /// Host pids of the processes in it and in the cgroups below it. Bounded; the kernel lists a cgroup's processes as they
    /// came into it, and its own systemd's cgroup comes before others, so the init is among those taken.
    pub fn procs(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        self.walk(|dir| {
            // A cgroup that goes while it is read, or is threaded, has no processes to list.
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            pids.len() < MAX_PROCS
        });
        pids.truncate(MAX_PROCS);
        pids
    }

    /// Ids of it and of the cgroups below it, in the hierarchy that detection goes by.
    pub fn ids(&self) -> Vec<u64> {
        let mut ids = Vec::new();
        if self.id != 0 {
            self.walk(|dir| {
                ids.extend(fs::metadata(dir).map(|about| about.ino()));
                true
            });
        }
        ids
    }

    /// It and the cgroups below it that are part of it, the nearest first, until `look` has seen enough.
    fn walk(&self, mut look: impl FnMut(&Path) -> bool) {
        let mut below = VecDeque::from([self.dir.clone()]);
        let mut looked_into = 0;
        while let Some(dir) = below.pop_front() {
            looked_into += 1;
            if !look(&dir) || looked_into >= MAX_BELOW {
                break;
            }
            for dir in directories(&dir).filter(|dir| self.has(dir)) {
                // Here a systemd keeps itself.
                if dir.ends_with("init.scope") {
                    below.push_front(dir);
                } else if below.len() < MAX_BELOW {
                    below.push_back(dir);
                }
            }
        }
    }

    /// Whether a cgroup below it is a part of it; see `cgroup`.
    fn has(&self, dir: &Path) -> bool {
        let below = dir.strip_prefix(&self.dir).ok().and_then(Path::to_str);
        let path = format!("{}/{}", self.named.path, below.unwrap_or_default());
        self.named.runtime.is_container() || cgroup::container(&path).is_none()
    }

    /// Whether the process is in this cgroup or below it now.
    pub fn holds(&self, pid: u32) -> bool {
        // It says no length, and with room for it it is read at once.
        let mut text = String::with_capacity(4096);
        let read =
            File::open(format!("/proc/{pid}/cgroup")).and_then(|mut file| file.read_to_string(&mut text));
        if read.is_err() {
            return false;
        }
        // hierarchy-ID:controllers:path, cgroups(7).
        text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| {
            let below = path.strip_prefix(self.named.path.as_str());
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                && (self.named.runtime.is_container() || cgroup::container(path).is_none())
        })
    }
}

/// The directories in a directory; none where it cannot be read.
pub(super) fn directories(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    unified: bool,
    /// Of the hierarchy: for v1 its controllers are among them.
    options: String,
}

/// Every cgroup hierarchy once, from the text of /proc/PID/mountinfo.
fn mount_points(table: &str) -> Vec<Mount> {
    let mut devices = HashSet::new();
    mountinfo::mounts(table)
        .filter(|mount| matches!(mount.kind, "cgroup" | "cgroup2") && devices.insert(mount.device))
        .map(|mount| Mount {
            point: mount.point,
            unified: mount.kind == "cgroup2",
            options: mount.options.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime shared:9 - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
99 31 0:38 / /mnt/again rw,relatime - cgroup2 cgroup2 rw
";
    const PURE: &str =
        "24 23 0:22 / /sys/fs/cgroup rw,nosuid shared:4 master:2 - cgroup2 cgroup2 rw,nsdelegate\n";
    const LEGACY: &str = "36 31 0:33 / /cg\\040roups/pids rw - cgroup cgroup rw,pids\n";

    #[test]
    fn hierarchies_are_found_where_they_are_mounted() {
        let mount = |point: &str, unified, options: &str| Mount {
            point: PathBuf::from(point),
            unified,
            options: options.to_owned(),
        };
        let cases = [
            (
                HYBRID,
                vec![
                    mount("/sys/fs/cgroup/devices", false, "rw,devices"),
                    mount("/sys/fs/cgroup/systemd", false, "rw,name=systemd"),
                    mount("/sys/fs/cgroup/unified", true, "rw"),
                ],
            ),
            (PURE, vec![mount("/sys/fs/cgroup", true, "rw,nsdelegate")]),
            (LEGACY, vec![mount("/cg roups/pids", false, "rw,pids")]),
            ("", vec![]),
            ("no dash here\n1 2 - cgroup2\n", vec![]),
        ];
        for (text, expected) in cases {
            assert_eq!(mount_points(text), expected, "{text}");
        }
    }

    #[test]
    fn detection_goes_by_the_unified_hierarchy_or_else_by_a_controllers() {
        let line = |point: &str, kind: &str, options: &str| {
            format!("1 2 0:{} / {point} rw - {kind} x rw,{options}\n", point.len())
        };
        // Any directories do: they are only opened.
        let legacy = line("/tmp", "cgroup", "name=systemd") + &line("/proc", "cgroup", "memory,cpu");
        let hybrid = legacy.clone() + &line("/", "cgroup2", "nsdelegate");
        for (text, root, controller) in [(&legacy, "/proc", Some("memory")), (&hybrid, "/", None)] {
            let found = Hierarchies::of(text).unwrap();
            assert_eq!((found.root.as_path(), found.controller()), (Path::new(root), controller));
        }
        for text in [String::new(), line("/tmp", "cgroup", "name=systemd")] {
            assert!(matches!(Hierarchies::of(&text), Err(DetectError::NoHierarchy)), "{text}");
        }
    }

    #[test]
    fn a_cgroup_holds_its_own_processes_and_no_others() {
        let cgroup = |path: &str| Cgroup {
            named: Named {
                name: Name::Id(ContainerId::new("x")),
                runtime: Runtime::Unknown,
                pod_uid: None,
                path: path.to_owned(),
            },
            container: ContainerId::new("x"),
            dir: PathBuf::from("/nowhere"),
            id: 0,
        };
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().next().unwrap().splitn(3, ':').nth(2).unwrap();
        let own = if own == "/" { "" } else { own };
        assert!(cgroup(own).holds(std::process::id()));
        assert!(!cgroup(&format!("{own}/below")).holds(std::process::id()));
        assert!(!cgroup(own).holds(u32::MAX), "no such process");
        assert!(cgroup("/nowhere").procs().is_empty());
    }

    #[test]
    fn a_systemd_inside_comes_before_its_many_services() {
        let folder = tempfile::tempdir().unwrap();
        let group = |path: &str, procs: &str| {
            fs::create_dir_all(folder.path().join(path)).unwrap();
            fs::write(folder.path().join(path).join("cgroup.procs"), procs).unwrap();
        };
        let many = "100\n".repeat(MAX_PROCS);
        for slice in ["a.slice", "system.slice", "system.slice/a.service", "user.slice", "z.slice"] {
            group(slice, &many);
        }
        group("init.scope", "7\n");
        let path = "/lxc.payload.web".to_owned();
        let named = Named { name: Name::Own("web".into()), runtime: Runtime::Lxc, pod_uid: None, path };
        let cgroup = Cgroup { named, container: ContainerId::new("x"), dir: folder.path().to_owned(), id: 0 };
        let procs = cgroup.procs();
        assert_eq!((procs.first(), procs.len()), (Some(&7), MAX_PROCS));
    }

    #[tokio::test]
    async fn a_start_is_seen_where_there_is_cgroup_v1_only() {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        if !mountinfo.contains("- cgroup cgroup ") {
            // A controller that is in use in the unified hierarchy cannot be had in a v1 one.
            eprintln!("NOT TESTED: this machine has no cgroup v1 hierarchy at all");
            return;
        }
        let legacy: Vec<&str> = mountinfo.lines().filter(|line| !line.contains(" - cgroup2 ")).collect();
        let hierarchies = Hierarchies::of(&legacy.join("\n")).unwrap();
        assert_eq!(hierarchies.controller(), Some("pids"));
        let (mut kernel, _seen) = super::super::attach_by(&hierarchies).unwrap();

        let id = "7".repeat(64);
        let dir = hierarchies.root.join(&id);
        fs::create_dir_all(&dir).unwrap();
        let script = "echo $$ > \"$0\"/cgroup.procs && exec sleep 5";
        let mut child = std::process::Command::new("sh").args(["-c", script]).arg(&dir).spawn().unwrap();
        let seen = async {
            loop {
                let records = kernel.next().await.unwrap().records;
                let targets = Targets::default();
                let found = records.iter().find_map(|record| hierarchies.resolve(record.cgroup_id, &targets));
                if let Some(cgroup) = found.filter(|cgroup| cgroup.container.as_str() == id) {
                    return cgroup;
                }
            }
        };
        let seen = tokio::time::timeout(std::time::Duration::from_secs(3), seen).await;
        let (seen, procs) = (seen.as_ref().map(|cgroup| cgroup.id), seen.as_ref().map(Cgroup::procs));
        child.kill().unwrap();
        child.wait().unwrap();
        let inode = fs::metadata(&dir).unwrap().ino();
        fs::remove_dir(&dir).unwrap();
        assert_eq!(seen.expect("no record within 3 s"), inode);
        assert_eq!(procs.unwrap(), [child.id()]);
    }
}
