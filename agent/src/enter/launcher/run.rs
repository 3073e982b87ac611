//! One run as the launcher sees it: from the fork of its stub to the answer, through a deadline that always holds.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use agent_stub::{END, ENDED, ENDED_BY_KILL, ENDED_TAMPERED, Fds, GONE, OURS, Order, STEPS, Step, Way};
use rustix::net::RecvFlags;
use rustix::process::Signal;

use super::super::protocol::Answer;
use super::inspect::{is_exiting, is_readable, signal};
use super::ours;
use super::plan::Image;
use super::slots::{Slot, Slots};
use super::spawner::{Heard, Spawner, Spawners};
use crate::config::RunLimits;
use crate::model::{self, End, Limit};

/// What the stub may take to kill and reap its tree before the launcher helps, and then again before the run is
/// answered as stuck.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// A stuck run is looked at this rarely, besides the moment when its stub's pipe closes.
const STUCK_INTERVAL: Duration = Duration::from_secs(30);

/// Why an observer is refused on a kernel that has no other way.
pub(super) const PROCFS_UNTRUSTED: &str = "procfs_untrusted: what is mounted on the container's /proc is not the procfs \
    of its processes; use Linux 6.18 or later, or fallback: joined";

/// Why it is refused where nobody but the container can look up a path in its root. FUSE does that
/// (`fuse_allow_current_process`), and fuse-overlayfs is the root of a user's containers where the kernel's overlay is root's.
pub(super) const PROCFS_CLOSED: &str = "procfs_closed: the container's root lets nobody from outside in, as a FUSE file \
    system of a user's does; use Linux 6.18 or later, or fallback: joined";

/// What a run borrows from the launcher to start.
pub(super) struct Context<'a> {
    pub(super) template: BorrowedFd<'a>,
    pub(super) null: BorrowedFd<'a>,
    pub(super) spawners: &'a mut Spawners,
    pub(super) slots: &'a mut Slots,
    /// Nothing else is run at this moment.
    pub(super) alone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Deadline,
    Cancelled,
    TargetGone,
}

#[derive(Debug)]
enum Phase {
    Running {
        deadline: Option<Instant>,
    },
    /// The stub is told to end it; `helped` once the launcher has killed by itself.
    Ending {
        why: Why,
        since: Instant,
        helped: bool,
    },
    /// Answered as stuck; the slot stays taken until the stub has gone.
    Stuck {
        looked: Instant,
    },
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: u64,
    target: OwnedFd,
    /// Dropping this ends the run, too.
    spawner: Spawner,
    /// How it ended; none where the stub was killed before it said anything.
    record: Option<[i32; 2]>,
    /// Nobody is left who could tell.
    orphaned: bool,
    slot: Slot,
    phase: Phase,
    /// What is told with the answer; none for a person's command.
    way: Option<model::Way>,
    /// An observer goes on when its container has ended: that moment may be what is looked for.
    observer: bool,
}

/// What is to be run, and how.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) image: &'a Image,
    pub(super) way: Way<'a>,
    /// Whether the container's pid namespace is joined, too.
    pub(super) join_pid: bool,
    /// Standard input, output and error.
    pub(super) stdio: [BorrowedFd<'a>; 3],
    pub(super) timeout: Option<Duration>,
    pub(super) limits: Option<RunLimits>,
    /// How it is called in the answer.
    pub(super) called: Option<model::Way>,
}

/// Has the stub of a run made.
pub(super) fn start(
    id: u64,
    target: &OwnedFd,
    launch: &Launch<'_>,
    context: &mut Context<'_>,
) -> Result<Run, End> {
    let mut slot = context.slots.take(launch.way.observer.is_some()).map_err(|error| {
        tracing::error!(%error, "no run slot could be made");
        failed(Step::Prepare, libc::EAGAIN)
    })?;
    if let Some(limits) = launch.limits {
        slot.limit(limits);
    }
    let order = Order {
        programs: &launch.image.programs,
        arguments: &launch.image.arguments,
        environment: &launch.image.environment,
        workdir: &launch.image.workdir,
        way: launch.way,
        join_pid: launch.join_pid,
        fds: Fds {
            target: target.as_fd(),
            template: context.template,
            stdio: launch.stdio,
            cgroup: slot.folder(),
            cgroup_procs: slot.procs(),
            cgroup_kill: slot.kill(),
            limiting: slot.limiting(),
        },
        unified: context.slots.born_in(),
        stay: context.alone,
    };
    let started = context.spawners.take().and_then(|spawner| {
        let target = target.try_clone()?;
        spawner.spawn(&order).map(|()| (spawner, target))
    });
    match started {
        Ok((spawner, target)) => Ok(Run {
            id,
            target,
            spawner,
            record: None,
            orphaned: false,
            slot,
            phase: Phase::Running { deadline: launch.timeout.map(|timeout| Instant::now() + timeout) },
            way: launch.called,
            observer: launch.way.observer.is_some(),
        }),
        Err(error) => {
            tracing::error!(%error, "the process that makes stubs does not answer");
            context.slots.give_back(slot, true);
            Err(failed(Step::Prepare, error.raw_os_error().unwrap_or(libc::EPIPE)))
        }
    }
}

