//! The mounted cgroup hierarchies: where they are, what a cgroup's id leads to, which processes are in one. Nothing
//! is assumed of where they are mounted: v2 alone, v1 alone or both (hybrid).

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::DetectError;
use super::cgroup::{self, Named};
use crate::enter::handle;

/// Directories looked into below one cgroup, and processes taken from them. A container can make both as it likes.
const MAX_BELOW: usize = 256;
const MAX_PROCS: usize = 4096;

/// A container's cgroup, found on this machine.
#[derive(Clone, Debug)]
pub struct Cgroup {
    pub named: Named,
    /// Its directory.
    pub dir: PathBuf,
    /// Its id in the unified hierarchy, which is the inode number of `dir`; 0 in another hierarchy.
    pub id: u64,
}

#[derive(Debug)]
pub struct Hierarchies {
    /// The cgroup v2 mount point, held open to find cgroups by their id.
    unified: Option<(PathBuf, File)>,
    /// Mount points of the cgroup v1 hierarchies.
    legacy: Vec<PathBuf>,
}

impl Hierarchies {
    pub fn find() -> Result<Self, DetectError> {
        let text = fs::read_to_string("/proc/self/mountinfo").map_err(DetectError::Mountinfo)?;
        let (unified, legacy) = mount_points(&text);
        let open = |path: PathBuf| match File::open(&path) {
            Ok(file) => Ok((path, file)),
            Err(source) => Err(DetectError::Hierarchy { path, source }),
        };
        let unified = unified.map(open).transpose()?;
        if unified.is_none() && legacy.is_empty() {
            return Err(DetectError::NoHierarchy);
        }
        Ok(Self { unified, legacy })
    }

    /// Every hierarchy's mount point, the unified one first, and whether it is that one.
    pub fn roots(&self) -> impl Iterator<Item = (&Path, bool)> {
        let unified = self.unified.iter().map(|(path, _)| (path.as_path(), true));
        unified.chain(self.legacy.iter().map(|path| (path.as_path(), false)))
    }

    /// The container that the cgroup with this id belongs to: `None` when it belongs to none, or has gone.
    pub fn resolve(&self, id: u64) -> Option<Cgroup> {
        let (root, file) = self.unified.as_ref()?;
        let fd = handle::open_cgroup(file.as_fd(), id)
            .inspect_err(|error| tracing::debug!(cgroup_id = id, %error, "cgroup cannot be opened by its id"))
            .ok()?;
        let dir = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
        let path = format!("/{}", dir.strip_prefix(root).ok()?.to_str()?);
        Cgroup::named(root, cgroup::parse(&path)?, true)
    }
}

impl Cgroup {
    /// `None` when its directory has gone.
    pub(super) fn named(root: &Path, named: Named, unified: bool) -> Option<Self> {
        let dir = root.join(named.path.trim_start_matches('/'));
        let id = if unified { fs::metadata(&dir).ok()?.ino() } else { 0 };
        Some(Self { named, dir, id })
    }

    /// Host pids of the processes in it and in the cgroups below it, in no order. Bounded; the kernel lists a
    /// cgroup's processes as they came into it, so the init is among those taken.
    pub fn procs(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        let mut below = vec![self.dir.clone()];
        let mut looked_into = 0;
        while let Some(dir) = below.pop() {
            // A cgroup that goes while it is read, or is threaded, has no processes to list.
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            looked_into += 1;
            if looked_into >= MAX_BELOW || pids.len() >= MAX_PROCS {
                break;
            }
            below.extend(directories(&dir));
        }
        pids.truncate(MAX_PROCS);
        pids
    }

    /// Whether the process is in this cgroup or below it now.
    pub fn holds(&self, pid: u32) -> bool {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return false };
        // hierarchy-ID:controllers:path, cgroups(7).
        text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| {
            path.strip_prefix(self.named.path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// The directories in a directory; none where it cannot be read.
pub(super) fn directories(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// The mount points of the v2 hierarchy and of the v1 hierarchies, each hierarchy once, from the text of
/// /proc/PID/mountinfo (`proc_pid_mountinfo(5)`).
fn mount_points(mountinfo: &str) -> (Option<PathBuf>, Vec<PathBuf>) {
    let (mut unified, mut legacy, mut devices) = (None, Vec::new(), HashSet::new());
    for line in mountinfo.lines() {
        // ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAGS…] - TYPE SOURCE SUPER_OPTIONS
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        let mut fields = mount.split(' ').skip(2);
        let (Some(device), Some(_), Some(point)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let kind = filesystem.split(' ').next();
        if !matches!(kind, Some("cgroup" | "cgroup2")) || !devices.insert(device) {
            continue;
        }
        let point = PathBuf::from(unescape(point));
        if kind == Some("cgroup2") { unified = Some(point) } else { legacy.push(point) }
    }
    (unified, legacy)
}

/// mountinfo writes blank, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
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
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        let cases = [
            (
                HYBRID,
                Some("/sys/fs/cgroup/unified"),
                paths(&["/sys/fs/cgroup/devices", "/sys/fs/cgroup/systemd"]),
            ),
            (PURE, Some("/sys/fs/cgroup"), vec![]),
            (LEGACY, None, paths(&["/cg roups/pids"])),
            ("", None, vec![]),
            ("no dash here\n1 2 - cgroup2\n", None, vec![]),
        ];
        for (text, unified, legacy) in cases {
            assert_eq!(mount_points(text), (unified.map(PathBuf::from), legacy), "{text}");
        }
    }

    #[test]
    fn a_cgroup_holds_its_own_processes_and_no_others() {
        let cgroup = |path: &str| Cgroup {
            named: Named {
                id: crate::model::ContainerId::new("x"),
                runtime: crate::model::Runtime::Unknown,
                pod_uid: None,
                path: path.to_owned(),
            },
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
}
