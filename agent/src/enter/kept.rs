//! The agent's part in keeping a launcher: while it waits for an answer it listens for the launcher's heartbeat, has one
//! that hangs killed, and takes the next one from the keeper. While nobody waits there is no heartbeat: an idle agent has
//! nothing to wake for, and of a launcher that is stopped meanwhile the kernel tells the keeper.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::client::{Launcher, START_DEADLINE};
use super::connection::Connection;
use super::keeper::{Handed, Order};
use super::protocol::{Answer, Ask, receive, send};
use super::watch::watch as watch_fd;

/// How often the launcher is asked for a sign of life while somebody waits for it, and how long it may take. One that hangs
/// is noticed within the sum, so that another is there within 2 s.
const HEARTBEAT: Duration = Duration::from_millis(300);
pub(super) const SILENCE: Duration = Duration::from_millis(1100);
/// An agent that was itself stopped finds the time over before it has read what came: it looks once more.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// Why there is another launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Died,
    Hung,
}

impl Restart {
    pub const ALL: [Self; 2] = [Self::Died, Self::Hung];

    /// The word used in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Died => "died",
            Self::Hung => "hung",
        }
    }
}

/// Serves one launcher after the other, until there is no next one.
pub(super) async fn keep_connected(
    launcher: Launcher,
    control: Option<Arc<AsyncFd<OwnedFd>>>,
    place: watch::Sender<Option<Arc<Connection>>>,
    gone: watch::Sender<bool>,
    restarted: impl Fn(Restart) + Send + Sync + 'static,
) {
    loop {
        let Some(connection) = place.borrow().clone() else { break };
        let why = serve(&launcher, &connection, control.as_deref()).await;
        // Runs that hang in the kernel belong to the one that has gone.
        place.send_replace(None);
        drop(connection);
        let Some(control) = control.as_deref() else { break };
        let Some((hung, next)) = next(control).await else { break };
        let why = if hung { Restart::Hung } else { why };
        tracing::warn!(reason = why.as_str(), "another launcher has taken the place of one that has gone");
        restarted(why);
        place.send_replace(Some(next));
    }
    gone.send_replace(true);
}

/// Reads a launcher's answers until it has gone.
async fn serve(launcher: &Launcher, connection: &Connection, control: Option<&AsyncFd<OwnedFd>>) -> Restart {
    let answers = connection.read_answers();
    tokio::pin!(answers);
    let Some(control) = control else {
        answers.await;
        return Restart::Died;
    };
    tokio::select! {
        // In this order: at the agent's own end both have been closed, and that is no fault of the keeper's.
        biased;
        () = &mut answers => return Restart::Died,
        () = silence(launcher, connection) => {}
        () = closed(control) => {
            tracing::error!("the launcher's keeper has gone");
            connection.shut_down();
            answers.await;
            return Restart::Died;
        }
    }
    if connection.is_open() {
        tracing::error!(silence = ?SILENCE, "the launcher gives no sign of life and is killed");
        // An error means that the keeper has gone, which is seen elsewhere.
        let _ = send(control.get_ref().as_fd(), &Order::Kill, &[]);
    }
    answers.await;
    Restart::Hung
}

/// Returns when the keeper has gone.
async fn closed(control: &AsyncFd<OwnedFd>) {
    let Ok(_ready) = control.readable().await else { return };
    let looked = recv(control.get_ref(), &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    if !matches!(looked, Ok((_, 0))) {
        // The next launcher is announced: the end of this one will be seen at once.
        std::future::pending::<()>().await;
    }
}

/// Returns when the launcher has not answered for too long.
async fn silence(launcher: &Launcher, connection: &Connection) {
    loop {
        connection.awaited().await;
        tokio::time::sleep(HEARTBEAT).await;
        let Ok((id, mut answer)) = connection.expect(launcher.next_id(), None) else { return };
        let asked = tokio::time::timeout(SILENCE, async {
            connection.send(&Ask::Ping { id }, &[]).await.ok()?;
            (&mut answer).await.ok()
        });
        if asked.await.is_err() && tokio::time::timeout(SECOND_LOOK, answer).await.is_err() {
            return;
        }
    }
}

/// The next launcher, once it is ready, and whether the keeper has killed the one before; none when the keeper has gone.
async fn next(control: &AsyncFd<OwnedFd>) -> Option<(bool, Arc<Connection>)> {
    let mut has_hung = false;
    loop {
        let (Handed { hung }, fds) = receive_from::<Handed>(control).await?;
        has_hung |= hung;
        let Some(socket) = fds.into_iter().next().and_then(|fd| {
            rustix::io::ioctl_fionbio(&fd, true).ok()?;
            watch_fd(fd).ok()
        }) else {
            continue;
        };
        let first = tokio::time::timeout(START_DEADLINE, receive_from::<Answer>(&socket)).await;
        match first {
            Ok(Some((Answer::Ready { digest, .. }, _))) => {
                if let Ok(connection) = Connection::new(socket.into_inner(), digest) {
                    return Some((has_hung, connection));
                }
            }
            Ok(Some((Answer::Failed { reason }, _))) => {
                tracing::error!(reason, "the next launcher did not start");
            }
            Ok(_) => tracing::error!("the next launcher ended at once"),
            Err(_late) => {
                tracing::error!("the next launcher is not ready in time and is killed");
                let _ = send(control.get_ref().as_fd(), &Order::Kill, &[]);
            }
        }
    }
}

async fn receive_from<T: serde::de::DeserializeOwned>(
    socket: &AsyncFd<OwnedFd>,
) -> Option<(T, Vec<OwnedFd>)> {
    loop {
        let mut ready = socket.readable().await.ok()?;
        match ready.try_io(|socket| receive::<T>(socket.as_fd())) {
            Ok(received) => return received.ok().flatten(),
            Err(_would_block) => {}
        }
    }
}
