//! What an observer's command sees of the host: a root of its own with programs, libraries and little else, read-only.
//! Built once as a mount namespace of its own, which each run copies, like the template of joined commands.
//!
//! The rule is a list of what is in it; whatever is not named here is absent: no sockets of runtimes, no home folders, no
//! keys below /etc, nothing of /var, /run and /tmp. /proc, /sys, /tmp and /run are empty folders until the run fills them.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{Mode, openat};
use rustix::mount::{MoveMountFlags, move_mount, open_tree};

use super::super::mountinfo::mounts;
use super::template::{CLONE, FOLDER, MAX_KEPT, Template, TemplateError, at, below, slave};

/// Folders of programs and libraries; some are links into /usr on many distributions, and are links then.
const PROGRAMS: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];
/// Folders of settings that programs look up, with nothing secret in them.
const SETTINGS: [&str; 7] = [
    "/etc/alternatives",
    "/etc/iproute2",
    "/etc/ld.so.conf.d",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/ssl/certs",
    "/etc/terminfo",
];
/// Files of settings, copied: the program loader's list of libraries, and names of users, groups and ports.
const SETTING_FILES: [&str; 12] = [
    "/etc/ethertypes",
    "/etc/group",
    "/etc/host.conf",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/localtime",
    "/etc/networks",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/protocols",
    "/etc/rpc",
    "/etc/services",
];
/// Larger settings are none; the loader's list is some hundred KiB.
const LARGEST_SETTING: u64 = 8 << 20;
/// Where a program alone is shown, and not what lies beside it.
const PRIVATE: [&str; 7] = ["/root", "/home", "/etc", "/var", "/run", "/tmp", "/dev"];
/// The rule in `devices` knows the same.
pub(super) const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// `nameserver` lines that lead nowhere, at once: connect(2) to the broadcast address gives EACCES. Without any line
/// programs ask 127.0.0.1, which would be the container's.
const NO_RESOLVER: &str =
    "# parachute: no name is looked up; set resolv_conf on the probe\nnameserver 255.255.255.255\n";
/// The hosts file would be the host's and not the container's, so there is none but this.
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";
const NAME_SERVICES: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// The run's own procfs, to which the container's `self` leads.
pub(super) const OWN_PROC: &str = "/.self";
/// Links that lead there, mounted over those of the container's procfs.
pub(super) const LINKS: &str = "/.links";

const BELOW: MsFlags =
    MsFlags::MS_REMOUNT.union(MsFlags::MS_BIND).union(MsFlags::MS_RDONLY).union(MsFlags::MS_NOSUID);

/// Builds it from the caller's mount namespace, which it leaves and comes back to: the caller must have one thread.
pub(super) fn build(programs: &[PathBuf]) -> Result<Template, TemplateError> {
    Template::make(|| populate(programs))
}

fn populate(programs: &[PathBuf]) -> Result<OwnedFd, TemplateError> {
    slave()?;
    let table =
        fs::read_to_string("/proc/thread-self/mountinfo").map_err(at("read /proc/thread-self/mountinfo"))?;
    let shown = shown(&table, programs);
    let settings: Vec<_> = SETTING_FILES.iter().filter_map(|path| Some((*path, setting(path)?))).collect();
    let cwd = rustix::fs::CWD;
    let devices = DEVICES.map(|name| PathBuf::from(format!("/dev/{name}")));
    let trees: Vec<(&Path, OwnedFd, bool)> = shown
        .iter()
        .chain(&devices)
        // What has gone since cannot be reached and so is not needed.
        .filter_map(|path| {
            let tree = open_tree(cwd, path, CLONE).ok()?;
            let folder = rustix::fs::fstat(&tree).ok()?.st_mode & libc::S_IFMT == libc::S_IFDIR;
            Some((path.as_path(), tree, folder))
        })
        .collect();
    let links: Vec<_> = PROGRAMS.iter().filter_map(|path| Some((*path, fs::read_link(path).ok()?))).collect();

    // /proc is a folder on every host; what is mounted there is covered in this namespace only.
    mount(Some("parachute"), "/proc", Some("tmpfs"), MsFlags::MS_NOSUID, Some("size=32m,mode=755"))
        .map_err(at("mount the root"))?;
    let root = openat(cwd, "/proc", FOLDER, Mode::empty()).map_err(at("open the new root"))?;
    rustix::process::fchdir(&root).map_err(at("enter the new root"))?;
    // From here on a path without a slash before it is below the new root.
    for folder in ["proc", "sys", "dev", "etc", "run", "tmp", "var", &OWN_PROC[1..], &LINKS[1..]] {
        make_folder(Path::new(folder))?;
    }
    for (path, leads_to) in [
        ("dev/fd", "/proc/self/fd"),
        ("dev/stdin", "/proc/self/fd/0"),
        ("dev/stdout", "/proc/self/fd/1"),
        ("dev/stderr", "/proc/self/fd/2"),
        ("etc/mtab", "/proc/self/mounts"),
        ("var/run", "/run"),
        ("var/tmp", "/tmp"),
        (".links/self", "/.self/self"),
        (".links/thread-self", "/.self/thread-self"),
    ] {
        symlink(leads_to, path).map_err(at(format!("link {path}")))?;
    }
    for (path, leads_to) in links {
        symlink(&leads_to, below(Path::new(path))).map_err(at(format!("link {path}")))?;
    }
    for (path, bytes) in settings.iter().map(|(path, bytes)| (*path, bytes.as_slice())).chain([
        ("/etc/resolv.conf", NO_RESOLVER.as_bytes()),
        ("/etc/hosts", HOSTS.as_bytes()),
        ("/etc/nsswitch.conf", NAME_SERVICES.as_bytes()),
    ]) {
        fs::write(below(Path::new(path)), bytes).map_err(at(format!("write {path}")))?;
    }
    for (path, tree, folder) in trees {
        attach(&root, path, &tree, folder)?;
    }
    mount(None::<&str>, ".", None::<&str>, BELOW, None::<&str>).map_err(at("make the root read-only"))?;
    // pivot_root(2): with "." twice the old root lies on top of the new one and is detached with all below it.
    rustix::process::pivot_root(".", ".").map_err(at("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(at("detach the host's mounts"))?;
    Ok(root)
}

/// Mounts a tree of the host below the new root, read-only.
fn attach(root: &OwnedFd, path: &Path, tree: &OwnedFd, folder: bool) -> Result<(), TemplateError> {
    let point = below(path);
    if folder {
        make_folder(point)?;
    } else {
        point.parent().map_or(Ok(()), make_folder)?;
        // A mount below another one lies on a file that is there, and cannot be written to any more.
        if !point.exists() {
            fs::write(point, "").map_err(at(format!("make {}", path.display())))?;
        }
    }
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree, "", root, point, onto).map_err(at(format!("attach {}", path.display())))?;
    let device = path.starts_with("/dev");
    let flags = if device { BELOW | MsFlags::MS_NOEXEC } else { BELOW | MsFlags::MS_NODEV };
    mount(None::<&str>, point, None::<&str>, flags, None::<&str>)
        .map_err(at(format!("make {} read-only", path.display())))
}

fn make_folder(path: &Path) -> Result<(), TemplateError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(at(format!("make {}", path.display())))
}

