//! The guard: a small launcher for one command of `parachute exec`, forked from it. It has the stub forked, it
//! outlives a foreground process that is killed, and then puts everything back: the command and its children are ended,
//! the run's cgroup is removed, the person's terminal gets its settings again.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use agent_stub::{Credentials, Way, close_all_but, forbid_core};
use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::super::protocol::{self, Answer, send};
use super::ignore_sigchld;
use super::inspect::stat_field;
use super::plan::Image;
use super::run::{Context, Launch, Run, start};
use super::slots::Slots;
use super::spawner::Spawners;
use super::template::Template;
use crate::enter::session::User;
use crate::model::End;

/// What the foreground process asks besides signals, which are their own numbers.
pub(in crate::enter) const CANCEL: u8 = 0;

/// Everything that the guard works with, prepared by the foreground process.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is one namespace or one check")]
pub(in crate::enter) struct Charge {
    pub(in crate::enter) socket: OwnedFd,
    pub(in crate::enter) target: OwnedFd,
    pub(in crate::enter) template: Template,
    pub(in crate::enter) image: Image,
    pub(in crate::enter) join_pid: bool,
    pub(in crate::enter) join: i32,
    pub(in crate::enter) join_user: bool,
    pub(in crate::enter) join_mnt: bool,
    pub(in crate::enter) sys: Option<OwnedFd>,
    pub(in crate::enter) devpts: Option<OwnedFd>,
    pub(in crate::enter) stdio: [OwnedFd; 3],
    pub(in crate::enter) user: Option<(User, Option<u32>)>,
    pub(in crate::enter) bounding: u64,
    pub(in crate::enter) check_neighbours: bool,
    pub(in crate::enter) timeout: Option<Duration>,
    pub(in crate::enter) restore: Option<(OwnedFd, Termios)>,
}

impl Charge {
    /// Every descriptor in it, ascending.
    fn fds(&self) -> Vec<RawFd> {
        let mut fds = vec![&self.socket, &self.target];
        fds.extend(&self.stdio);
        fds.extend(&self.sys);
        fds.extend(&self.devpts);
        fds.extend(self.restore.iter().map(|(terminal, _)| terminal));
        let template = [self.template.namespace(), self.template.root()].map(|fd| fd.as_raw_fd());
        let mut fds: Vec<_> = fds.into_iter().map(AsRawFd::as_raw_fd).chain(template).collect();
        fds.sort_unstable();
        fds
    }
}

/// Runs the command of `charge` to its end. To be called in a freshly forked process, which it makes its own.
pub(in crate::enter) fn keep(mut charge: Charge) {
    // Among what the foreground process has open are the leashes of its other commands.
    let _ = close_all_but(&charge.fds());
    let socket = std::mem::replace(&mut charge.socket, {
        let Ok(null) = std::fs::File::open("/dev/null") else { return };
        null.into()
    });
    let restore = charge.restore.take();
    let mut watch = Watch { socket, foreground_lives: true, restore };
    let answer = settle().and_then(|()| tend(charge, &mut watch));
    let answer = answer.unwrap_or_else(|reason| Answer::Failed { reason: protocol::reason(&reason) });
    let _ = send(watch.socket.as_fd(), &answer, &[]);
}

/// Out of the person's terminal and deaf to its signals: nothing but the end of its work ends the guard.
fn settle() -> Result<(), String> {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"parachute-guard");
    SigSet::all().thread_block().map_err(|e| format!("blocking signals: {e}"))?;
    // The kernel reaps the stub by itself.
    ignore_sigchld().map_err(|e| format!("ignoring SIGCHLD: {e}"))?;
    forget_words();
    // A container in the host's pid namespace sees it: no core of it, and no look into it.
    forbid_core()
        .map_err(rustix::io::Errno::from_raw_os_error)
        .and_then(|_| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|e| format!("forbidding core dumps: {e}"))?;
    // A pipe of the person's must not stay open because the guard has it, too.
    let null =
        std::fs::File::options().read(true).write(true).open("/dev/null").map_err(|e| e.to_string())?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null))
        .map_err(|e| format!("replacing the standard streams: {e}"))
}

/// Wipes the command line and the environment that this process was started with: whoever sees it could read them
/// (`/proc/PID/cmdline`), and `--env` may hold a secret.
#[allow(unsafe_code, reason = "the kernel has put them outside of what Rust knows of")]
fn forget_words() {
    // proc_pid_stat(5): arg_start, arg_end, env_start, env_end.
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    for (start, end) in [(48, 49), (50, 51)] {
        if let (Some(start), Some(end)) = (stat_field(&stat, start), stat_field(&stat, end)) {
            let length = usize::try_from(end.saturating_sub(start)).unwrap_or_default();
            // SAFETY: the kernel laid these bytes out at exec, at the writable top of the stack. This process has one
            // thread, and looks at neither its arguments nor its environment from here on; std keeps pointers to them,
            // which go on to lead to NUL bytes.
            unsafe { std::ptr::write_bytes(start as *mut u8, 0, length) };
        }
    }
}

