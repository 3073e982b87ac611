//! The one thread that writes the journal. What has come while it wrote is written together, next: that is how a thousand
//! webhooks in a second are on the disk before they are answered, whatever one write costs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::counts::Counters;
use super::journal::{Contents, Journal, JournalError, Op};

/// Batches that wait to be written. Far more than connections are served at once; beyond it all is written anew.
const WAITING: usize = 1024;
/// Batches that are written together; a bound on how long one write takes.
const TOGETHER: usize = 512;
/// So long what nobody waits for may wait to be written together. A run whose capture is on the disk is known by that; another
/// one may be run once more if the agent is killed within this.
const LINGER: Duration = Duration::from_millis(50);
/// After a failure the disk is tried again when something is to be written, but not more often than this,
const PAUSE: Duration = Duration::from_millis(250);
/// and also when nothing is.
const RETRY: Duration = Duration::from_secs(2);

/// Changes that belong together, and who waits for them to be on the disk.
#[derive(Debug)]
struct Batch {
    ops: Vec<Op>,
    reply: Option<oneshot::Sender<bool>>,
}

/// What the writer asks of the room that it writes for.
pub(super) struct Hooks {
    /// Takes what was found in the journal; called once.
    pub(super) restore: Box<dyn Fn(Contents) + Send>,
    /// All that is to be in the journal now; None if the room has gone.
    pub(super) contents: Box<dyn Fn() -> Option<Contents> + Send>,
}

/// Handle to the thread. It ends when this is dropped, after having written what waits.
#[derive(Debug)]
pub(super) struct Writer {
    batches: SyncSender<Batch>,
    /// Something was not passed on: the journal is to be written anew as a whole.
    lost: Arc<AtomicBool>,
    /// False once the first attempt to open the journal is over.
    tried: tokio::sync::watch::Receiver<bool>,
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    pub(super) fn start(folder: PathBuf, hooks: Hooks, counters: Counters) -> std::io::Result<Self> {
        let (batches, receiver) = sync_channel(WAITING);
        let lost = Arc::new(AtomicBool::new(false));
        let (tell_tried, tried) = tokio::sync::watch::channel(false);
        let work =
            Work { folder, hooks, counters, journal: None, restored: false, anew: false, failed_at: None };
        let of_thread = Arc::clone(&lost);
        let thread = std::thread::Builder::new().name("alert-journal".to_owned()).spawn(move || {
            work.run(&receiver, &of_thread, &tell_tried);
        })?;
        Ok(Self { batches, lost, tried, thread })
    }

    /// Passes changes on; they are written in the order of the calls. The receiver tells whether they are on the disk.
    pub(super) fn write(&self, ops: Vec<Op>) -> oneshot::Receiver<bool> {
        let (reply, written) = oneshot::channel();
        // What cannot be passed on drops its sender, and that is told as a failure.
        if self.batches.try_send(Batch { ops, reply: Some(reply) }).is_err() {
            self.lost.store(true, Ordering::Release);
        }
        written
    }

    /// The same for what nobody waits for.
    pub(super) fn note(&self, ops: Vec<Op>) {
        if self.batches.try_send(Batch { ops, reply: None }).is_err() {
            self.lost.store(true, Ordering::Release);
        }
    }

    /// Returns when the journal was opened, or could not be.
    pub(super) fn tried(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut tried = self.tried.clone();
        async move { _ = tried.wait_for(|tried| *tried).await }
    }

    /// Lets it write what waits, and returns when the file is closed.
    pub(super) fn join(self) {
        drop(self.batches);
        // It has said what went wrong, if anything.
        let _ = self.thread.join();
    }
}

struct Work {
    folder: PathBuf,
    hooks: Hooks,
    counters: Counters,
    journal: Option<Journal>,
    restored: bool,
    /// The journal lacks something: it is to be written anew as a whole.
    anew: bool,
    failed_at: Option<Instant>,
}

/// Adds what has come meanwhile. Where nobody waits for an answer, more is waited for: that a run has ended is written down
/// with those that end next, and a write to the disk costs as much as a run.
fn gather(together: &mut Vec<Batch>, batches: &Receiver<Batch>) {
    let until = Instant::now() + LINGER;
    loop {
        together.extend(batches.try_iter().take(TOGETHER.saturating_sub(together.len())));
        let asked = together.is_empty() || together.iter().any(|batch| batch.reply.is_some());
        let left = until.saturating_duration_since(Instant::now());
        if asked || together.len() >= TOGETHER || left.is_zero() {
            return;
        }
        match batches.recv_timeout(left) {
            Ok(batch) => together.push(batch),
            Err(_) => return,
        }
    }
}

impl Work {
    fn run(mut self, batches: &Receiver<Batch>, lost: &AtomicBool, tried: &tokio::sync::watch::Sender<bool>) {
        self.write(&[]);
        tried.send_replace(true);
        loop {
            let first = if self.anew || self.journal.is_none() {
                batches.recv_timeout(RETRY)
            } else {
                batches.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            let mut together = match first {
                Ok(first) => vec![first],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            gather(&mut together, batches);
            self.anew |= lost.swap(false, Ordering::AcqRel);
            let written = self.write(&together);
            for batch in together {
                // Whoever waited may have left.
                let _ = batch.reply.map(|reply| reply.send(written));
            }
        }
    }

    fn write(&mut self, batches: &[Batch]) -> bool {
        if self.failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            self.anew = true;
            return false;
        }
        match self.try_write(batches) {
            Ok(()) => {
                if self.failed_at.take().is_some() {
                    tracing::info!(folder = %self.folder.display(), "queued runs for alerts are written down again");
                }
                true
            }
            Err(error) => {
                if self.failed_at.is_none() {
                    tracing::error!(folder = %self.folder.display(), %error, "queued runs for alerts cannot be written down");
                }
                self.counters.journal_failures.inc();
                (self.failed_at, self.anew) = (Some(Instant::now()), true);
                // After an error the library takes nothing more until the file is opened anew.
                self.journal = None;
                false
            }
        }
    }

    fn try_write(&mut self, batches: &[Batch]) -> Result<(), JournalError> {
        if self.journal.is_none() {
            self.journal = Some(self.open()?);
        }
        let Some(journal) = &self.journal else { return Ok(()) };
        if self.anew {
            // Everything that was passed on until now is in it.
            if let Some(contents) = (self.hooks.contents)() {
                journal.replace(&contents)?;
            }
            self.anew = false;
        } else if batches.iter().any(|batch| !batch.ops.is_empty()) {
            journal.apply(batches.iter().flat_map(|batch| &batch.ops))?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<Journal, JournalError> {
        let opened = match Journal::open(&self.folder) {
            Err(JournalError::Foreign(why)) => {
                let aside = Journal::set_aside(&self.folder).map_err(|error| {
                    JournalError::Unavailable(format!("{why}, and it cannot be set aside: {error}"))
                })?;
                self.counters.journals_set_aside.inc();
                tracing::error!(%why, moved_to = %aside.display(), "the journal of queued runs cannot be used; a new one is begun");
                self.anew |= self.restored;
                Journal::open(&self.folder)
            }
            opened => opened,
        };
        let (journal, contents) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // What was left is run also while the disk takes nothing, and written anew when it does.
                if !self.restored
                    && let Ok(contents) = Journal::peek(&self.folder)
                {
                    self.restored = true;
                    (self.hooks.restore)(contents);
                }
                return Err(error);
            }
        };
        if !self.restored {
            self.restored = true;
            (self.hooks.restore)(contents);
        }
        Ok(journal)
    }
}
