//! When the template and the observers' view are made anew: soon after a change of the host's mounts that they show, and a while
//! after any other. A busy node's table has thousands of mounts and changes with each pod, and hardly any of it is theirs; to make
//! both anew takes tens of milliseconds there, in which the launcher does nothing else. But below folders of programs and
//! disks with others on them new mounts of the host arrive, and what a path leads to may have changed, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::mountinfo::mounts;
use super::observed::Observers;
use super::template::{self, Template, TemplateError};
use super::view;

/// A table that has changed is looked at at most this often.
const LOOK: Duration = Duration::from_secs(1);
/// So old may they be when something else has changed.
const AGE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Mounts {
    template: Template,
    /// What of the host's mounts template and view were made from; none if that is not known.
    made_from: Option<String>,
    made: Instant,
    looked: Instant,
    /// The host's table has changed since it was looked at.
    stale: bool,
    /// It has changed since they were made, in what they do not show.
    aged: bool,
}

impl Mounts {
    /// The template; the view is for `Observers` to begin with.
    pub(super) fn new(programs: &[PathBuf]) -> Result<Self, TemplateError> {
        let made_from = shown(programs);
        let (template, now) = (Template::build(programs)?, Instant::now());
        Ok(Self { template, made_from, made: now, looked: now, stale: false, aged: false })
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

    /// When the table wants to be looked at, or both to be made.
    pub(super) fn due(&self) -> Option<Instant> {
        let look = self.stale.then(|| self.looked + LOOK);
        look.into_iter().chain(self.aged.then(|| self.made + AGE)).min()
    }

    /// Does what is due.
    pub(super) fn catch_up(&mut self, programs: impl FnOnce() -> Vec<PathBuf>, observers: &mut Observers) {
        if self.due().is_none_or(|due| Instant::now() < due) {
            return;
        }
        let programs = programs();
        let now = shown(&programs);
        let is_old = self.aged && self.made.elapsed() >= AGE;
        if is_old || now.is_none() || now != self.made_from {
            self.make(&programs, now, observers);
        } else {
            (self.looked, self.stale, self.aged) = (Instant::now(), false, true);
        }
    }

    pub(super) fn rebuild(&mut self, programs: &[PathBuf], observers: &mut Observers) {
        self.make(programs, shown(programs), observers);
    }

    /// A failure keeps the old ones, which go on working, and is tried again.
    fn make(&mut self, programs: &[PathBuf], made_from: Option<String>, observers: &mut Observers) {
        (self.made, self.looked) = (Instant::now(), Instant::now());
        match Template::build(programs).and_then(|template| Ok((template, view::build(programs)?))) {
            Ok((template, view)) => {
                self.template = template;
                (self.made_from, self.stale, self.aged) = (made_from, false, false);
                observers.show(view);
            }
            Err(error) => {
                (self.made_from, self.stale, self.aged) = (None, false, true);
                tracing::error!(%error, "the old template mount namespace stays in use");
            }
        }
    }
}

/// The lines of the host's mount table that template or view have anything of, with the numbers of the mounts.
fn shown(programs: &[PathBuf]) -> Option<String> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").ok()?;
    Some(lines(&table, programs))
}

fn lines(table: &str, programs: &[PathBuf]) -> String {
    let (kept, visible) = (template::kept_mounts(table, programs), view::shown(table, programs));
    let counts = |point: &Path| point == Path::new("/") || kept.contains(point) || visible.contains(point);
    let is_shown = |line: &&str| mounts(line).any(|mount| counts(&mount.point));
    table.split_inclusive('\n').filter(is_shown).collect()
}

#[cfg(test)]
mod tests {
    use super::super::procfs::Procfs;
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
        assert_eq!(before.lines().count(), 3, "{before}");
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

    /// Each in a thread of its own, as the launcher has but one.
    #[test]
    fn what_is_not_shown_is_a_reason_after_a_while() {
        std::thread::spawn(|| {
            let mut mounts = Mounts::new(&[]).unwrap();
            let mut observers = Observers::start(&[], Procfs::Mounted).unwrap();
            assert_eq!(mounts.due(), None, "nothing wakes a launcher whose host mounts nothing");
            mounts.changed();
            let looked = mounts.looked;
            assert_eq!(mounts.due(), Some(looked + LOOK));
            mounts.looked -= LOOK;
            let made = mounts.made;
            mounts.catch_up(Vec::new, &mut observers);
            assert_eq!((mounts.made, mounts.is_stale(), mounts.due()), (made, false, Some(made + AGE)));
            mounts.made -= AGE;
            mounts.catch_up(Vec::new, &mut observers);
            assert!(mounts.made > made && mounts.due().is_none());
        })
        .join()
        .unwrap();
    }
}
