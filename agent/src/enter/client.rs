//! The agent's end: starts the launcher process and asks it. Decides nothing about how a container is entered.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::pipes::{Capped, capture_pipe, read_capped};
use super::protocol::{Answer, Ask, receive, send};
use super::watch::watch;
use super::{EnterError, Inspection};
use crate::config::{Probe, Source};
use crate::model::{ContainerId, Output, RunRequest};

/// The launcher reads and checks a file and builds its template within this; nothing in it waits for others.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// An inspection reads a few files of /proc.
const INSPECT_DEADLINE: Duration = Duration::from_secs(5);
/// The launcher answers a run at the latest 4 s after its deadline; an answer later than this means that it hangs.
const RUN_BACKSTOP: Duration = Duration::from_secs(8);
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
    /// In place of what the probes say: for `parachute doctor`, which compares the two.
    pub isolation: Option<Word>,
}

/// How every probe is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Word {
    Observer,
    Joined,
}

/// A started launcher, before there is a runtime to talk to it from.
#[derive(Debug)]
pub struct LauncherProcess {
    socket: OwnedFd,
    child: Child,
    /// SHA-256 of the configuration that it has read.
    pub digest: [u8; 32],
}

impl LauncherProcess {
    /// Re-executes this program as `parachute launcher` and waits until it is ready. To be called while the process
    /// has one thread and all its capabilities. `log` are the flags that make its log look like this process's.
    pub fn start(config: &Source, options: &LauncherOptions, log: &[&str]) -> Result<Self, EnterError> {
        let system = |call| move |source: io::Error| EnterError::System { call, source };
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|e| system("socketpair")(e.into()))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("launcher").args(log);
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
        rustix::net::sockopt::set_socket_timeout(
            &ours,
            rustix::net::sockopt::Timeout::Recv,
            Some(START_DEADLINE),
        )
        .map_err(|e| system("setsockopt")(e.into()))?;
        let digest = match receive(ours.as_fd()).map_err(system("waiting for the launcher"))? {
            Some((Answer::Ready { digest }, _)) => digest,
            Some((Answer::Failed { reason }, _)) => return Err(EnterError::Start(reason)),
            other => return Err(EnterError::Start(format!("unexpected first message: {other:?}"))),
        };
        Ok(Self { socket: ours, child, digest })
    }

    /// Takes the socket into the running tokio runtime.
    pub fn attach(self) -> Result<Launcher, EnterError> {
        rustix::io::ioctl_fionbio(&self.socket, true)
            .map_err(|e| EnterError::System { call: "ioctl(FIONBIO)", source: e.into() })?;
        let socket = watch(self.socket)
            .map_err(|source| EnterError::System { call: "watching the launcher's socket", source })?;
        let (gone, watch_gone) = watch::channel(false);
        let shared = Arc::new(Shared {
            socket,
            next_id: AtomicU64::new(1),
            stuck: Mutex::default(),
            pending: Mutex::new(Some(HashMap::new())),
            child: Mutex::new(self.child),
        });
        tokio::spawn(read_answers(Arc::clone(&shared), gone));
        Ok(Launcher { shared, gone: watch_gone })
    }
}

#[derive(Debug)]
struct Shared {
    socket: AsyncFd<OwnedFd>,
    next_id: AtomicU64,
    /// Runs that were answered as stuck and have not gone yet. Kept by the one who reads the answers, in their order.
    stuck: Mutex<HashMap<u64, ContainerId>>,
    /// Who waits for which answer; `None` once the launcher has gone. Std mutexes: never held across an await.
    pending: Mutex<Option<HashMap<u64, Waiting>>>,
    /// Reaped by [`Launcher::close`]; it leaves by itself when the socket closes.
    child: Mutex<Child>,
}

#[derive(Debug)]
struct Waiting {
    tell: oneshot::Sender<Answer>,
    /// The container, if it is a run that is waited for.
    container: Option<ContainerId>,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiting>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stuck(&self) -> MutexGuard<'_, HashMap<u64, ContainerId>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handle to the launcher; cheap to clone.
#[derive(Clone, Debug)]
pub struct Launcher {
    shared: Arc<Shared>,
    gone: watch::Receiver<bool>,
}

impl Launcher {
    /// Reads what is known of the process behind `pidfd`.
    pub async fn inspect(&self, pidfd: BorrowedFd<'_>) -> Result<Inspection, EnterError> {
        let (id, answer) = self.expect(None)?;
        self.send(&Ask::Inspect { id }, &[pidfd]).await?;
        match self.answer(id, answer, INSPECT_DEADLINE).await? {
            Answer::Inspected { inspection, .. } => inspection.ok_or(EnterError::TargetGone),
            other => Err(unexpected(&other)),
        }
    }

