//! A probe's command as an observer: what is got ready before the fork, who is refused, and what happens where the
//! container's procfs cannot be had from outside.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_stub::Way;
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::inspect::{Target, is_exiting};
use super::plan::Image;
use super::procfs::{self, Procfs};
use super::run::{self, Context, Launch, PROCFS_CLOSED, PROCFS_UNTRUSTED, Run};
use super::template::{Template, TemplateError};
use super::{program, seccomp, view};
use crate::config::{Capabilities, Observer, Probe};
use crate::model::End;

/// One run that is about to start.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: u64,
    pub(super) probe: Arc<Probe>,
    /// The trigger accepts containers that can take the command over.
    pub(super) allowed: bool,
    pub(super) about: Target,
    pub(super) image: Image,
    pub(super) target: OwnedFd,
    /// Standard output and error.
    pub(super) outputs: [OwnedFd; 2],
}

impl Task {
    pub(super) fn stdio<'a>(&'a self, null: BorrowedFd<'a>) -> [BorrowedFd<'a>; 3] {
        let [stdout, stderr] = &self.outputs;
        [null, stdout.as_fd(), stderr.as_fd()]
    }

    /// The same once more, with descriptors of its own.
    fn again(&self) -> std::io::Result<Self> {
        let [stdout, stderr] = &self.outputs;
        Ok(Self {
            id: self.id,
            probe: Arc::clone(&self.probe),
            allowed: self.allowed,
            about: self.about,
            image: self.image.clone(),
            target: self.target.try_clone()?,
            outputs: [stdout.try_clone()?, stderr.try_clone()?],
        })
    }
}

/// What the observers of one launcher share.
#[derive(Debug)]
pub(super) struct Observers {
    view: Template,
    procfs: Procfs,
    filter: Vec<libc::sock_filter>,
    /// This process's own bounding set: what the host's root can have.
    all_capabilities: u64,
    /// Runs that are to join if they are refused for the container's procfs.
    fallbacks: HashMap<u64, Task>,
}

impl Observers {
    pub(super) fn start(programs: &[PathBuf], procfs: Procfs) -> Result<Self, TemplateError> {
        Ok(Self {
            view: view::build(programs)?,
            procfs,
            filter: seccomp::observer(),
            all_capabilities: own_bounding_set(),
            fallbacks: HashMap::new(),
        })
    }

    /// Takes another view of the host for the runs to come.
    pub(super) fn show(&mut self, view: Template) {
        self.view = view;
    }

    pub(super) fn start_run(
        &mut self,
        task: &Task,
        observer: &Observer,
        context: &mut Context<'_>,
    ) -> Result<Run, End> {
        let refused = |reason: String| End::Refused { reason };
        if !task.allowed && is_exposed(observer.capabilities, &task.about, self.all_capabilities) {
            return Err(refused(format!(
                "the container has every capability that the probe declares ({}) and could take the command over; \
                 declare one that it lacks, or set allow_unsafe_joined on the trigger if that is accepted",
                observer.capabilities
            )));
        }
        let program = program::checked(self.view.root(), &task.probe.program)?;
        let resolv_conf = observer.resolv_conf.as_deref().map(resolver).transpose().map_err(refused)?;
        let mut procfs = self.procfs;
        let proc = match procfs {
            Procfs::Pidns => match procfs::of(&task.about) {
                Ok(proc) => Some(proc),
                Err(_) if is_exiting(task.target.as_fd()) => return Err(End::TargetGone),
                Err(error) => {
                    tracing::warn!(%error, "a procfs for a container could not be made; its own is taken");
                    procfs = Procfs::Mounted;
                    None
                }
            },
            Procfs::Mounted => None,
        };
        let own_pid_ns = CString::new(format!("{}/ns/pid", task.about.inner_pid)).unwrap_or_default();
        let needs = agent_stub::Observer {
            proc: proc.as_ref().map(AsFd::as_fd),
            own_pid_ns: (&own_pid_ns, task.about.pid_ns),
            resolv_conf: resolv_conf.as_ref().map(AsFd::as_fd),
            program: program.as_ref().map(AsFd::as_fd),
            // One that sees the host's processes could hold up or kill the spawner, which serves other containers after this one.
            without_stub: proc.is_some() && !task.about.in_host_pid_ns,
            filter: &self.filter,
        };
        let way = Way::observer(needs, observer.capabilities.bits());
        let stdio = task.stdio(context.null);
        let launch = Launch {
            image: &task.image,
            way,
            join_pid: false,
            stdio,
            timeout: Some(task.probe.timeout),
            limits: Some(task.probe.limits),
            called: Some(procfs.way()),
        };
        let mut context = Context {
            template: self.view.namespace(),
            null: context.null,
            spawners: context.spawners,
            slots: context.slots,
            alone: context.alone,
        };
        let run = run::start(task.id, &task.target, &launch, &mut context)?;
        if procfs == Procfs::Mounted && observer.fallback_joined {
            // Without descriptors to spare there is no second try.
            self.fallbacks.extend(task.again().ok().map(|again| (task.id, again)));
        }
        Ok(run)
    }

