//! The template mount namespace: a pruned view of the host that every run copies, built once. Copying the host's own
//! table costs milliseconds on a node with thousands of mounts; copying this costs the same whatever the host has.
//!
//! What is in it: the root file system alone (not what is mounted below it), `/dev`, `/run`, `/tmp`, `/var`, every mount
//! at or below the folders that programs and libraries come from, or on the way to a configured program, and a bounded
//! number of others: the disks that a command's arguments may lead to, but nothing that runtimes and kubelet mount.
//! An unmount on the host goes through to here, so nothing stays pinned, and nothing that is mounted here reaches the host.
//! What the host mounts later for its pods does not arrive: it would gather here and in every copy. When it is built anew is said in
//! `mounts`.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::super::mountinfo::{Mount, mounts};

/// Mounts at or below these hold programs and libraries.
const PROGRAM_FOLDERS: [&str; 11] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix", "/gnu", "/etc"];
/// Mounts exactly here are kept, without what is mounted below them.
const SINGLE_MOUNTS: [&str; 4] = ["/dev", "/run", "/tmp", "/var"];
/// Below these is what kernel, runtimes and kubelet mount, by the thousand on a busy node.
const PLUMBING: [&str; 15] = [
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/tmp",
    "/snap",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/crio",
    "/var/lib/docker",
    "/var/lib/k0s",
    "/var/lib/kubelet",
    "/var/lib/rancher",
    "/var/run",
];
/// Kinds of file system that only a program's path makes worth keeping: views of the kernel, layers of images, and
/// those whose server may be gone, so that merely looking at them can hang.
const LEFT_OUT: [&str; 14] = [
    "autofs", "overlay", "nsfs", "proc", "sysfs", "cgroup", "cgroup2", "nfs", "nfs4", "cifs", "smb3", "ceph",
    "afs", "9p",
];
/// No host has this many mounts with programs; a runaway table must not be copied.
pub(super) const MAX_KEPT: usize = 256;
/// The same for all others: data disks, home folders.
const MAX_OTHERS: usize = 32;

/// `AUTOFS_SUPER_MAGIC` of linux/magic.h.
const AUTOFS: i64 = 0x0187;
/// One mount, without what is mounted on it.
pub(super) const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE
    .union(OpenTreeFlags::OPEN_TREE_CLOEXEC)
    .union(OpenTreeFlags::AT_NO_AUTOMOUNT);
pub(super) const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[derive(Debug, thiserror::Error)]
#[error("building the template mount namespace: {step}: {source}")]
pub(in crate::enter) struct TemplateError {
    step: String,
    source: io::Error,
}

/// Adds the step's name to a system call's error.
pub(super) fn at<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> TemplateError {
    move |source| TemplateError { step: step.into(), source: source.into() }
}

/// The namespace is held by this fd alone; dropping it lets go of its mounts.
#[derive(Debug)]
pub(in crate::enter) struct Template {
    namespace: OwnedFd,
    /// Its root folder, through which can be seen from outside what is in it.
    root: OwnedFd,
}

impl Template {
    /// Builds the template from the caller's mount namespace, which it leaves and comes back to: the caller must have
    /// a single thread.
    pub(super) fn build(programs: &[PathBuf]) -> Result<Self, TemplateError> {
        Self::make(|| populate(programs))
    }

    /// All that the host has mounted, but for /proc and /sys. Costs milliseconds where that is thousands of mounts.
    pub(in crate::enter) fn whole() -> Result<Self, TemplateError> {
        Self::make(|| {
            slave()?;
            for point in ["/proc", "/sys"] {
                match umount2(point, MntFlags::MNT_DETACH) {
                    // Nothing is mounted there.
                    Ok(()) | Err(nix::Error::EINVAL) => {}
                    Err(error) => return Err(at(format!("detach {point}"))(error)),
                }
            }
            openat(rustix::fs::CWD, "/", FOLDER, Mode::empty()).map_err(at("open the root"))
        })
    }

