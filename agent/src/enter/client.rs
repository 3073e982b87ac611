//! The agent's end: starts the launcher process and asks it. Decides nothing about how a container is entered.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::keeper::Handed;
use super::kept::{Restart, keep_connected};
use super::pipes::{Capped, Copies, capture_pipe};
use super::protocol::{Answer, Ask, receive};
use super::watch::watch as watch_fd;
use super::{EnterError, Inspection};
use crate::config::{Probe, Source};
use crate::model::{Capability, ContainerId, End, Output, RunRequest, Stream};

/// The launcher reads and checks a file and builds its template within this; nothing in it waits for others.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(20);
/// A launcher that has gone has a successor within this, or its asker is told.
const RESTART_DEADLINE: Duration = Duration::from_secs(2);
/// An inspection reads a few files of /proc.
const INSPECT_DEADLINE: Duration = Duration::from_secs(5);
/// The launcher answers a run at the latest 4 s after its deadline; an answer later than this means that it hangs.
const RUN_BACKSTOP: Duration = Duration::from_secs(8);
/// Most commands have ended by then and have printed less than a pipe holds: nothing wakes the agent before the launcher's answer. One
/// that fills its pipe before stands still until then.
const UNWATCHED: Duration = Duration::from_millis(10);
/// After the launcher said that all of a run has gone, its pipes close at once.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);

/// How a launcher is started.
#[derive(Clone, Debug, Default)]
pub struct LauncherOptions {
    /// Runs of the trigger `cli` may enter containers that can take over a process beside them.
    pub allow_unsafe_joined: bool,
    /// Folder in which `launcher.sock` hands the template mount namespace to `parachute exec`.
    pub run_directory: Option<PathBuf>,
    /// Observers take the procfs that the container has mounted, as on kernels that have no other way.
    pub mounted_procfs: bool,
    /// The launcher goes before whatever has no real-time priority.
    pub realtime: bool,
    /// In place of what the probes say: for `parachute doctor`, which compares the two.
    pub isolation: Option<Word>,
}

/// How every probe is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Word {
    Observer,
    Joined,
}

/// What becomes of a run's output as it comes, and what ends the run early.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Whether the [`Output`] has the bytes; they are in memory then, up to the probe's cap.
    pub hold: bool,
    pub copies: Option<Copies>,
    pub cancel: CancellationToken,
}

/// A started launcher, before there is a runtime to talk to it from.
#[derive(Debug)]
pub struct LauncherProcess {
    socket: OwnedFd,
    control: Option<OwnedFd>,
    child: Child,
    /// SHA-256 of the configuration that it has read.
    pub digest: [u8; 32],
    /// What the kernel lacks, of what `enter` could use.
    pub lacks: Vec<Capability>,
}

impl LauncherProcess {
    /// Re-executes this program as `parachute launcher` and waits until it is ready. To be called while the process
    /// has one thread and all its capabilities. `log` are the flags that make its log look like this process's.
    ///
    /// With `kept` a keeper stands between the two, which puts another launcher in the place of one that has gone: for an
    /// agent, which has no right to do so later.
    pub fn start(
        config: &Source,
        options: &LauncherOptions,
        log: &[&str],
        kept: bool,
    ) -> Result<Self, EnterError> {
        let system = |call| move |source: io::Error| EnterError::System { call, source };
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|e| system("socketpair")(e.into()))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("launcher").args(log);
        if kept {
            command.arg("--keep");
        }
        match config {
            Source::File(path) => drop(command.arg("--config.file").arg(path)),
            Source::Bare => drop(command.arg("--bare")),
            Source::BuiltIn => {}
        }
        if options.allow_unsafe_joined {
            command.arg("--allow-unsafe-joined");
        }
        if options.mounted_procfs {
            command.arg("--mounted-procfs");
        }
        if options.realtime {
            command.arg("--realtime");
        }
        match options.isolation {
            Some(Word::Observer) => drop(command.args(["--isolation", "observer"])),
            Some(Word::Joined) => drop(command.args(["--isolation", "joined"])),
            None => {}
        }
        if let Some(folder) = &options.run_directory {
            command.arg("--run-directory").arg(folder);
        }
        // The socket is handed over as standard input: a named fd that needs no unsafe code to pass.
        let child = command
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .env_clear()
            .spawn()
            .map_err(system("starting the launcher"))?;
        drop(command);
        let patient = |socket: &OwnedFd| {
            let timeout = rustix::net::sockopt::Timeout::Recv;
            rustix::net::sockopt::set_socket_timeout(socket, timeout, Some(START_DEADLINE))
                .map_err(|e| system("setsockopt")(e.into()))
        };
        patient(&ours)?;
        let (socket, control) = if kept {
            let handed = receive::<Handed>(ours.as_fd()).map_err(system("waiting for the keeper"))?;
            let socket = handed.and_then(|(_, fds)| fds.into_iter().next());
            let socket =
                socket.ok_or_else(|| EnterError::Start("the keeper has handed nothing over".into()))?;
            patient(&socket)?;
            (socket, Some(ours))
        } else {
            (ours, None)
        };
        let (digest, lacks) = match receive(socket.as_fd()).map_err(system("waiting for the launcher"))? {
            Some((Answer::Ready { digest, lacks }, _)) => (digest, lacks),
            Some((Answer::Failed { reason }, _)) => return Err(EnterError::Start(reason)),
            other => return Err(EnterError::Start(format!("unexpected first message: {other:?}"))),
        };
        Ok(Self { socket, control, child, digest, lacks })
    }

    /// Takes it into the running tokio runtime. `restarted` hears each time when a launcher was put in place of one that
    /// had gone, and why.
    pub fn attach(self, restarted: impl Fn(Restart) + Send + Sync + 'static) -> Result<Launcher, EnterError> {
        let connection = Connection::new(self.socket, self.digest)?;
        let control = self.control.map(watch_socket).transpose()?.map(Arc::new);
        let (gone, watch_gone) = watch::channel(false);
        let (place, current) = watch::channel(Some(connection));
        let child = Mutex::new(self.child);
        let shared = Arc::new(Shared { next_id: AtomicU64::new(1), control: control.clone(), child });
        let launcher = Launcher { shared, current, gone: watch_gone };
        tokio::spawn(keep_connected(launcher.clone(), control, place, gone, restarted));
        Ok(launcher)
    }
}

