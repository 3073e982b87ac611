//! Cgroups made by hand, with a process in them, in the hierarchy that detection goes by.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Folders that groups have made: several may need the same one above them, and the last to go removes it.
static MADE: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

/// Goes with all processes in it and with each folder that was made for it.
pub(crate) struct Group {
    pub(crate) dir: PathBuf,
    child: Option<Child>,
}

/// Where the unified hierarchy is mounted.
pub(crate) fn root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let unified = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|f| f[2] == "cgroup2");
    PathBuf::from(unified.expect("the unified hierarchy is mounted")[1])
}

impl Group {
    pub(crate) fn new(path: &str) -> Self {
        let dir = root().join(path.trim_start_matches('/'));
        let mut made = MADE.lock().unwrap();
        let new = dir.ancestors().take_while(|dir| !dir.exists()).map(Path::to_owned);
        made.get_or_insert_default().extend(new);
        fs::create_dir_all(&dir).unwrap();
        Self { dir, child: None }
    }

    /// Its first process.
    pub(crate) fn start(&mut self, words: &[&str]) {
        assert!(self.child.is_none(), "it has one");
        self.child = Some(self.spawn(words));
    }

    /// Another one, in the same cgroup before this returns.
    pub(crate) fn also(&self, words: &[&str]) -> Child {
        self.spawn(words)
    }

    fn spawn(&self, words: &[&str]) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""]).arg(&self.dir).args(words);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let is_sh =
            || fs::read_to_string(format!("/proc/{}/comm", child.id())).is_ok_and(|comm| comm == "sh\n");
        while is_sh() {
            assert!(Instant::now() < deadline, "it has not executed {words:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        child
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it has a process").id()
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// It and all below it, the deepest first.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let below = fs::read_dir(dir).into_iter().flatten().flatten();
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.flat_map(|entry| tree(&entry.path())).chain([dir.to_owned()]).collect()
}

/// Removes what nspawn has made below here in every hierarchy and left there, as far as nothing is in it.
pub(crate) fn clear(path: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    for mount in mounts.filter(|fields| ["cgroup", "cgroup2"].contains(&fields[2])) {
        for dir in tree(&Path::new(mount[1]).join(path)) {
            let _ = fs::remove_dir(dir);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        for dir in tree(&self.dir) {
            loop {
                let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
                for pid in procs.lines() {
                    let _ = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
                }
                // Its processes may not have gone yet.
                if fs::remove_dir(&dir).is_ok() || !dir.exists() || Instant::now() > deadline {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        // It has left its cgroup before it is waited for.
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
        let mut made = MADE.lock().unwrap();
        let made = made.get_or_insert_default();
        for above in self.dir.ancestors().filter(|above| made.contains(*above)) {
            // Another one may still need it.
            let _ = fs::remove_dir(above);
        }
    }
}