    /// One that another process has built.
    pub(super) fn received(namespace: OwnedFd, root: OwnedFd) -> Self {
        Self { namespace, root }
    }

    pub(super) fn make(fill: impl FnOnce() -> Result<OwnedFd, TemplateError>) -> Result<Self, TemplateError> {
        let home = open_namespace()?;
        // setns(2) leads to the namespace's root; a relative path of the configuration must go on to mean the same.
        let cwd = openat(rustix::fs::CWD, ".", FOLDER, Mode::empty()).map_err(at("open ."))?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(at("unshare"))?;
        // Opened before it is filled: afterwards there is no /proc in it.
        let built = open_namespace().and_then(|namespace| Ok(Self { namespace, root: fill()? }));
        setns(home, CloneFlags::CLONE_NEWNS).map_err(at("setns back to the host"))?;
        rustix::process::fchdir(&cwd).map_err(at("go back to the working directory"))?;
        built
    }

    pub(super) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether `path` leads to the same file in here as on the host.
    pub(in crate::enter) fn shows(&self, path: &Path) -> bool {
        let here =
            openat2(&self.root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
                .and_then(rustix::fs::fstat);
        matches!((here, rustix::fs::stat(path)), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }
}

fn open_namespace() -> Result<OwnedFd, TemplateError> {
    std::fs::File::open("/proc/thread-self/ns/mnt")
        .map(OwnedFd::from)
        .map_err(at("open /proc/thread-self/ns/mnt"))
}

/// Before anything else: from here on nothing that happens in the new namespace reaches the host.
pub(super) fn slave() -> Result<(), TemplateError> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).map_err(at("make / a slave"))
}

