//! A launcher that a test plays: it tells what it sees of processes, as the test would have it, and is away and back at the
//! test's word. It runs nothing.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::sync::watch;

use super::connection::Connection;
use super::launcher::{Own, inspect};
use super::protocol::{Answer, Ask, receive, send};
use super::{Inspection, Launcher};

/// Makes of what is seen of a process what is told.
pub type Alter = fn(&mut Inspection);

#[derive(Debug)]
pub struct Played {
    pub launcher: Launcher,
    place: watch::Sender<Option<Arc<Connection>>>,
    #[allow(dead_code, reason = "it is never said to have gone for good")]
    gone: watch::Sender<bool>,
    alter: Alter,
}

impl Played {
    /// It is away at first.
    pub fn new(alter: Alter) -> Self {
        let ((place, current), (gone, watch_gone)) = (watch::channel(None), watch::channel(false));
        Self { launcher: Launcher::played(current, watch_gone), place, gone, alter }
    }

    pub fn connect(&self) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let alter = self.alter;
        // It ends when the agent's end closes.
        std::thread::spawn(move || {
            let own = Own::find().unwrap();
            while let Ok(Some((ask, fds))) = receive::<Ask>(theirs.as_fd()) {
                let answer = match ask {
                    Ask::Inspect { id } => {
                        let mut inspection = fds.first().and_then(|pidfd| inspect(pidfd.as_fd(), &own));
                        inspection.as_mut().map(alter);
                        Answer::Inspected { id, inspection }
                    }
                    Ask::Ping { id } => Answer::Pong { id },
                    Ask::Run { .. } | Ask::Cancel { .. } | Ask::Reload { .. } => continue,
                };
                if send(theirs.as_fd(), &answer, &[]).is_err() {
                    break;
                }
            }
        });
        let connection = Connection::new(ours, [0; 32]).unwrap();
        self.place.send_replace(Some(Arc::clone(&connection)));
        tokio::spawn(async move { connection.read_answers().await });
    }

    pub fn disconnect(&self) {
        if let Some(connection) = self.place.send_replace(None) {
            connection.shut_down();
        }
    }
}