    /// Runs `probe` in the request's container. Answers at the latest [`RUN_BACKSTOP`] after the probe's deadline.
    pub async fn run(&self, request: &RunRequest, probe: &Probe) -> Result<Output, EnterError> {
        let started = Instant::now();
        let pipe = || capture_pipe().map_err(|source| EnterError::System { call: "pipe2", source });
        let (stdout_read, stdout_write) = pipe()?;
        let (stderr_read, stderr_write) = pipe()?;
        let (id, answer) = self.expect(Some(&request.container.id))?;
        let ask = Ask::Run {
            id,
            probe: request.probe.as_str().to_owned(),
            trigger: request.trigger.as_str().to_owned(),
        };
        let fds = [request.container.pidfd.as_fd(), stdout_write.as_fd(), stderr_write.as_fd()];
        self.send(&ask, &fds).await?;
        drop((stdout_write, stderr_write));

        let cap = usize::try_from(probe.max_output).unwrap_or(usize::MAX);
        let (mut stdout, mut stderr) = (Capped::default(), Capped::default());
        let end = {
            let read = self.read_both(id, [stdout_read, stderr_read], cap, [&mut stdout, &mut stderr]);
            let wait = self.answer(id, answer, probe.timeout + RUN_BACKSTOP);
            tokio::pin!(read, wait);
            tokio::select! {
                end = &mut wait => {
                    // The tree has gone, so the pipes are closing; a stuck process may still hold them.
                    let _ = tokio::time::timeout(DRAIN_DEADLINE, read).await;
                    end
                }
                () = &mut read => wait.await,
            }
        };
        let (end, way, limit) = match end {
            Ok(Answer::Done { end, way, limit, .. }) => (end, way, limit),
            Ok(other) => return Err(unexpected(&other)),
            Err(error) => {
                // Nobody waits for this run any more; the launcher is told, should it ever listen again.
                let _ = self.send(&Ask::Cancel { id }, &[]).await;
                return Err(error);
            }
        };
        Ok(Output {
            truncated: stdout.truncated || stderr.truncated,
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
        let (id, answer) = self.expect(None)?;
        self.send(&Ask::Reload { id, digest }, &[]).await?;
        match self.answer(id, answer, START_DEADLINE).await? {
            Answer::Reloaded { error: None, .. } => Ok(()),
            Answer::Reloaded { error: Some(error), .. } => Err(EnterError::Launcher(error)),
            other => Err(unexpected(&other)),
        }
    }

    /// Number of runs of which a process in D state is still there.
    pub fn stuck(&self) -> usize {
        self.shared.stuck().len()
    }

    /// Whether one of them is in this container.
    pub fn is_stuck_in(&self, container: &ContainerId) -> bool {
        self.shared.stuck().values().any(|stuck| stuck == container)
    }

    /// Ends the launcher, which ends its runs and removes its traces first; waits for that at most `deadline`.
    pub async fn close(&self, deadline: Duration) {
        // Shutting down is what it sees as the agent's end; the fd itself goes with the last handle.
        let _ = rustix::net::shutdown(self.shared.socket.get_ref(), rustix::net::Shutdown::Both);
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

    /// Returns when the launcher has gone.
    pub async fn gone(&self) {
        // An error means that the reader task has ended, which is the same news.
        let _ = self.gone.clone().wait_for(|gone| *gone).await;
    }

    /// Reads both streams to their caps; the first to exceed its cap ends the run.
    async fn read_both(&self, id: u64, pipes: [OwnedFd; 2], cap: usize, into: [&mut Capped; 2]) {
        let [a, b] = pipes.map(watch);
        let [into_a, into_b] = into;
        let (Ok(a), Ok(b)) = (a, b) else { return };
        let one = async |pipe: &AsyncFd<OwnedFd>, into: &mut Capped| {
            if read_capped(pipe, cap, into).await.is_err() || into.truncated {
                let _ = self.send(&Ask::Cancel { id }, &[]).await;
            }
        };
        tokio::join!(one(&a, into_a), one(&b, into_b));
    }

    fn expect(
        &self,
        container: Option<&ContainerId>,
    ) -> Result<(u64, oneshot::Receiver<Answer>), EnterError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let (tell, answer) = oneshot::channel();
        let waiting = Waiting { tell, container: container.cloned() };
        self.shared.pending().as_mut().ok_or(EnterError::LauncherGone)?.insert(id, waiting);
        Ok((id, answer))
    }

    async fn send(&self, ask: &Ask, fds: &[BorrowedFd<'_>]) -> Result<(), EnterError> {
        loop {
            let mut ready = self.shared.socket.writable().await.map_err(|_| EnterError::LauncherGone)?;
            match ready.try_io(|socket| send(socket.as_fd(), ask, fds)) {
                Ok(sent) => return sent.map_err(|_| EnterError::LauncherGone),
                Err(_would_block) => {}
            }
        }
    }

    async fn answer(
        &self,
        id: u64,
        answer: oneshot::Receiver<Answer>,
        deadline: Duration,
    ) -> Result<Answer, EnterError> {
        let got = tokio::time::timeout(deadline, answer).await;
        if let Some(pending) = self.shared.pending().as_mut() {
            pending.remove(&id);
        }
        match got {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_dropped)) => Err(EnterError::LauncherGone),
            Err(_late) => Err(EnterError::Launcher(format!("no answer within {} s", deadline.as_secs()))),
        }
    }
}

fn unexpected(answer: &Answer) -> EnterError {
    EnterError::Launcher(format!("unexpected answer {answer:?}"))
}

/// Hands each answer to whoever waits for it, until the launcher closes its end.
async fn read_answers(shared: Arc<Shared>, gone: watch::Sender<bool>) {
    loop {
        let Ok(mut ready) = shared.socket.readable().await else { break };
        let answer = match ready.try_io(|socket| receive::<Answer>(socket.as_fd())) {
            Ok(Ok(Some((answer, _fds)))) => answer,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => {
                tracing::error!(%error, "the launcher's message could not be read");
                break;
            }
            Err(_would_block) => continue,
        };
        let id = match &answer {
            Answer::Inspected { id, .. } | Answer::Done { id, .. } | Answer::Reloaded { id, .. } => *id,
            Answer::Unstuck { id } => {
                shared.stuck().remove(id);
                continue;
            }
            Answer::Ready { .. } | Answer::Failed { .. } => continue,
        };
        let waiting = shared.pending().as_mut().and_then(|pending| pending.remove(&id));
        if let Some(Waiting { tell, container }) = waiting {
            if let (Answer::Done { stuck: true, .. }, Some(container)) = (&answer, container) {
                shared.stuck().insert(id, container);
            }
            // The asker may have given up in the meantime.
            let _ = tell.send(answer);
        }
    }
    shared.pending().take();
    gone.send_replace(true);
}
