//! When the template and the observers' view are made anew: after a change of the host's mounts that they show. A busy node's
//! table has thousands of mounts and changes with each pod, and hardly any of it is theirs. To make both anew takes tens of milliseconds
//! there, in which the launcher does nothing else.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::mountinfo::mounts;
use super::observed::Observers;
use super::template::{self, Template, TemplateError};
use super::view;

/// The host's mount table is looked at at most this often.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Mounts {
    template: Template,
    /// What of the host's mounts template and view were made from.
    made_from: Option<String>,
    looked: Instant,
    /// The host's table has changed since.
    stale: bool,
}

impl Mounts {
    /// The template; the view is for `Observers` to begin with.
    pub(super) fn new(programs: &[PathBuf]) -> Result<Self, TemplateError> {
        let made_from = shown(programs);
        Ok(Self { template: Template::build(programs)?, made_from, looked: Instant::now(), stale: false })
    }

    pub(super) fn template(&self) -> &Template {
        &self.template
    }

    pub(super) fn changed(&mut self) {
        self.stale = true;
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// When the table wants to be looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        self.stale.then(|| self.looked + INTERVAL)
    }

    /// Looks at the table, if it is time, and makes both anew if there is a reason.
    pub(super) fn catch_up(&mut self, programs: impl FnOnce() -> Vec<PathBuf>, observers: &mut Observers) {
        if self.due().is_none_or(|due| Instant::now() < due) {
            return;
        }
        let programs = programs();
        let now = shown(&programs);
        if now.is_some() && now == self.made_from {
            (self.looked, self.stale) = (Instant::now(), false);
        } else {
            self.rebuild(&programs, observers);
        }
    }

    /// A failure keeps the old ones, which go on working.
    pub(super) fn rebuild(&mut self, programs: &[PathBuf], observers: &mut Observers) {
        (self.looked, self.stale) = (Instant::now(), false);
        let made_from = shown(programs);
        match Template::build(programs).and_then(|template| Ok((template, view::build(programs)?))) {
            Ok((template, view)) => {
                (self.template, self.made_from) = (template, made_from);
                observers.show(view);
            }
            Err(error) => tracing::error!(%error, "the old template mount namespace stays in use"),
        }
    }
}

/// The lines of the host's mount table that template or view have anything of, with the numbers of the mounts, and the
/// states of the files that the view has copies of.
fn shown(programs: &[PathBuf]) -> Option<String> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").ok()?;
    let files = view::SETTING_FILES.iter().filter_map(|path| {
        let about = fs::metadata(path).ok()?;
        Some(format!("{path} {} {} {}\n", about.ino(), about.ctime(), about.ctime_nsec()))
    });
    Some(lines(&table, programs).into_iter().chain(files).collect())
}

fn lines(table: &str, programs: &[PathBuf]) -> Vec<String> {
    let (kept, visible) = (template::kept_mounts(table, programs), view::shown(table, programs));
    let counts = |point: &Path| point == Path::new("/") || kept.contains(point) || visible.contains(point);
    let is_shown = |line: &&str| mounts(line).any(|mount| counts(&mount.point));
    table.lines().filter(is_shown).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
25 21 8:2 / /usr ro - ext4 /dev/sda2 ro
27 21 0:7 / /var/lib/kubelet/pods/x/volumes/y rw - tmpfs tmpfs rw
28 21 8:4 / /srv rw - ext4 /dev/sda4 rw
";

    #[test]
    fn a_pods_mounts_are_no_reason_and_those_that_are_shown_are() {
        let programs = [PathBuf::from("/opt/tools/probe")];
        let before = lines(TABLE, &programs);
        assert_eq!(before.len(), 3, "{before:?}");
        for (line, is_reason) in [
            ("40 21 0:40 / /var/lib/kubelet/pods/z/volumes/y rw - tmpfs tmpfs rw\n", false),
            (
                "40 21 0:41 / /run/containerd/io.containerd.runtime.v2.task/k8s.io/a/rootfs rw - overlay overlay rw\n",
                false,
            ),
            ("40 21 0:42 / /usr/local rw - ext4 /dev/sdb rw\n", true),
            ("40 25 0:43 / /usr ro - ext4 /dev/sdc ro\n", true),
            ("40 21 0:44 / /opt/tools rw - ext4 /dev/sdd rw\n", true),
            ("40 21 0:45 / / rw - ext4 /dev/sde rw\n", true),
            ("40 21 8:5 / /home rw - ext4 /dev/sda5 rw\n", true),
        ] {
            assert_eq!(lines(&format!("{TABLE}{line}"), &programs) != before, is_reason, "{line}");
        }
        let another = TABLE.replace("25 21 8:2", "41 21 8:2");
        assert_ne!(lines(&another, &programs), before, "the same place, another mount");
        assert_ne!(lines(&TABLE.replace("/usr ro", "/usr rw"), &programs), before, "other flags");
    }
}