    /// What is to be started now that run `id` has come to this end.
    pub(super) fn instead_of(&mut self, id: u64, end: &End) -> Option<Task> {
        let instead = self.fallbacks.remove(&id)?;
        let End::Refused { reason } = end else { return None };
        [PROCFS_UNTRUSTED, PROCFS_CLOSED].contains(&reason.as_str()).then_some(instead)
    }
}

/// Whether the kernel would let a container take over an observer with these capabilities, if it saw one.
///
/// A process can be taken over by one that sees it and has all of its capabilities: an observer always has one that its
/// container lacks. Of a privileged container, which can do `all` that the host's root can, that cannot be said; it is the
/// host's root, and in a pid namespace of its own it does not see the command.
fn is_exposed(capabilities: Capabilities, target: &Target, all: u64) -> bool {
    let Target { cap_bounding, in_host_user_ns, in_host_pid_ns, .. } = target;
    let is_root = all & !cap_bounding == 0;
    *in_host_user_ns && capabilities.is_within(*cap_bounding) && (*in_host_pid_ns || !is_root)
}

/// A detached mount of the file.
fn resolver(path: &Path) -> Result<OwnedFd, String> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree =
        open_tree(CWD, path, flags).map_err(|error| format!("resolv_conf {}: {error}", path.display()))?;
    let is_file = rustix::fs::fstat(&tree).is_ok_and(|about| about.st_mode & libc::S_IFMT == libc::S_IFREG);
    if is_file { Ok(tree) } else { Err(format!("resolv_conf {} is not a file", path.display())) }
}

fn own_bounding_set() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    // Without it nobody counts as the host's root.
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Isolation;

    const ALL: u64 = (1 << 41) - 1;
    const DEFAULT: u64 = 0xa804_25fb;

    fn target(cap_bounding: u64, in_host_user_ns: bool, in_host_pid_ns: bool) -> Target {
        Target { pid: 1, pid_ns: 1, inner_pid: 1, in_host_pid_ns, in_host_user_ns, cap_bounding }
    }

    /// 3. of the list of requirements, with the sets that are named there.
    #[test]
    fn a03_an_observer_is_not_within_its_target() {
        let usual = Capabilities::default();
        for (bounding, user_ns, pid_ns, exposed) in [
            (DEFAULT, true, false, false),
            (DEFAULT, true, true, false),
            (0, true, true, false),
            (DEFAULT | usual.bits(), true, false, true),
            (DEFAULT | usual.bits(), true, true, true),
            (DEFAULT | usual.bits(), false, true, false),
            // Privileged: the host's root, who sees it only in its own pid namespace.
            (ALL, true, false, false),
            (ALL, true, true, true),
        ] {
            let target = target(bounding, user_ns, pid_ns);
            assert_eq!(is_exposed(usual, &target, ALL), exposed, "{bounding:x} {user_ns} {pid_ns}");
        }
    }

    /// What an operator may declare (`config/capabilities.rs`).
    const DECLARABLE: [&str; 9] = [
        "DAC_READ_SEARCH",
        "NET_BIND_SERVICE",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_OWNER",
        "SYS_PTRACE",
        "SYS_NICE",
        "SYSLOG",
        "AUDIT_READ",
    ];

    /// A probe's set as the configuration's check lets it through; the mistake that it names otherwise.
    fn declared(names: &[&str]) -> Result<Capabilities, String> {
        let text = format!(
            "probes: {{ p: {{ command: [/bin/true], parse: none, capabilities: [{}] }} }}",
            names.join(", ")
        );
        let config = crate::config::from_str(&text, Path::new("p.yml")).map_err(|e| e.to_string())?;
        match &config.probes.values().next().unwrap().isolation {
            Isolation::Observer(observer) => Ok(observer.capabilities),
            Isolation::Joined => panic!("it is an observer"),
        }
    }

    proptest! {
        /// 3. Of every set that can be declared and of every container's: what is started has something that its container
        /// lacks, or is out of its sight, or has another user namespace between; a set that no usual container lacks a
        /// part of is not even read.
        #[test]
        fn a03_whatever_is_allowed_lacks_something_or_is_out_of_sight(
            names in proptest::sample::subsequence(DECLARABLE.to_vec(), 0..=DECLARABLE.len()),
            bounding in prop_oneof![Just(DEFAULT), Just(0), Just(ALL), 0..=ALL],
            user_ns: bool,
            pid_ns: bool,
        ) {
            match declared(&names) {
                Ok(set) => {
                    prop_assert!(set.bits() & !DEFAULT != 0, "{set} is what every container has");
                    let target = target(bounding, user_ns, pid_ns);
                    let is_within = set.bits() & !bounding == 0;
                    let is_safe = !is_within || !user_ns || (bounding == ALL && !pid_ns);
                    prop_assert_eq!(is_exposed(set, &target, ALL), !is_safe);
                }
                Err(mistake) => prop_assert!(mistake.contains("capabilities"), "{mistake}"),
            }
        }
    }
}