#[derive(Debug)]
struct Shared {
    next_id: AtomicU64,
    /// The keeper's end, if there is one.
    control: Option<Arc<AsyncFd<OwnedFd>>>,
    /// The keeper, or the launcher itself. Reaped by [`Launcher::close`]; it leaves by itself when its socket closes.
    child: Mutex<Child>,
}

/// Handle to the launcher; cheap to clone.
#[derive(Clone, Debug)]
pub struct Launcher {
    shared: Arc<Shared>,
    /// None between a launcher's end and the next one's start.
    pub(super) current: watch::Receiver<Option<Arc<Connection>>>,
    gone: watch::Receiver<bool>,
}

impl Launcher {
    /// Reads what is known of the process behind `pidfd`.
    pub async fn inspect(&self, pidfd: BorrowedFd<'_>) -> Result<Inspection, EnterError> {
        let connection = self.connection().await?;
        let (id, answer) = connection.expect(self.next_id(), None)?;
        connection.send(&Ask::Inspect { id }, &[pidfd]).await?;
        match connection.answer(id, answer, INSPECT_DEADLINE).await? {
            Answer::Inspected { inspection, .. } => inspection.ok_or(EnterError::TargetGone),
            other => Err(unexpected(&other)),
        }
    }

    /// Runs `probe` in the request's container. Answers at the latest [`RUN_BACKSTOP`] after the probe's deadline.
    pub async fn run(
        &self,
        request: &RunRequest,
        probe: &Probe,
        listening: Listening,
    ) -> Result<Output, EnterError> {
        let started = Instant::now();
        let Listening { hold, copies, cancel } = listening;
        let pipe = || capture_pipe().map_err(|source| EnterError::System { call: "pipe2", source });
        let (stdout_read, stdout_write) = pipe()?;
        let (stderr_read, stderr_write) = pipe()?;
        let connection = self.connection().await?;
        let (id, answer) = connection.expect(self.next_id(), Some(&request.container.id))?;
        let ask = Ask::Run {
            id,
            probe: request.probe.as_str().to_owned(),
            trigger: request.trigger.as_str().to_owned(),
        };
        let fds = [request.container.pidfd.as_fd(), stdout_write.as_fd(), stderr_write.as_fd()];
        connection.send(&ask, &fds).await?;
        drop((stdout_write, stderr_write));

        let cap = usize::try_from(probe.max_output).unwrap_or(usize::MAX);
        let copied = copies.is_some();
        let mut stdout = Capped::new(Stream::Stdout, hold, copies.clone());
        let mut stderr = Capped::new(Stream::Stderr, hold, copies);
        let (mut read_all, mut cancelled) = (false, false);
        let ended = Notify::new();
        let begin = tokio::time::timeout(UNWATCHED, ended.notified());
        let end = {
            let pipes = [stdout_read, stderr_read];
            let read = connection.read_both(id, begin, pipes, cap, [&mut stdout, &mut stderr]);
            let wait = connection.answer(id, answer, probe.timeout + RUN_BACKSTOP);
            tokio::pin!(read, wait);
            loop {
                tokio::select! {
                    end = &mut wait => {
                        ended.notify_one();
                        // The tree has gone, so the pipes are closing; a stuck process may still hold them.
                        read_all = read_all || tokio::time::timeout(DRAIN_DEADLINE, read).await.is_ok();
                        break end;
                    }
                    () = &mut read, if !read_all => read_all = true,
                    () = cancel.cancelled(), if !cancelled => {
                        cancelled = true;
                        // An error is a launcher that has gone, which ends the wait.
                        let _ = connection.send(&Ask::Cancel { id }, &[]).await;
                    }
                }
            }
        };
        let (end, way, limit) = match end {
            Ok(Answer::Done { end, way, limit, .. }) => (end, way, limit),
            Ok(other) => return Err(unexpected(&other)),
            Err(error) => {
                // Nobody waits for this run any more; the launcher is told, should it ever listen again.
                let _ = connection.send(&Ask::Cancel { id }, &[]).await;
                return Err(error);
            }
        };
        // A taker that is too slow has not got the rest, and nobody must think that this was all.
        let cut_off = copied && !read_all && matches!(end, End::Exited { .. } | End::Signaled { .. });
        Ok(Output {
            truncated: stdout.truncated || stderr.truncated || cut_off,
            stdout: stdout.bytes,
            stderr: stderr.bytes,
            end,
            way,
            limit,
            duration: started.elapsed(),
        })
    }

