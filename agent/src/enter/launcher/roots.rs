//! Which mounts the launcher is in, and with it whose programs commands are: its own or, where it is in a container, those of
//! the host. It reads its configuration in its own and is in the chosen ones at all other times, so that
//! template, view and run slots are made of those.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use nix::sched::{CloneFlags, setns};

use crate::config::{Config, ProbeRoot, on_the_host, sees_the_host};

/// Tied to the mount namespace that it is opened in; the kernel marks it with POLLPRI when the table changes (proc(5)).
const TABLE: &str = "/proc/self/mountinfo";

/// The number of the host's mount namespace, where this process was started in another one.
pub(super) fn hosts_mounts() -> Option<u64> {
    // It never changes, and to find it may take a look at all ancestors.
    static NUMBER: OnceLock<Option<u64>> = OnceLock::new();
    *NUMBER.get_or_init(|| {
        let process = on_the_host().ok()??;
        File::open(format!("/proc/{process}/ns/mnt")).ok()?.metadata().map(|about| about.ino()).ok()
    })
}

/// The first process that is to be seen is not the host's, and its programs must not be run for it.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "this process does not share the host's pid namespace, and cannot know which programs are the host's; start its container \
     with it (hostPID: true, --pid=host), or write probe_root: image"
)]
struct Strange;

#[derive(Debug)]
pub(super) struct Roots {
    own: File,
    /// None where they are this process's own, and an error where that cannot be known.
    host: Result<Option<File>, Strange>,
    current: ProbeRoot,
    table: File,
}

impl Roots {
    /// The caller must have a single thread.
    pub(super) fn open() -> io::Result<Self> {
        // Remembered while this process is at home.
        hosts_mounts();
        let own = File::open("/proc/self/ns/mnt")?;
        let host = match on_the_host()? {
            _ if !sees_the_host()? => Err(Strange),
            process => {
                Ok(process.map(|process| File::open(format!("/proc/{process}/ns/mnt"))).transpose()?)
            }
        };
        Ok(Self { own, host, current: ProbeRoot::Image, table: File::open(TABLE)? })
    }

    /// The mounts that commands are made of, to be polled for changes.
    pub(super) fn table(&self) -> BorrowedFd<'_> {
        self.table.as_fd()
    }

    pub(super) fn enter(&mut self, root: ProbeRoot) -> io::Result<()> {
        if root == self.current {
            return Ok(());
        }
        if let Some(host) = self.host.as_ref().map_err(|strange| io::Error::other(*strange))? {
            let wanted = if root == ProbeRoot::Host { host } else { &self.own };
            setns(wanted, CloneFlags::CLONE_NEWNS)
                .map_err(|error| io::Error::other(format!("setns: {error}")))?;
            self.current = root;
            self.table = File::open(TABLE)?;
        }
        Ok(())
    }

    /// The same, and its programs as they are found there: their links may lead elsewhere than at home.
    pub(super) fn enter_for(&mut self, config: &Config) -> io::Result<Vec<PathBuf>> {
        self.enter(config.probe_root)?;
        Ok(programs(config))
    }

    /// Does something among the launcher's own files.
    pub(super) fn at_home<T>(&mut self, task: impl FnOnce() -> T) -> io::Result<T> {
        let current = self.current;
        self.enter(ProbeRoot::Image)?;
        let done = task();
        self.enter(current)?;
        Ok(done)
    }
}

/// Of all probes, as the mounts are that this process is in: the path that is exec'd, and where its links lead.
pub(super) fn programs(config: &Config) -> Vec<PathBuf> {
    config
        .probes
        .values()
        .flat_map(|probe| [Some(probe.program.clone()), probe.program.canonicalize().ok()])
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::sync::Arc;

    use nix::mount::{MsFlags, mount};
    use nix::sched::unshare;

    use super::*;

    fn of_this_thread(host: Result<Option<File>, Strange>) -> Roots {
        let open = |path| File::open(path).unwrap();
        let (own, table) = (open("/proc/thread-self/ns/mnt"), open("/proc/thread-self/mountinfo"));
        Roots { own, host, current: ProbeRoot::Image, table }
    }

    #[test]
    fn programs_are_looked_for_where_they_run() {
        let folder = tempfile::tempdir().unwrap();
        let tool = folder.path().join("tool");
        symlink("/bin/true", &tool).unwrap();
        let text = "probes: { a: { command: [/bin/true], parse: none } }\n";
        let mut config = crate::config::from_str(text, Path::new("test.yml")).unwrap();
        for probe in config.probes.values_mut() {
            Arc::make_mut(probe).program = tool.clone();
        }
        config.probe_root = ProbeRoot::Host;
        // A thread with mounts of its own stands for the agent's container.
        let found = std::thread::spawn(move || {
            let host = File::open("/proc/thread-self/ns/mnt").unwrap();
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), none).unwrap();
            symlink("/bin/false", &tool).unwrap();
            let mut roots = of_this_thread(Ok(Some(host)));
            [programs(&config), roots.enter_for(&config).unwrap()]
        });
        let real = |name: &str| std::fs::canonicalize(name).unwrap();
        let [at_home, on_the_host] = found.join().unwrap();
        assert_eq!((&at_home[1], &on_the_host[1]), (&real("/bin/false"), &real("/bin/true")));
    }

    #[test]
    fn where_the_host_is_not_seen_its_programs_are_refused() {
        let mut roots = of_this_thread(Err(Strange));
        assert_eq!(roots.at_home(|| 5).unwrap(), 5);
        roots.enter(ProbeRoot::Image).unwrap();
        let error = roots.enter(ProbeRoot::Host).unwrap_err().to_string();
        assert!(error.contains("hostPID: true"), "{error}");
    }
}