/// Runs inside the new namespace: gathers what is kept under a new root, then makes that the root, and gives it back.
fn populate(programs: &[PathBuf]) -> Result<OwnedFd, TemplateError> {
    slave()?;
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo")
        .map_err(at("read /proc/thread-self/mountinfo"))?;
    let kept = kept_mounts(&table, programs);

    let cwd = rustix::fs::CWD;
    let root = open_tree(cwd, "/", CLONE).map_err(at("clone /"))?;
    let trees: Vec<(PathBuf, OwnedFd)> = kept
        .into_iter()
        // A mount that another one covers, or that has gone since, cannot be reached and so is not needed.
        .filter_map(|point| open_tree(cwd, &point, CLONE).ok().map(|tree| (point, tree)))
        .collect();

    // /proc is a folder on every host; what is mounted there is covered in this namespace only.
    move_mount(&root, "", cwd, "/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(at("attach /"))?;
    let new_root = openat(cwd, "/proc", FOLDER, Mode::empty()).map_err(at("open the new root"))?;
    let attached = attach(&new_root, trees)?;
    let is_leaf =
        |point: &Path| !attached.iter().any(|(other, _)| other != point && other.starts_with(point));
    // What is found at an automount arrives from the host.
    let closed = attached.iter().filter(|(point, automount)| lasts(point) || (is_leaf(point) && !automount));
    let closed = closed.map(|(point, _)| point.as_path());
    let none = None::<&str>;
    for point in closed.chain([Path::new("/")]) {
        let path = Path::new("/proc").join(below(point));
        match mount(none, &path, none, MsFlags::MS_PRIVATE, none) {
            Ok(()) => {}
            // The host has unmounted it meanwhile.
            Err(nix::Error::EINVAL | nix::Error::ENOENT) if point != Path::new("/") => {}
            Err(error) => return Err(at(format!("make {} private", point.display()))(error)),
        }
    }
    rustix::process::fchdir(&new_root).map_err(at("enter the new root"))?;
    // pivot_root(2): with "." twice the old root lies on top of the new one and is detached with all below it.
    rustix::process::pivot_root(".", ".").map_err(at("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(at("detach the host's mounts"))?;
    Ok(new_root)
}

/// Attaches what is kept below the new root, and gives back what could be, and which of it are automounts.
///
/// The kernel looks for what goes with a mount of the host below the slaves of what that mount lies on, and brings what the host
/// mounts to them as well. So what lies on a mount that is made private afterwards gets a slave of its own to lie on: the very place
/// where it is mounted, at which nothing else arrives as long as it is.
fn attach(root: &OwnedFd, trees: Vec<(PathBuf, OwnedFd)>) -> Result<Vec<(PathBuf, bool)>, TemplateError> {
    let mut attached: Vec<(PathBuf, bool)> = Vec::new();
    for (point, tree) in trees {
        let onto_it = |tree: OwnedFd| {
            move_mount(&tree, "", root, below(&point), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        };
        let lies_on = attached.iter().rfind(|(other, _)| point.starts_with(other));
        let automount = rustix::fs::fstatfs(&tree).is_ok_and(|about| about.f_type == AUTOFS);
        let slave = lies_on
            .is_none_or(|(on, _)| lasts(on))
            .then(|| open_tree(root, below(&point), CLONE))
            .transpose();
        match slave.and_then(|slave| slave.map_or(Ok(()), onto_it)).and_then(|()| onto_it(tree)) {
            Ok(()) => attached.push((point, automount)),
            // The mount point lies on a mount that is left out.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
            Err(error) => return Err(at(format!("attach {}", point.display()))(error)),
        }
    }
    Ok(attached)
}

pub(super) fn below(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Whether a mount stays as long as the host runs. It is on these that pods' mounts come and go, and one that goes all the same after
/// what lay on it stays here, with the place of that, until the template is made anew.
fn lasts(point: &Path) -> bool {
    SINGLE_MOUNTS.iter().any(|single| point == Path::new(single))
}

/// Which mount points of a mountinfo table are kept, parents before children.
pub(super) fn kept_mounts(table: &str, programs: &[PathBuf]) -> BTreeSet<PathBuf> {
    let holds_programs = |point: &Path| {
        lasts(point)
            || PROGRAM_FOLDERS.iter().any(|folder| point.starts_with(folder))
            || programs.iter().any(|program| program.starts_with(point))
    };
    // What a command is given to read or write lies there.
    let holds_data = |mount: &Mount<'_>| {
        let kind = mount.kind;
        !LEFT_OUT.contains(&kind)
            && !kind.starts_with("fuse")
            && !PLUMBING.iter().any(|folder| mount.point.starts_with(folder))
    };
    let below_root = || mounts(table).filter(|mount| mount.point != Path::new("/"));
    let others = below_root().filter(|mount| !holds_programs(&mount.point) && holds_data(mount));
    let programs = below_root().filter(|mount| holds_programs(&mount.point));
    programs.take(MAX_KEPT).chain(others.take(MAX_OTHERS)).map(|mount| mount.point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_need_is_kept_and_the_rest_is_not() {
        let table = "\
21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
22 21 0:5 / /dev rw - devtmpfs udev rw
23 22 0:6 / /dev/pts rw - devpts devpts rw
24 21 0:7 / /proc rw - proc proc rw
25 21 8:2 / /usr ro - ext4 /dev/sda2 ro
26 25 8:3 / /usr/local\\040bin rw - ext4 /dev/sda3 rw
27 21 0:8 / /var/lib/kubelet/pods/x/volumes/y rw - tmpfs tmpfs rw
28 21 8:4 / /srv rw - ext4 /dev/sda4 rw
29 21 8:5 / /home rw - ext4 /dev/sda5 rw
30 21 0:9 / /mnt/share rw - nfs4 server:/x rw
31 21 0:10 / /media/x rw - fuse.sshfs x rw
32 21 0:11 / /data/merged rw - overlay overlay rw
33 21 0:12 / /run/netns/x rw - nsfs nsfs rw
";
        let kept = kept_mounts(table, &[PathBuf::from("/srv/tools/bin/probe")]);
        let kept: Vec<_> = kept.iter().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(kept, ["/dev", "/home", "/srv", "/usr", "/usr/local bin"]);
    }

    #[test]
    fn building_it_changes_neither_the_hosts_mounts_nor_the_working_directory() {
        let look = || {
            let namespace = std::fs::read_link("/proc/thread-self/ns/mnt").unwrap();
            (namespace, std::fs::read_link("/proc/thread-self/cwd").unwrap())
        };
        // unshare(CLONE_NEWNS) gives this thread a working directory of its own: the other tests keep theirs.
        std::thread::spawn(move || {
            let before = look();
            assert_ne!(before.1, Path::new("/"), "a test runs in its crate's folder");
            Template::build(&[]).unwrap();
            assert_eq!(look(), before);
        })
        .join()
        .unwrap();
    }

    /// As on a host of systemd's, whose mounts are all shared.
    #[test]
    fn what_the_host_mounts_later_does_not_arrive_and_what_it_unmounts_goes() {
        std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            for kind in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
                mount(none, "/", none, MsFlags::MS_REC | kind, none).unwrap();
            }
            let tmpfs =
                |point: &Path| mount(Some("tmpfs"), point, Some("tmpfs"), MsFlags::empty(), none).unwrap();
            let (pods, disks) =
                (tempfile::tempdir_in("/var").unwrap(), tempfile::tempdir_in("/usr/local").unwrap());
            let (disk, nested) = (disks.path().join("disk"), disks.path().join("disk/nested"));
            std::fs::create_dir(&disk).unwrap();
            tmpfs(&disk);
            std::fs::create_dir(&nested).unwrap();
            tmpfs(&nested);
            std::fs::create_dir(nested.join("there")).unwrap();
            // As systemd has it; this machine need not.
            tmpfs(Path::new("/run"));
            let [more_pods, tool] = ["/run/pods", "/run/tool"].map(PathBuf::from);
            std::fs::create_dir(&more_pods).unwrap();
            std::fs::create_dir(&tool).unwrap();
            tmpfs(&tool);
            let template = Template::build(&[tool.join("probe")]).unwrap();
            let on_the_disk = nested.join("there");
            let later = [pods.path(), &more_pods, &on_the_disk];
            assert!(later.iter().all(|point| template.shows(point)) && template.shows(&tool));

            for point in later {
                tmpfs(point);
                assert!(!template.shows(point), "{} has arrived", point.display());
            }
            umount2(&on_the_disk, MntFlags::empty()).unwrap();
            let copy = copy(&template);
            for gone in [&nested, &disk, &tool] {
                umount2(gone, MntFlags::empty()).unwrap();
                assert!(template.shows(gone) && copy.shows(gone), "{} is pinned", gone.display());
            }
            umount2(pods.path(), MntFlags::empty()).unwrap();
        })
        .join()
        .unwrap();
    }

    /// What a run has.
    fn copy(template: &Template) -> Template {
        let open = |folder: &OwnedFd, path| openat(folder, path, OFlags::CLOEXEC, Mode::empty()).unwrap();
        let (home, proc) =
            (open_namespace().unwrap(), openat(rustix::fs::CWD, "/proc", FOLDER, Mode::empty()).unwrap());
        setns(template.namespace(), CloneFlags::CLONE_NEWNS).unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let copy = Template::received(open(&proc, "thread-self/ns/mnt"), open(&proc, "/"));
        setns(home, CloneFlags::CLONE_NEWNS).unwrap();
        copy
    }

    #[test]
    fn a_runaway_table_is_bounded() {
        use std::fmt::Write as _;
        let table = (0..5000).fold(String::new(), |mut table, n| {
            writeln!(table, "{n} 1 0:1 / /opt/{n} rw - tmpfs t rw").unwrap();
            table
        });
        assert_eq!(kept_mounts(&table, &[]).len(), MAX_KEPT);
        assert_eq!(kept_mounts(&table.replace("/opt/", "/mnt/"), &[]).len(), MAX_OTHERS);
    }
}
