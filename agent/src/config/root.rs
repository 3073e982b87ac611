//! Whose programs probes run, and the look at them: those that this process sees, or in a container the host's, which are
//! seen through a process of the host's.

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat, openat2, stat};

use super::host::{ProgramFile, judged};

/// Inode of the first pid namespace of all, `PROC_PID_INIT_INO` of the kernel's `linux/proc_ns.h`.
const FIRST_PIDS: u64 = 0xEFFF_FFFC;

/// Where commands find their programs, and all other files of theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeRoot {
    /// The host's, also where the agent is in a container, if that shares the host's pid namespace.
    Host,
    /// What the agent itself sees: in a container its image's, elsewhere the host's.
    #[default]
    Image,
}

/// What is at this absolute path.
pub(super) fn look(root: ProbeRoot, path: &str) -> ProgramFile {
    // Who is not root only checks a file, on a machine of his own.
    if root == ProbeRoot::Image || !rustix::process::geteuid().is_root() {
        return judged(Path::new(path), |path| fs::canonicalize(path).ok(), |path| stat(path).ok());
    }
    let root = || -> io::Result<Option<OwnedFd>> {
        let Some(process) = on_the_host()? else { return Ok(None) };
        let root = format!("/proc/{process}/root");
        Ok(Some(openat(CWD, root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?))
    };
    match root() {
        Ok(Some(root)) => look_below(&root, Path::new(path)),
        Ok(None) => look(ProbeRoot::Image, path),
        // An agent at work has no right to this. The launcher has, and looks by itself at each reload.
        Err(_) => ProgramFile::Unseen,
    }
}

/// Whether the first process that is to be seen is the host's. In another pid namespace it is this container's, or that of
/// another container that shares it, whose programs must not be taken for the host's.
pub fn sees_the_host() -> io::Result<bool> {
    Ok(stat("/proc/self/ns/pid")?.st_ino == FIRST_PIDS)
}

/// A process that is among the host's mounts, if this one is not: the first of all or, where nobody may look at that, the
/// nearest ancestor with other mounts than this one's, which is what the runtime has started the container by. None where no
/// process of the host's is seen.
pub fn on_the_host() -> io::Result<Option<u32>> {
    if !sees_the_host()? {
        return Ok(None);
    }
    let mounts = |process: &str| stat(format!("/proc/{process}/ns/mnt")).map(|about| about.st_ino);
    let own = mounts("self")?;
    if let Ok(first) = mounts("1") {
        return Ok((first != own).then_some(1));
    }
    let mut process = parent("self")?;
    while process > 1 {
        if mounts(&process.to_string())? != own {
            return Ok(Some(process));
        }
        process = parent(&process.to_string())?;
    }
    Ok(None)
}

/// Zero for one that is not of this pid namespace.
fn parent(process: &str) -> io::Result<u32> {
    // The fourth field, after the name in parentheses, which may hold any of these, and bytes that are no text. In one piece: a file
    // of /proc says no length, and would be read 32 bytes at a time at first.
    let mut stat = [0; 512];
    let length = fs::File::open(format!("/proc/{process}/stat"))?.read(&mut stat)?;
    let stat = String::from_utf8_lossy(&stat[..length]);
    let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
    parent.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn look_below(root: &OwnedFd, path: &Path) -> ProgramFile {
    let open = |path: &Path| {
        openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT).ok()
    };
    judged(path, |path| real_path(&open(path)?), |path| fstat(open(path)?).ok())
}

/// Where the links on the way have led: the kernel counts it from the root of the mounts that the file lies in.
fn real_path(file: &OwnedFd) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_look_below_another_root_follows_its_links_and_not_ours() {
        // As a container sees its host: a root whose links are absolute. Here paths are counted from ours, so that the
        // folder's own path has to be there, too.
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("usr/bin");
        fs::create_dir_all(&inside).unwrap();
        fs::write(inside.join("tool"), "").unwrap();
        fs::set_permissions(inside.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("/usr/bin/tool", inside.join("linked")).unwrap();
        symlink("/bin/sh", inside.join("ours")).unwrap();
        let root = openat(CWD, folder.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let open = |path: &str| {
            openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
        };
        let linked = real_path(&open("/usr/bin/linked").unwrap()).unwrap();
        assert_eq!(linked, fs::canonicalize(inside.join("tool")).unwrap());
        assert_eq!(look_below(&root, Path::new("/usr/bin/ours")), ProgramFile::Missing);
        assert_eq!(look_below(&root, Path::new("/usr/bin/nothing")), ProgramFile::Missing);
    }

    #[test]
    fn on_a_host_both_are_the_same() {
        for path in ["/bin/sh", "/etc/passwd", "/nowhere"] {
            assert_eq!(look(ProbeRoot::Host, path), look(ProbeRoot::Image, path), "{path}");
        }
        assert_eq!(look(ProbeRoot::Image, "/bin/sh"), ProgramFile::Executable);
    }

    /// Runs this very test again as the second process of a pid namespace whose first one has other mounts, as in a container
    /// with `--pid=container:`.
    #[test]
    fn the_first_process_of_another_pid_namespace_is_not_the_hosts() {
        const NESTED: &str = "PARACHUTE_TEST_NESTED";
        let name = "config::root::tests::the_first_process_of_another_pid_namespace_is_not_the_hosts";
        if std::env::var_os(NESTED).is_some() {
            let mounts = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).unwrap();
            assert_ne!(mounts("1"), mounts("self"));
            assert_eq!((sees_the_host().unwrap(), on_the_host().unwrap()), (false, None));
            return;
        }
        let script = format!("unshare --mount \"$0\" --exact {name}; exit $?");
        let ended = std::process::Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "sh", "-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env(NESTED, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success() && said.contains("1 passed"), "{said}\n{ended:?}");
    }
}
