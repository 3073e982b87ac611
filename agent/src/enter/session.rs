//! One command for a person at a terminal or a script: joined, outside the agent, with the person's own root rights.
//! Not for probes: those have no argv of their own and go through the launcher's socket.

#![allow(unsafe_code, reason = "fork has no safe form; DESIGN, law 4")]

mod policy;
mod pty;

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::ForkResult;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use rustix::termios::{Termios, Winsize};

use super::EnterError;
use super::launcher::guard::{self, Charge};
use super::launcher::{Image, Own, TARGET_PID, Template, handout, ignore_sigchld, inspect, is_exiting};
use super::protocol::{Answer, receive};
use crate::model::End;

/// A thread that has been joined is gone in microseconds, unless the processors have much else to do.
const THREADS_GO_WITHIN: Duration = Duration::from_secs(1);

/// The namespaces of a target that a command can join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Namespace {
    Pid,
    Net,
    Ipc,
    Uts,
    Cgroup,
    User,
    Mnt,
}

/// Whom a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Where a standard stream of the command leads.
#[derive(Debug)]
pub enum Stream {
    /// To this very file or pipe of the person's. Never a terminal: a process in the container could take it over.
    Direct(OwnedFd),
    /// To a pipe, whose other end is in [`Session`].
    Relayed,
    /// To `/dev/null`.
    Null,
}

/// How the command is connected.
#[derive(Debug)]
pub enum Stdio {
    /// A pseudo-terminal of its own, of this size; standard error elsewhere if the person has led it to a file or pipe.
    Terminal(Winsize, Option<OwnedFd>),
    /// Three streams: in, out, err.
    Streams([Stream; 3]),
}

/// Everything that is decided before anything is started.
#[derive(Debug)]
pub struct SessionPlan {
    pub target: OwnedFd,
    pub namespaces: Vec<Namespace>,
    /// Tried in this order; the first that is there is executed.
    pub programs: Vec<CString>,
    pub argv: Vec<CString>,
    /// `KEY=VALUE` each.
    pub environment: Vec<CString>,
    pub workdir: PathBuf,
    pub user: Option<User>,
    /// Mount a fresh sysfs that shows the joined network namespace; without it the host's `/sys` stays.
    pub fresh_sys: bool,
    pub timeout: Option<Duration>,
    pub allow_unsafe_target: bool,
    /// The target is a process of the host's and of no container, such as a service's.
    pub of_host: bool,
    /// Folder of a running agent's sockets.
    pub run_directory: PathBuf,
    pub stdio: Stdio,
    /// The person's terminal and its settings, put back by another process if this one is killed.
    pub restore: Option<(OwnedFd, Termios)>,
}

/// A running command. Dropping it, or dying, ends the command and all that it started.
#[derive(Debug)]
pub struct Session {
    /// The master of its terminal. Reading gives EIO once everything that had the terminal has gone.
    pub terminal: Option<OwnedFd>,
    /// The ends of its relayed streams. Dropping stdin is what its reader sees as the end of it.
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    guard: OwnedFd,
    /// None if it had ended before it could be looked at.
    guard_process: Option<OwnedFd>,
}

/// What the guard may take to leave after it has said how the command ended; it has nothing left to do.
const GUARD_LEAVES_WITHIN: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

