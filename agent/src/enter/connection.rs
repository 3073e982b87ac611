//! What the agent has with one launcher as long as that one lives: its socket, and who waits for which answer.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};

use super::EnterError;
use super::client::watch_socket;
use super::pipes::{Capped, read_capped};
use super::protocol::{Answer, Ask, receive, send};
use super::watch::watch_for_room;
use crate::model::ContainerId;

#[derive(Debug)]
pub(super) struct Connection {
    socket: AsyncFd<OwnedFd>,
    /// SHA-256 of the configuration that the launcher read at its start.
    pub(super) digest: [u8; 32],
    /// Runs that were answered as stuck and have not gone yet. Kept by the one who reads the answers, in their order.
    stuck: Mutex<HashMap<u64, ContainerId>>,
    /// Who waits for which answer; `None` once the launcher has gone. Std mutexes: never held across an await.
    pending: Mutex<Option<HashMap<u64, Waiting>>>,
    /// Somebody has begun to wait.
    awaited: Notify,
}

#[derive(Debug)]
struct Waiting {
    tell: oneshot::Sender<Answer>,
    /// The container, if it is a run that is waited for.
    container: Option<ContainerId>,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, digest: [u8; 32]) -> Result<Arc<Self>, EnterError> {
        let (stuck, pending) = (Mutex::default(), Mutex::new(Some(HashMap::new())));
        Ok(Arc::new(Self { socket: watch_socket(socket)?, digest, stuck, pending, awaited: Notify::new() }))
    }

    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiting>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stuck_runs(&self) -> MutexGuard<'_, HashMap<u64, ContainerId>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_open(&self) -> bool {
        self.waiting().is_some()
    }

    pub(super) fn stuck(&self) -> usize {
        self.stuck_runs().len()
    }

    pub(super) fn is_stuck_in(&self, container: &ContainerId) -> bool {
        self.stuck_runs().values().any(|stuck| stuck == container)
    }

    /// The launcher sees it as the agent's end.
    pub(super) fn shut_down(&self) {
        let _ = rustix::net::shutdown(self.socket.get_ref(), rustix::net::Shutdown::Both);
    }

    pub(super) fn expect(
        &self,
        id: u64,
        container: Option<&ContainerId>,
    ) -> Result<(u64, oneshot::Receiver<Answer>), EnterError> {
        let (tell, answer) = oneshot::channel();
        let waiting = Waiting { tell, container: container.cloned() };
        self.waiting().as_mut().ok_or(EnterError::LauncherGone)?.insert(id, waiting);
        self.awaited.notify_one();
        Ok((id, answer))
    }

    /// Returns while somebody waits for an answer, or when the launcher has gone.
    pub(super) async fn awaited(&self) {
        while self.waiting().as_ref().is_some_and(HashMap::is_empty) {
            self.awaited.notified().await;
        }
    }

    pub(super) async fn send(&self, ask: &Ask, fds: &[BorrowedFd<'_>]) -> Result<(), EnterError> {
        loop {
            match send(self.socket.get_ref().as_fd(), ask, fds) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(()) => return Ok(()),
                Err(_) => return Err(self.unsent(ask, EnterError::LauncherGone)),
            }
            let room = self.socket.get_ref().try_clone().and_then(watch_for_room);
            let system = |source| EnterError::System { call: "watching for room", source };
            let room = room.map_err(|source| self.unsent(ask, system(source)))?;
            let _ready = room.writable().await.map_err(|_| self.unsent(ask, EnterError::LauncherGone))?;
        }
    }

    /// Nobody waits for the answer to what was not asked.
    fn unsent(&self, ask: &Ask, error: EnterError) -> EnterError {
        let id = match ask {
            Ask::Inspect { id } | Ask::Run { id, .. } | Ask::Ping { id } | Ask::Reload { id, .. } => id,
            // The run that it is about is waited for as before.
            Ask::Cancel { .. } => return error,
        };
        if let Some(pending) = self.waiting().as_mut() {
            pending.remove(id);
        }
        error
    }

    pub(super) async fn answer(
        &self,
        id: u64,
        answer: oneshot::Receiver<Answer>,
        deadline: Duration,
    ) -> Result<Answer, EnterError> {
        let got = tokio::time::timeout(deadline, answer).await;
        if let Some(pending) = self.waiting().as_mut() {
            pending.remove(&id);
        }
        match got {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_dropped)) => Err(EnterError::LauncherGone),
            Err(_late) => Err(EnterError::Launcher(format!("no answer within {} s", deadline.as_secs()))),
        }
    }

    /// Reads both streams to their caps, from `begin` on; the first to exceed its cap ends the run.
    pub(super) async fn read_both(
        &self,
        id: u64,
        begin: impl Future,
        pipes: [OwnedFd; 2],
        cap: usize,
        into: [&mut Capped; 2],
    ) {
        begin.await;
        let [a, b] = pipes;
        let [into_a, into_b] = into;
        let one = async |pipe: &OwnedFd, into: &mut Capped| {
            if read_capped(pipe, cap, into).await.is_err() || into.truncated {
                let _ = self.send(&Ask::Cancel { id }, &[]).await;
            }
        };
        tokio::join!(one(&a, into_a), one(&b, into_b));
    }

    /// Hands each answer to whoever waits for it, until the launcher closes its end; then everybody is told.
    pub(super) async fn read_answers(&self) {
        loop {
            let Ok(mut ready) = self.socket.readable().await else { break };
            let answer = match ready.try_io(|socket| receive::<Answer>(socket.as_fd())) {
                Ok(Ok(Some((answer, _fds)))) => answer,
                Ok(Ok(None)) => break,
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the launcher's message could not be read");
                    break;
                }
                Err(_would_block) => continue,
            };
            self.hand(answer);
        }
        self.waiting().take();
    }

    fn hand(&self, answer: Answer) {
        let id = match &answer {
            Answer::Inspected { id, .. }
            | Answer::Done { id, .. }
            | Answer::Reloaded { id, .. }
            | Answer::Pong { id } => *id,
            Answer::Unstuck { id } => {
                self.stuck_runs().remove(id);
                return;
            }
            Answer::Ready { .. } | Answer::Failed { .. } => return,
        };
        let waiting = self.waiting().as_mut().and_then(|pending| pending.remove(&id));
        if let Some(Waiting { tell, container }) = waiting {
            if let (Answer::Done { stuck: true, .. }, Some(container)) = (&answer, container) {
                self.stuck_runs().insert(id, container);
            }
            // The asker may have given up in the meantime.
            let _ = tell.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_finds_the_queue_full_waits_for_room() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let connection = Connection::new(ours, [0; 32]).unwrap();
        // A message takes at least a page's quarter of the buffer, which is some hundred KiB.
        let all = 2000;
        let sender = Arc::clone(&connection);
        let sent = tokio::spawn(async move {
            for id in 0..all {
                sender.send(&Ask::Ping { id }, &[]).await?;
            }
            Ok::<_, EnterError>(())
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!sent.is_finished(), "the queue holds them all");
        for expected in 0..all {
            let taken = tokio::task::block_in_place(|| receive::<Ask>(theirs.as_fd()));
            assert!(
                matches!(taken, Ok(Some((Ask::Ping { id }, _))) if id == expected),
                "{expected}: {taken:?}"
            );
        }
        sent.await.unwrap().unwrap();
        drop(theirs);
        assert!(matches!(connection.send(&Ask::Ping { id: all }, &[]).await, Err(EnterError::LauncherGone)));
    }
}