fn failed(step: Step, errno: i32) -> End {
    End::EnterFailed { step: step_name(step as i32), errno }
}

fn step_name(step: i32) -> String {
    usize::try_from(step).ok().and_then(|step| STEPS.get(step)).unwrap_or(&"unknown").to_string()
}

impl Run {
    /// What to poll: the run's records, and while it goes on the container's init, readable when it has died.
    pub(super) fn watched(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let ends_with_target = !self.observer && matches!(self.phase, Phase::Running { .. });
        let target = ends_with_target.then(|| self.target.as_fd());
        std::iter::once(self.spawner.socket()).chain(target)
    }

    /// Readable when the process has gone without which there is no such run.
    pub(super) fn spawner(&self) -> BorrowedFd<'_> {
        self.spawner.process()
    }

    /// Whether the spawner has gone, too. Its socket says so before its process does.
    pub(super) fn is_orphaned(&self) -> bool {
        self.orphaned
    }

    /// What the next run can use, and whether it can use the slot. The spawner of a stub that was killed is of no use any
    /// more: the stub's command may be on its way still, in the memory that the three of them share.
    pub(super) fn into_parts(self) -> (Option<Spawner>, Slot, bool) {
        let ended_by_itself = matches!((&self.phase, self.record), (Phase::Running { .. }, Some([first, _])) if first != ENDED_BY_KILL);
        (self.record.map(|_| self.spawner), self.slot, ended_by_itself)
    }

    /// When this run wants to be looked at although nothing has happened.
    pub(super) fn next_look(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Running { deadline } => *deadline,
            Phase::Ending { since, helped: false, .. } => Some(*since + GRACE),
            Phase::Ending { since, helped: true, .. } => Some(*since + 2 * GRACE),
            Phase::Stuck { looked } => Some(*looked + STUCK_INTERVAL),
        }
    }

    /// Passes a signal on to the command.
    pub(super) fn signal(&self, signal: u8) {
        if matches!(self.phase, Phase::Running { .. }) {
            self.spawner.tell(signal);
        }
    }

    pub(super) fn cancel(&mut self) {
        if matches!(self.phase, Phase::Running { .. }) {
            self.end(Why::Cancelled, Instant::now());
        }
    }

    fn end(&mut self, why: Why, now: Instant) {
        self.spawner.tell(END);
        self.phase = Phase::Ending { why, since: now, helped: false };
    }

    /// Takes note of what has happened; gives an answer for the agent, and whether the stub has gone.
    pub(super) fn advance(&mut self, now: Instant) -> (Option<Answer>, bool) {
        if self.stub_has_gone() {
            let by_itself = matches!(self.record, Some([ENDED | ENDED_TAMPERED, _]));
            if !by_itself && !self.slot.is_empty() {
                // A stub that the container killed leaves its tree behind.
                self.slot.kill_all();
            }
            let answer = match self.phase {
                Phase::Stuck { .. } => Answer::Unstuck { id: self.id },
                _ => self.done(self.how_it_ended(), false),
            };
            return (Some(answer), true);
        }
        match self.phase {
            Phase::Running { deadline: Some(deadline) } if now >= deadline => self.end(Why::Deadline, now),
            // In a pid namespace of its own the kernel has killed the run already; in a shared one nobody else will.
            Phase::Running { .. } if !self.observer && is_readable(self.target.as_fd()) => {
                self.end(Why::TargetGone, now);
            }
            Phase::Ending { why, since, helped: false } if now >= since + GRACE => {
                // The container may have stopped the stub.
                self.force_stub(Signal::CONT);
                self.slot.kill_all();
                self.phase = Phase::Ending { why, since, helped: true };
            }
            Phase::Ending { why, since, helped: true } if now >= since + 2 * GRACE => {
                self.phase = Phase::Stuck { looked: now };
                self.kill_stub_if_alone();
                let end = match why {
                    Why::Deadline => End::TimedOut { stuck: true },
                    Why::Cancelled => End::Cancelled { stuck: true },
                    Why::TargetGone => End::TargetGone,
                };
                return (Some(self.done(end, true)), false);
            }
            Phase::Stuck { looked } if now >= looked + STUCK_INTERVAL => {
                self.phase = Phase::Stuck { looked: now };
                self.kill_stub_if_alone();
            }
            _ => {}
        }
        (None, false)
    }

    fn done(&mut self, end: End, stuck: bool) -> Answer {
        let (reached, held_back) = self.slot.reached();
        let timed_out = matches!(end, End::TimedOut { .. });
        let limit = reached.or((held_back && timed_out).then_some(Limit::Cpu));
        Answer::Done { id: self.id, end, stuck, way: self.way, limit }
    }

    /// A stub with nothing left to reap that still does not leave is being stopped again and again.
    fn kill_stub_if_alone(&self) {
        self.slot.kill_all();
        if self.slot.is_empty() {
            self.force_stub(Signal::KILL);
        }
    }

    fn force_stub(&self, which: Signal) {
        if let Some(stub) = self.spawner.stub() {
            signal(stub.as_fd(), which);
        }
    }

    /// Reads what has come, and answers what was asked; true when the stub is no process any more. Before that the next run in the container
    /// would find it there, as a neighbour with all of root's rights.
    fn stub_has_gone(&mut self) -> bool {
        self.record = match self.spawner.heard(RecvFlags::DONTWAIT) {
            Ok(Some(Heard::Asks(neighbour))) => {
                let is_ours = neighbour.is_some_and(|neighbour| ours::is_of_a_run(neighbour.as_fd()));
                self.spawner.tell(if is_ours { OURS } else { END });
                return false;
            }
            Ok(Some(Heard::Record(record))) => Some(record).filter(|[first, _]| *first != GONE),
            Ok(None) => {
                self.orphaned = true;
                None
            }
            Err(_nothing) => return false,
        };
        true
    }

    fn how_it_ended(&self) -> End {
        // A few reads of /proc, which are not made for a command that joined and ended by itself.
        let target_gone = || is_exiting(self.target.as_fd());
        match (&self.phase, self.record) {
            (Phase::Ending { why: Why::TargetGone, .. }, _) => End::TargetGone,
            (Phase::Ending { why: Why::Deadline, .. }, _) => End::TimedOut { stuck: false },
            (Phase::Ending { why: Why::Cancelled, .. }, _) => End::Cancelled { stuck: false },
            (_, Some([ENDED_TAMPERED, _])) => End::Tampered,
            (_, Some([step, libc::ESRCH])) if step == Step::JoinPidNs as i32 => End::TargetGone,
            // What it printed may be of a /proc in which nobody is left.
            (_, Some([ENDED | ENDED_BY_KILL, _])) if self.observer && target_gone() => End::TargetGone,
            (_, Some([ENDED | ENDED_BY_KILL, status])) if libc::WIFEXITED(status) => {
                End::Exited { code: libc::WEXITSTATUS(status) }
            }
            (_, Some([ENDED | ENDED_BY_KILL, status])) if !target_gone() => {
                End::Signaled { signal: libc::WTERMSIG(status) }
            }
            (_, Some([step, pid])) if step == Step::Neighbours as i32 => End::Refused {
                reason: format!(
                    "process {pid} of the container's pid namespace has SYS_PTRACE, SYS_ADMIN or PERFMON and \
                     could take over a joined process"
                ),
            },
            (_, Some([step, libc::EACCES])) if step == Step::ProcfsUntrusted as i32 && !target_gone() => {
                End::Refused { reason: PROCFS_CLOSED.to_owned() }
            }
            (_, Some([step, _])) if step == Step::ProcfsUntrusted as i32 && !target_gone() => {
                End::Refused { reason: PROCFS_UNTRUSTED.to_owned() }
            }
            // A stub has some twenty descriptors: only a container's hand makes that too many.
            (_, Some([_, libc::EMFILE])) if self.way == Some(model::Way::Joined) => End::Tampered,
            (_, Some([step, errno])) if !target_gone() => End::EnterFailed { step: step_name(step), errno },
            // The container's end kills whatever is in its pid namespace, mid-step or later.
            _ if target_gone() => End::TargetGone,
            // Killed by the container, or by the kernel for want of memory.
            _ => End::Signaled { signal: libc::SIGKILL },
        }
    }
}