/// Starts the command and sees it to its end; gives the answer back when all of it has gone.
fn tend(charge: Charge, watch: &mut Watch) -> Result<Answer, String> {
    // The stub's parent, which must outlive it to have it reaped. First, so that it gets ready while the slot is made.
    let mut spawners = Spawners::start().map_err(|e| format!("starting the stub's program: {e}"))?;
    let mut slots = Slots::create(1, false).map_err(|e| e.to_string())?;
    let mut run = match launch(charge, &mut slots, &mut spawners) {
        Ok(run) => run,
        Err(end) => return Ok(Answer::Done { id: 0, end, stuck: false, way: None, limit: None }),
    };
    let mut told = None;
    loop {
        let timeout = run
            .next_look()
            .map(|at| at.saturating_duration_since(Instant::now()))
            .and_then(|left| Timespec::try_from(left).ok());
        let mut fds: Vec<_> = run.watched().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        if watch.foreground_lives {
            fds.push(PollFd::from_borrowed_fd(watch.socket.as_fd(), PollFlags::IN));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("poll: {error}")),
        }
        drop(fds);
        for asked in watch.look() {
            match asked {
                CANCEL => run.cancel(),
                signal => run.signal(signal),
            }
        }
        if !watch.foreground_lives {
            run.cancel();
        }
        let (answer, over) = run.advance(Instant::now());
        if over {
            let (_spawner, slot, clean) = run.into_parts();
            slots.give_back(slot, clean);
            // A run that was told as stuck has been answered already; nobody may be there to hear this one.
            return Ok(told.or(answer).unwrap_or(Answer::Unstuck { id: 0 }));
        }
        if let Some(answer) = answer {
            // Stuck in the kernel: the person is told now, and the guard stays until it has gone.
            let _ = send(watch.socket.as_fd(), &answer, &[]);
            told = Some(Answer::Unstuck { id: 0 });
        }
    }
}

/// Everything of `charge` is let go of when the stub has its own copies.
fn launch(charge: Charge, slots: &mut Slots, spawners: &mut Spawners) -> Result<Run, End> {
    let [stdin, stdout, stderr] = &charge.stdio;
    let way = Way {
        join: charge.join,
        join_user: charge.join_user,
        join_mnt: charge.join_mnt,
        sys: charge.sys.as_ref().map(AsFd::as_fd),
        devpts: charge.devpts.as_ref().map(AsFd::as_fd),
        user: charge.user.as_ref().map(|(user, shield)| Credentials {
            uid: user.uid,
            gid: user.gid,
            groups: &user.groups,
            kept: shield.map_or(0, |shield| 1 << shield),
        }),
        bounding: charge.bounding,
        check_neighbours: charge.check_neighbours,
        check_limits: false,
        observer: None,
    };
    let launch = Launch {
        image: &charge.image,
        way,
        join_pid: charge.join_pid,
        stdio: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        timeout: charge.timeout,
        limits: None,
        called: None,
    };
    let mut context =
        Context { template: charge.template.namespace(), null: stdin.as_fd(), spawners, slots, alone: true };
    let started = start(0, &charge.target, &launch, &mut context);
    drop(charge);
    started
}

/// The foreground process at the other end.
#[derive(Debug)]
struct Watch {
    socket: OwnedFd,
    foreground_lives: bool,
    /// The person's terminal and the settings that it had.
    restore: Option<(OwnedFd, Termios)>,
}

impl Watch {
    /// What it has asked since the last look.
    fn look(&mut self) -> Vec<u8> {
        let mut asked = Vec::new();
        while self.foreground_lives && asked.len() < 64 {
            let mut byte = [0];
            match receive_byte(self.socket.as_fd(), &mut byte) {
                Ok(1..) => asked.extend(byte),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                Ok(0) | Err(_) => {
                    self.foreground_lives = false;
                    self.put_terminal_back();
                }
            }
        }
        asked
    }

    /// At once, before the shell that has the terminal next looks at it. One that was quicker, or a foreground process
    /// that ended well, has set it already, and then it is not touched.
    fn put_terminal_back(&self) {
        let Some((terminal, settings)) = &self.restore else { return };
        let mut raw = settings.clone();
        raw.make_raw();
        let is_raw = tcgetattr(terminal).is_ok_and(|now| {
            (now.local_modes, now.input_modes, now.output_modes)
                == (raw.local_modes, raw.input_modes, raw.output_modes)
        });
        if is_raw {
            let _ = tcsetattr(terminal, OptionalActions::Now, settings);
        }
    }
}

fn receive_byte(socket: BorrowedFd<'_>, byte: &mut [u8; 1]) -> rustix::io::Result<usize> {
    rustix::net::recv(socket, byte, RecvFlags::DONTWAIT).map(|(_, received)| received)
}