/// The bytes of a settings file; none of what is missing, special, too large, or not for everybody to read.
fn setting(path: &str) -> Option<Vec<u8>> {
    let about = fs::metadata(path).ok()?;
    let fits = about.is_file() && about.len() <= LARGEST_SETTING && about.permissions().mode() & 0o004 != 0;
    fits.then(|| fs::read(path).ok()).flatten()
}

/// The paths of the host that are shown, parents before children.
pub(super) fn shown(table: &str, programs: &[PathBuf]) -> BTreeSet<PathBuf> {
    let real = |path: &Path| fs::symlink_metadata(path).is_ok_and(|about| about.is_dir());
    let folders =
        PROGRAMS.iter().map(Path::new).chain(SETTINGS.iter().map(Path::new)).filter(|path| real(path));
    let mut shown: BTreeSet<PathBuf> = folders.map(Path::to_owned).collect();
    let submounts = mounts(table).map(|mount| mount.point).filter(|point| is_below(point, &shown));
    let submounts: Vec<_> = submounts.take(MAX_KEPT).collect();
    // In a folder that is a link here it is a link there, too, and where that leads is another of the programs.
    let linked = |program: &&PathBuf| {
        PROGRAMS.iter().any(|folder| program.starts_with(folder) && !real(Path::new(folder)))
    };
    let programs_shown = programs.iter().filter(|program| !linked(program)).map(|program| beside(program));
    for program in programs_shown.chain(submounts) {
        if !shown.contains(&program) {
            shown.insert(program);
        }
    }
    // Where a whole folder is shown, a program in it need not be, unless something is mounted there.
    let covered = |path: &PathBuf| {
        programs.contains(path) && path.ancestors().skip(1).any(|above| shown.contains(above))
    };
    shown.iter().filter(|path| !covered(path)).cloned().collect()
}

fn is_below(point: &Path, folders: &BTreeSet<PathBuf>) -> bool {
    point.ancestors().skip(1).any(|above| folders.contains(above))
}

/// What is shown for the sake of a program: all of /opt/NAME, the folder it lies in, or itself where others' files are.
fn beside(program: &Path) -> PathBuf {
    if PROGRAMS.iter().any(|folder| program.starts_with(folder))
        || PRIVATE.iter().any(|folder| program.starts_with(folder))
    {
        return program.to_owned();
    }
    let parts: Vec<_> = program.components().collect();
    match parts.as_slice() {
        [Component::RootDir, Component::Normal(opt), _] if *opt == "opt" => program.to_owned(),
        [Component::RootDir, Component::Normal(opt), name, _, ..] if *opt == "opt" => {
            Path::new("/opt").join(name)
        }
        [_, _, _, ..] => program.parent().unwrap_or(program).to_owned(),
        // A program in the root folder.
        _ => program.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_brings_as_little_with_it_as_it_can_work_with() {
        for (program, shown) in [
            ("/usr/bin/ss", "/usr/bin/ss"),
            ("/opt/tools/bin/probe", "/opt/tools"),
            ("/opt/probe", "/opt/probe"),
            ("/srv/tools/bin/probe", "/srv/tools/bin"),
            ("/root/bin/probe", "/root/bin/probe"),
            ("/home/anna/probe", "/home/anna/probe"),
            ("/probe", "/probe"),
        ] {
            assert_eq!(beside(Path::new(program)), Path::new(shown), "{program}");
        }
    }

    #[test]
    fn submounts_of_program_folders_are_shown_and_others_are_not() {
        let table = "\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 8:3 / /usr/share/tools rw - ext4 /dev/sda3 rw
23 21 8:4 / /srv rw - ext4 /dev/sda4 rw
24 21 0:6 / /run rw - tmpfs tmpfs rw
";
        let shown = shown(table, &["/usr/bin/ss".into(), "/srv/x/probe".into()]);
        assert!(
            shown.contains(Path::new("/usr")) && shown.contains(Path::new("/usr/share/tools")),
            "{shown:?}"
        );
        assert!(shown.contains(Path::new("/srv/x")), "{shown:?}");
        for absent in ["/usr/bin/ss", "/srv", "/run", "/", "/etc", "/root", "/home"] {
            assert!(!shown.contains(Path::new(absent)), "{absent}");
        }
    }
}
