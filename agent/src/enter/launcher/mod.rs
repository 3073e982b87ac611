//! The launcher process: one thread, one `poll` over the agent's socket, the host's mount table and the runs. It reads
//! the configuration itself, so that whoever takes over the agent can name a probe but not choose what it runs.

mod controllers;
mod devices;
pub(super) mod guard;
pub(super) mod handout;
mod inspect;
mod joined;
mod mounts;
mod observed;
mod of_host;
mod ours;
mod plan;
mod procfs;
mod program;
mod roots;
mod run;
mod seccomp;
mod slots;
mod spawner;
mod template;
mod view;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::handout::Handout;
use self::mounts::Mounts;
use self::observed::{Observers, Task};
use self::roots::{Roots, programs};
use self::run::{Context, Run};
use self::spawner::Spawners;
use super::capabilities;
use super::client::{LauncherOptions, Word};
use super::protocol::{self, Answer, Ask, receive, send};
use super::{realtime, resident};
use crate::config::{Config, Observer, Source};
use crate::model::{Capability, End, ProbeName, TriggerName};
pub use agent_stub::STEPS;
pub(super) use inspect::{Own, inspect, is_exiting};
pub(super) use joined::takeover;
pub(super) use plan::{Image, TARGET_PID};
pub(super) use procfs::Procfs;
pub use seccomp::confine_agent;
pub(super) use slots::Slots;
pub use slots::device_rule;
pub(super) use spawner::ignore_sigchld;
pub(super) use template::Template;

/// After the last run, before the program's pages are given back: the next run needs most of them.
const SETTLED: Duration = Duration::from_secs(1);
/// Why a launcher ends that cannot make stubs any more: the keeper starts another one.
const SPAWNER_GONE: &str = "a process that makes stubs has gone";

struct Launcher {
    socket: OwnedFd,
    roots: Roots,
    source: Source,
    options: LauncherOptions,
    config: Arc<Config>,
    /// What the kernel lacks and can be done without.
    lacks: Vec<Capability>,
    mounts: Mounts,
    slots: Slots,
    runs: Vec<Run>,
    /// When the program's pages are given back, if nothing runs then.
    settles: Option<Instant>,
    observers: Observers,
    handout: Option<Handout>,
    null: OwnedFd,
    own: Own,
    spawners: Spawners,
}