impl Session {
    /// Starts the command. The calling process must have a single thread.
    ///
    /// # Errors
    /// [`EnterError::Refused`] for a target or namespaces that are not safe to join; [`EnterError::TargetGone`].
    pub fn start(plan: SessionPlan) -> Result<Self, EnterError> {
        only_one_thread()?;
        let own =
            Own::find().map_err(|source| EnterError::System { call: "stat of /proc/self/ns", source })?;
        let inspection = inspect(plan.target.as_fd(), &own).ok_or_else(|| unknown(plan.target.as_fd()))?;
        policy::check(&plan, &inspection)?;
        let (guard, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(system("socketpair"))?;
        let (stdio, devpts, ends) = connect(plan.stdio, plan.user.as_ref())?;
        let has = |namespace| plan.namespaces.contains(&namespace);
        let seen_pid = if has(Namespace::Pid) { inspection.inner_pid } else { inspection.pid };
        let environment = with_target(plan.environment, seen_pid);
        let template =
            template(&plan.run_directory, devpts.is_some(), &plan.programs, &plan.workdir, &plan.argv)?;
        let charge = Charge {
            socket: theirs,
            target: plan.target,
            template,
            image: Image {
                programs: plan.programs,
                arguments: plan.argv,
                environment,
                workdir: CString::new(plan.workdir.as_os_str().as_bytes()).map_err(|_| {
                    EnterError::Refused("the working directory's name holds a NUL byte".to_owned())
                })?,
            },
            join_pid: has(Namespace::Pid),
            join: plan.namespaces.iter().map(|namespace| namespace.flag()).fold(0, |all, flag| all | flag),
            join_user: has(Namespace::User),
            join_mnt: has(Namespace::Mnt),
            sys: if plan.fresh_sys || has(Namespace::Mnt) { None } else { Some(host_sys()?) },
            devpts,
            stdio,
            user: policy::user(plan.user, has(Namespace::User), &inspection)?,
            bounding: if has(Namespace::Mnt) { inspection.cap_bounding } else { u64::MAX },
            check_neighbours: has(Namespace::Pid) && !plan.allow_unsafe_target && !inspection.in_host_pid_ns,
            timeout: plan.timeout,
            restore: plan.restore,
        };
        // The foreground process has no other children; the kernel reaps this one.
        ignore_sigchld().map_err(system("sigaction"))?;
        let [terminal, stdin, stdout, stderr] = ends;
        // SAFETY: this process has one thread, so that the child finds every lock free and may do what it likes. It
        // ends with _exit and returns to no caller.
        match unsafe { nix::unistd::fork() } {
            Ok(ForkResult::Child) => {
                drop((guard, terminal, stdin, stdout, stderr));
                guard::keep(charge);
                // SAFETY: ends this process without running what the foreground process has registered for its end.
                unsafe { libc::_exit(0) }
            }
            Ok(ForkResult::Parent { child }) => {
                let guard_process =
                    Pid::from_raw(child.as_raw()).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
                drop(charge);
                ioctl_fionbio(&guard, true).map_err(system("ioctl(FIONBIO)"))?;
                Ok(Self { terminal, stdin, stdout, stderr, guard, guard_process })
            }
            Err(error) => Err(system("fork")(error)),
        }
    }

    /// Readable when [`Session::end`] has something to say.
    pub fn watched(&self) -> BorrowedFd<'_> {
        self.guard.as_fd()
    }

    /// How it ended; None while it runs. Everything of it has gone when this says something (or is stuck).
    pub fn end(&mut self) -> Result<Option<End>, EnterError> {
        match receive::<Answer>(self.guard.as_fd()) {
            Ok(Some((Answer::Done { end, stuck, .. }, _))) => {
                if let (Some(guard), false) = (&self.guard_process, stuck) {
                    let mut fds = [PollFd::from_borrowed_fd(guard.as_fd(), PollFlags::IN)];
                    // So that the kernel reaps it here, and it is not left to the host's init.
                    let _ = poll(&mut fds, Some(&GUARD_LEAVES_WITHIN));
                }
                Ok(Some(end))
            }
            Ok(Some((Answer::Failed { reason }, _))) => Err(EnterError::Launcher(reason)),
            Ok(Some(_)) => Ok(None),
            Ok(None) => Err(EnterError::Launcher("its guard process was killed".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(source) => Err(EnterError::System { call: "recvmsg", source }),
        }
    }

    /// Passes a signal on to the command itself, not to its children.
    pub fn signal(&self, signal: Signal) {
        self.tell(u8::try_from(signal.as_raw()).unwrap_or_default());
    }

    /// Kills the command and all that it started; [`Session::end`] follows.
    pub fn cancel(&mut self) {
        self.tell(guard::CANCEL);
    }

    /// A guard that has gone, or that is stopped and has a queue full of signals, hears nothing more.
    fn tell(&self, byte: u8) {
        let _ = rustix::net::send(&self.guard, &[byte], SendFlags::NOSIGNAL);
    }
}

impl Namespace {
    /// As the option names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::User => "user",
            Self::Mnt => "mnt",
        }
    }

    /// For the stub's setns(2); pid, user and mnt are joined in their own ways.
    fn flag(self) -> i32 {
        match self {
            Self::Net => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Pid | Self::User | Self::Mnt => 0,
        }
    }
}