    /// Asks the launcher to swap to the configuration with this digest.
    pub async fn reload(&self, digest: [u8; 32]) -> Result<(), EnterError> {
        let connection = self.connection().await?;
        let (id, answer) = connection.expect(self.next_id(), None)?;
        connection.send(&Ask::Reload { id, digest }, &[]).await?;
        match connection.answer(id, answer, START_DEADLINE).await? {
            Answer::Reloaded { error: None, .. } => Ok(()),
            Answer::Reloaded { error: Some(error), .. } => Err(EnterError::Launcher(error)),
            other => Err(unexpected(&other)),
        }
    }

    /// Number of runs of which a process in D state is still there.
    pub fn stuck(&self) -> usize {
        self.current.borrow().as_ref().map_or(0, |connection| connection.stuck())
    }

    /// Whether one of them is in this container.
    pub fn is_stuck_in(&self, container: &ContainerId) -> bool {
        self.current.borrow().as_ref().is_some_and(|connection| connection.is_stuck_in(container))
    }

    /// Ends the launcher, which ends its runs and removes its traces first; waits for that at most `deadline`.
    pub async fn close(&self, deadline: Duration) {
        // Shutting down is what it sees as the agent's end; the fd itself goes with the last handle.
        if let Some(connection) = &*self.current.borrow() {
            connection.shut_down();
        }
        if let Some(control) = &self.shared.control {
            let _ = rustix::net::shutdown(control.get_ref(), rustix::net::Shutdown::Both);
        }
        if tokio::time::timeout(deadline, self.gone()).await.is_err() {
            tracing::warn!(?deadline, "the launcher has not left yet");
            return;
        }
        // Its end of the socket closes as it exits, so this waits for an exit that is under way.
        let shared = Arc::clone(&self.shared);
        let reap = tokio::task::spawn_blocking(move || {
            shared.child.lock().unwrap_or_else(PoisonError::into_inner).wait()
        });
        let _ = tokio::time::timeout(deadline, reap).await;
    }

    /// Waits until a launcher has taken the place of one that has gone; gives the digest of what it has read.
    pub async fn successor(&mut self) -> [u8; 32] {
        while self.current.changed().await.is_ok() {
            if let Some(connection) = &*self.current.borrow_and_update() {
                return connection.digest;
            }
        }
        std::future::pending().await
    }

    /// Returns when the launcher has gone and there will be no other.
    pub async fn gone(&self) {
        // An error means that the reader task has ended, which is the same news.
        let _ = self.gone.clone().wait_for(|gone| *gone).await;
    }

    /// Returns when there is a launcher that can be asked.
    pub async fn connected(&self) {
        if self.open().await.is_none() {
            // There will be none any more.
            std::future::pending::<()>().await;
        }
    }

    /// The launcher that is there, or the next one if it comes soon.
    async fn connection(&self) -> Result<Arc<Connection>, EnterError> {
        let found = tokio::time::timeout(RESTART_DEADLINE, self.open()).await;
        found.ok().flatten().ok_or(EnterError::LauncherGone)
    }

    async fn open(&self) -> Option<Arc<Connection>> {
        let mut current = self.current.clone();
        let is_open =
            |place: &Option<Arc<Connection>>| place.as_ref().is_some_and(|connection| connection.is_open());
        current.wait_for(is_open).await.ok()?.clone()
    }

    pub(super) fn next_id(&self) -> u64 {
        self.shared.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
impl Launcher {
    /// One whose connections a test hands over: see `played`.
    pub(super) fn played(
        current: watch::Receiver<Option<Arc<Connection>>>,
        gone: watch::Receiver<bool>,
    ) -> Self {
        let child = Mutex::new(Command::new("true").spawn().unwrap());
        Self { shared: Arc::new(Shared { next_id: AtomicU64::new(1), control: None, child }), current, gone }
    }
}

/// Takes a socket into the runtime.
pub(super) fn watch_socket(socket: OwnedFd) -> Result<AsyncFd<OwnedFd>, EnterError> {
    rustix::io::ioctl_fionbio(&socket, true)
        .map_err(|e| EnterError::System { call: "ioctl(FIONBIO)", source: e.into() })?;
    watch_fd(socket).map_err(|source| EnterError::System { call: "watching the launcher's socket", source })
}

fn unexpected(answer: &Answer) -> EnterError {
    EnterError::Launcher(format!("unexpected answer {answer:?}"))
}