/// Serves the agent at the other end of `socket` until that end closes; then every run is ended and its traces removed.
pub fn serve(socket: &OwnedFd, source: Source, options: LauncherOptions) -> io::Result<()> {
    let mut launcher = match Launcher::start(socket, source, options) {
        Ok(launcher) => launcher,
        Err(reason) => {
            send(socket.as_fd(), &Answer::Failed { reason: protocol::reason(&reason) }, &[])?;
            return Err(io::Error::other(reason));
        }
    };
    launcher.say(&Answer::Ready { digest: launcher.config.digest, lacks: launcher.lacks.clone() })?;
    let served = loop {
        match launcher.turn() {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            // The agent died before it was answered.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    launcher.end_all();
    served
}

impl Launcher {
    fn start(socket: &OwnedFd, source: Source, options: LauncherOptions) -> Result<Self, String> {
        // The kernel reaps the spawners, this process's only children, by itself.
        ignore_sigchld().map_err(|e| format!("ignoring SIGCHLD: {e}"))?;
        let config = source.load().map_err(|e| e.to_string())?.into_commands();
        let slots = Slots::create(config.limits.concurrent_runs, true);
        let lacks = capabilities::lacking_with(slots.as_ref().ok());
        // Rather than what came of it.
        if let Some(reason) = capabilities::stopping(&lacks) {
            return Err(reason);
        }
        // Not before the slots: a kernel that has groups of real-time processes gives no controller to a tree with such a process.
        if options.realtime {
            realtime::launcher_goes_first();
        }
        let mounted = options.mounted_procfs || lacks.contains(&Capability::ProcfsPidns);
        let procfs = if mounted { Procfs::Mounted } else { Procfs::Pidns };
        let handout = options.run_directory.as_deref().map(Handout::open).transpose()?;
        // Before the template is built, so that no change of the mounts after that goes unnoticed.
        let mut roots = Roots::open().map_err(|e| format!("the mount namespaces: {e}"))?;
        let programs = roots.enter_for(&config).map_err(|e| format!("probe_root: host: {e}"))?;
        Ok(Self {
            socket: socket.try_clone().map_err(|e| e.to_string())?,
            roots,
            source,
            mounts: Mounts::new(&programs).map_err(|e| e.to_string())?,
            slots: slots.map_err(|e| e.to_string())?,
            runs: Vec::new(),
            settles: Some(Instant::now()),
            observers: Observers::start(&programs, procfs).map_err(|e| e.to_string())?,
            options,
            handout,
            own: Own::find().map_err(|e| format!("/proc/self/ns: {e}"))?,
            null: File::open("/dev/null").map_err(|e| format!("/dev/null: {e}"))?.into(),
            spawners: Spawners::start().map_err(|e| format!("starting the stub's program: {e}"))?,
            config: Arc::new(config),
            lacks,
        })
    }

    /// One round of the loop; false when the agent has gone.
    fn turn(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        let due = self.mounts.due();
        let settles = self.settles.filter(|_| self.runs.is_empty());
        let next = self.runs.iter().filter_map(Run::next_look).chain(due).chain(settles).min();
        let timeout =
            next.map(|at| at.saturating_duration_since(now)).and_then(|t| Timespec::try_from(t).ok());

        // A table that has changed may change a thousand times more before it is looked at: those wake nobody. The other
        // file never has anything to say.
        let mount_table = if self.mounts.is_stale() { self.null.as_fd() } else { self.roots.table() };
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(mount_table, PollFlags::PRI),
        ];
        // They say nothing unasked, so this is their end. The next launcher has others.
        let spawners = self.spawners.watched().chain(self.runs.iter().map(Run::spawner));
        fds.extend(spawners.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let after_spawners = fds.len();
        fds.extend(
            self.handout.iter().map(|handout| PollFd::from_borrowed_fd(handout.watched(), PollFlags::IN)),
        );
        let after_handout = fds.len();
        fds.extend(
            self.runs.iter().flat_map(Run::watched).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let socket_ready = !fds.first().is_none_or(|fd| fd.revents().is_empty());
        let mounts_changed = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if fds.get(2..after_spawners).is_some_and(has_any) {
            return Err(io::Error::other(SPAWNER_GONE));
        }
        let is_asked = fds.get(after_spawners..after_handout).is_some_and(has_any);
        let mut rest = fds.get(after_handout..).unwrap_or_default();
        // Only these are looked at: each look takes system calls, and there may be as many runs as are allowed at once.
        let ready: Vec<bool> = self
            .runs
            .iter()
            .map(|run| {
                let (own, others) = rest.split_at_checked(run.watched().count()).unwrap_or((rest, &[]));
                rest = others;
                has_any(own)
            })
            .collect();
        drop(fds);
        if mounts_changed {
            self.mounts.changed();
        }

        self.look_after_runs(&ready)?;
        if let Some(handout) = self.handout.as_ref().filter(|_| is_asked) {
            handout.serve(self.mounts.template());
        }
        self.mounts.catch_up(|| programs(&self.config), &mut self.observers);
        if self.runs.is_empty() && self.settles.take_if(|at| *at <= Instant::now()).is_some() {
            resident::give_program_back();
        }
        if !socket_ready {
            return Ok(true);
        }
        match receive::<Ask>(self.socket.as_fd()) {
            Ok(Some((ask, fds))) => self.answer(ask, fds).map(|()| true),
            Ok(None) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // Something other than this program's agent speaks; it is not listened to.
                tracing::error!(%error, "an unknown message on the agent's socket");
                Ok(true)
            }
            // A socket pair whose other end died with unread messages says so once.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn answer(&mut self, ask: Ask, fds: Vec<OwnedFd>) -> io::Result<()> {
        match ask {
            Ask::Inspect { id } => {
                let inspection = fds.first().and_then(|pidfd| inspect(pidfd.as_fd(), &self.own));
                self.say(&Answer::Inspected { id, inspection })
            }
            Ask::Run { id, probe, trigger } => {
                let Ok([target, stdout, stderr]) = <[OwnedFd; 3]>::try_from(fds) else {
                    let reason = "a run needs three fds".to_owned();
                    return self.say(&Answer::not_begun(id, End::Refused { reason }));
                };
                match self.start_run(
                    id,
                    &ProbeName::new(&probe),
                    &TriggerName::new(&trigger),
                    target,
                    [stdout, stderr],
                ) {
                    Ok(run) => {
                        self.runs.push(run);
                        Ok(())
                    }
                    Err(end) => self.say(&Answer::not_begun(id, end)),
                }
            }
            Ask::Cancel { id } => {
                self.runs.iter_mut().filter(|run| run.id == id).for_each(Run::cancel);
                Ok(())
            }
            Ask::Ping { id } => {
                // Without it a launcher is none, and the keeper is to start another one.
                self.spawners.ping()?;
                self.say(&Answer::Pong { id })
            }
            Ask::Reload { id, digest } => {
                let error = self.reload(digest).err().map(|error| protocol::reason(&error));
                self.say(&Answer::Reloaded { id, error })
            }
        }
    }

    fn start_run(
        &mut self,
        id: u64,
        probe: &ProbeName,
        trigger: &TriggerName,
        target: OwnedFd,
        outputs: [OwnedFd; 2],
    ) -> Result<Run, End> {
        let config = Arc::clone(&self.config);
        let probe = config.runnable(probe).map_err(|reason| End::Refused { reason })?;
        let about = inspect::target(target.as_fd(), &self.own).ok_or(End::TargetGone)?;
        let allowed = match config.triggers.get(trigger) {
            Some(rule) => rule.allow_unsafe_joined && rule.probes.contains(&probe.name),
            None => trigger.as_str() == TriggerName::CLI && self.options.allow_unsafe_joined,
        } || of_host::is_one(&about, target.as_fd(), &self.own, &config.targets);
        let reason = || format!("an argument of {} holds a NUL byte", probe.name);
        let image = Image::of(probe, about.inner_pid).ok_or_else(|| End::Refused { reason: reason() })?;
        let task = Task { id, probe: Arc::clone(probe), allowed, about, image, target, outputs };
        let observer = match self.options.isolation {
            Some(Word::Joined) => None,
            Some(Word::Observer) => Some(probe.isolation.observer().cloned().unwrap_or_default()),
            None => probe.isolation.observer().cloned(),
        };
        self.begin(&task, observer.as_ref())
    }

    fn begin(&mut self, task: &Task, observer: Option<&Observer>) -> Result<Run, End> {
        let mut context = Context {
            template: self.mounts.template().namespace(),
            null: self.null.as_fd(),
            spawners: &mut self.spawners,
            slots: &mut self.slots,
            alone: self.runs.is_empty(),
        };
        match observer {
            Some(observer) => self.observers.start_run(task, observer, &mut context),
            None => joined::start_run(task, self.mounts.template().root(), &mut context),
        }
    }

    /// Moves every run on that is ready or due, answers those that have ended and takes their slots back.
    fn look_after_runs(&mut self, ready: &[bool]) -> io::Result<()> {
        let now = Instant::now();
        let mut orphaned = false;
        for (mut run, ready) in std::mem::take(&mut self.runs).into_iter().zip(ready) {
            if !ready && run.next_look().is_none_or(|at| now < at) {
                self.runs.push(run);
                continue;
            }
            let (mut answer, over) = run.advance(now);
            if run.is_orphaned() {
                orphaned = true;
                continue;
            }
            if over {
                self.settles = Some(now + SETTLED);
                let (spawner, slot, clean) = run.into_parts();
                self.slots.give_back(slot, clean);
                if let Some(spawner) = spawner {
                    self.spawners.give_back(spawner);
                }
            } else {
                self.runs.push(run);
            }
            if let Some(Answer::Done { id, end, .. }) = &answer
                && let Some(instead) = self.observers.instead_of(*id, end)
            {
                answer = self.start_joined(&instead);
            }
            if let Some(answer) = answer {
                self.say(&answer)?;
            }
        }
        // The others are still there, to be ended in an orderly way.
        if orphaned {
            return Err(io::Error::other(SPAWNER_GONE));
        }
        if self.runs.is_empty() {
            self.spawners.trim();
        }
        Ok(())
    }

    /// Where an observer was not possible and the probe allows it. An answer if this is not possible either.
    fn start_joined(&mut self, instead: &Task) -> Option<Answer> {
        match self.begin(instead, None) {
            Ok(run) => {
                self.runs.push(run);
                None
            }
            Err(end) => Some(Answer::not_begun(instead.id, end)),
        }
    }

    fn reload(&mut self, digest: [u8; 32]) -> Result<(), String> {
        let loaded = self.roots.at_home(|| self.source.load()).map_err(|e| e.to_string())?;
        let config = loaded.map_err(|e| e.to_string())?.into_commands();
        if config.digest != digest {
            return Err(format!("{} changed while it was read; reload again", self.source));
        }
        self.roots.enter(config.probe_root).map_err(|e| format!("probe_root: host: {e}"))?;
        self.config = Arc::new(config);
        self.mounts.rebuild(&programs(&self.config), &mut self.observers);
        Ok(())
    }

    /// Drops every leash and gives the stubs a moment to reap; `Slots` kills what is left when it is dropped.
    fn end_all(&mut self) {
        self.runs.iter_mut().for_each(Run::cancel);
        let deadline = Instant::now() + run::GRACE;
        while !self.runs.is_empty() && Instant::now() < deadline {
            let mut fds: Vec<_> = self
                .runs
                .iter()
                .flat_map(Run::watched)
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
                .collect();
            let timeout = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
            if poll(&mut fds, timeout.as_ref()).is_err() {
                break;
            }
            drop(fds);
            let now = Instant::now();
            self.runs.retain_mut(|run| !run.advance(now).1);
        }
    }

    fn say(&self, answer: &Answer) -> io::Result<()> {
        send(self.socket.as_fd(), answer, &[])
    }
}

fn has_any(fds: &[PollFd<'_>]) -> bool {
    fds.iter().any(|fd| !fd.revents().is_empty())
}
