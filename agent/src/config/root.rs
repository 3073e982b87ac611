//! Whose programs probes run, and the look at them: those that this process sees, or in a container the host's, which are
//! seen through the host's first process.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat, openat2, stat};

use super::host::{ProgramFile, judged};

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
    // An agent at work has no right to this. The launcher has, and looks by itself at each reload.
    match openat(CWD, "/proc/1/root", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(root) => look_below(&root, Path::new(path)),
        Err(_) => ProgramFile::Unseen,
    }
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
}