/// The number of the target's process in the command's /proc, as probes are told it; what the person has set stays.
fn with_target(mut environment: Vec<CString>, pid: u32) -> Vec<CString> {
    let name = format!("{TARGET_PID}=");
    if !environment.iter().any(|set| set.as_bytes().starts_with(name.as_bytes())) {
        environment.extend(CString::new(format!("{name}{pid}")));
    }
    environment
}

fn system<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> EnterError {
    move |source| EnterError::System { call, source: source.into() }
}

/// Why nothing could be read of a target.
fn unknown(target: BorrowedFd<'_>) -> EnterError {
    if is_exiting(target) {
        return EnterError::TargetGone;
    }
    EnterError::Refused(
        "its namespaces may not be looked at: it has more rights than this process".to_owned(),
    )
}

/// A forked child of a process with several threads may find a lock taken by one that it does not have. One that has ended and been
/// joined is still listed until the kernel has let go of it, of which nobody is told.
fn only_one_thread() -> Result<(), EnterError> {
    let deadline = Instant::now() + THREADS_GO_WITHIN;
    loop {
        let threads =
            std::fs::read_dir("/proc/self/task").map_err(system("reading /proc/self/task"))?.count();
        if threads == 1 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(EnterError::Start(format!("{threads} threads at a fork")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The command's ends, its terminal's devpts, and the person's ends: terminal, input, output, error.
type Connected = ([OwnedFd; 3], Option<OwnedFd>, [Option<OwnedFd>; 4]);

fn connect(stdio: Stdio, user: Option<&User>) -> Result<Connected, EnterError> {
    let null = || std::fs::File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    let null = || null().map_err(system("opening /dev/null"));
    match stdio {
        Stdio::Terminal(size, stderr) => {
            let pty = pty::open(size, user).map_err(|(call, source)| EnterError::System { call, source })?;
            let slave = || pty.slave.try_clone().map_err(system("dup"));
            let stdio = [slave()?, slave()?, stderr.map_or_else(slave, Ok)?];
            Ok((stdio, Some(pty.devpts), [Some(pty.master), None, None, None]))
        }
        Stdio::Streams([stdin, stdout, stderr]) => {
            // The command's end and the person's, for a stream that goes one way or the other.
            let one = |stream, to_command: bool| -> Result<(OwnedFd, Option<OwnedFd>), EnterError> {
                match stream {
                    Stream::Direct(fd) => Ok((fd, None)),
                    Stream::Null => Ok((null()?, None)),
                    Stream::Relayed => {
                        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(system("pipe2"))?;
                        Ok(if to_command { (read, Some(write)) } else { (write, Some(read)) })
                    }
                }
            };
            let ((stdin, a), (stdout, b), (stderr, c)) =
                (one(stdin, true)?, one(stdout, false)?, one(stderr, false)?);
            Ok(([stdin, stdout, stderr], None, [None, a, b, c]))
        }
    }
}

/// The agent's template, if there is an agent and everything that this command names is in it; else all that the host
/// has mounted. A person at a terminal may go anywhere, so that a terminal means all.
fn template(
    folder: &Path,
    terminal: bool,
    programs: &[CString],
    workdir: &Path,
    argv: &[CString],
) -> Result<Template, EnterError> {
    let path = |text: &CString| PathBuf::from(OsStr::from_bytes(text.as_bytes()));
    // A file that an argument names may be yet to be made: its folder counts.
    let named =
        |text: &CString| path(text).parent().filter(|p| p.is_absolute() && p.exists()).map(Path::to_owned);
    let program = programs.iter().map(path).find(|program| program.exists());
    let needed: Vec<_> =
        argv.iter().skip(1).filter_map(named).chain(program).chain([workdir.to_owned()]).collect();
    let usable = |template: &Template| needed.iter().all(|path| template.shows(path));
    match (!terminal).then(|| handout::ask(folder)).flatten().filter(usable) {
        Some(template) => Ok(template),
        None => Template::whole().map_err(|error| EnterError::Start(error.to_string())),
    }
}

/// The host's `/sys` with all that is mounted below it.
fn host_sys() -> Result<OwnedFd, EnterError> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(rustix::fs::CWD, "/sys", flags).map_err(system("open_tree(/sys)"))
}
