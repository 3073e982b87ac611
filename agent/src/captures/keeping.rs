//! A run's output on its way to the disk. A thread of its own writes, because a disk may hang; between it and the run stands a
//! task that gives up on one that does, so that the run goes on. Most runs print little, and most that go well are not kept:
//! there is no thread, and nothing on the disk, before it is known that something is kept or more was printed than is held.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::disk::FolderError;
use super::draft::{BESIDES, Committed, Draft};
use super::{Shared, Writing, retain};
use crate::model::{RunId, Stream};

use super::record::Record;

/// Captures that are being made: of as many runs as there can be (256, `limits.concurrent_runs`), of those that have ended and
/// wait for the disk (64) or for a quiet moment, and of those that hang.
const MOST_WRITERS: usize = 256 + 64 + MOST_PUT_OFF + MOST_LATE;
/// Of these so many may hang: beyond that the disk gets no more to do until it has done something.
const MOST_LATE: usize = 8;
/// So many may wait for a quiet moment (`probes`): those of an alert for 170 containers with three probes.
pub const MOST_PUT_OFF: usize = 512;
/// Pieces that wait for the disk, of 64 KiB at most; as many again are in the run's hands.
const WAITING: usize = 4;
/// So long may the disk hold up a command.
const STALL: Duration = Duration::from_secs(3);
/// So long is the disk waited for at the end.
const FINISH: Duration = Duration::from_secs(5);
/// Bytes that wait in memory before there is a writer.
const HELD: usize = 16 * 1024;
/// Room is made again when a draft has grown by so much, in bytes.
const GROWTH: u64 = 256 * 1024;
/// zstd has its memory on the heap.
const STACK: usize = 256 * 1024;

/// Where pieces of output go. To send waits for a slow disk, which holds up the command as a full pipe would; with one that has
/// failed it fails at once, and the run goes on without.
pub type Pieces = mpsc::Sender<(Stream, Bytes)>;

/// Why something is not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    #[error("no space is left on the disk: {0}")]
    NoSpace(io::Error),
    #[error("the disk is read-only: {0}")]
    ReadOnly(io::Error),
    #[error("the disk fails: {0}")]
    Io(io::Error),
    #[error("the disk is too slow, or hangs")]
    Slow,
    #[error("too many captures are being written, or this one is already")]
    Busy,
    #[error("it does not fit into captures.max_size with all that is younger")]
    NoRoom,
    #[error(transparent)]
    Unusable(FolderError),
}

impl NotKept {
    /// Label values of `parachute_capture_failures_total`.
    pub const REASONS: [&'static str; 7] =
        ["no_space", "read_only", "io", "slow", "busy", "no_room", "unusable"];

    pub fn as_str(&self) -> &'static str {
        let [no_space, read_only, io, slow, busy, no_room, unusable] = Self::REASONS;
        match self {
            Self::NoSpace(_) => no_space,
            Self::ReadOnly(_) => read_only,
            Self::Io(_) => io,
            Self::Slow => slow,
            Self::Busy => busy,
            Self::NoRoom => no_room,
            Self::Unusable(_) => unusable,
        }
    }

    /// Whether the next capture will fare no better, as far as one can tell.
    pub(super) fn is_the_disks(&self) -> bool {
        !matches!(self, Self::Busy | Self::NoRoom)
    }
}

impl From<io::Error> for NotKept {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace(error),
            Some(Errno::ROFS) => Self::ReadOnly(error),
            _ => Self::Io(error),
        }
    }
}

impl From<FolderError> for NotKept {
    fn from(error: FolderError) -> Self {
        let errno = error.source_error().and_then(io::Error::raw_os_error).map(Errno::from_raw_os_error);
        match errno {
            Some(errno @ (Errno::NOSPC | Errno::DQUOT)) => Self::NoSpace(errno.into()),
            Some(errno @ Errno::ROFS) => Self::ReadOnly(errno.into()),
            _ => Self::Unusable(error),
        }
    }
}

/// What is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    pub record: Record,
    /// Bytes on the disk.
    pub size: u64,
    /// It was kept before, and is as it was then.
    pub existed: bool,
}

/// A capture that is being made. Dropped, it is thrown away.
#[derive(Debug)]
pub struct Keeping {
    id: RunId,
    pieces: Pieces,
    end: oneshot::Sender<Option<Box<Record>>>,
    relay: JoinHandle<Relayed>,
    /// All of it is in memory so far, and there is no writer.
    held: Arc<AtomicBool>,
    done: oneshot::Receiver<Result<Option<Kept>, NotKept>>,
}

impl Keeping {
    /// Where the run's output is to be sent.
    pub fn copies(&self) -> Pieces {
        self.pieces.clone()
    }

    /// Whether all of it is in memory still, which is 16 KiB at most.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
enum Step {
    Piece(Stream, Bytes),
    Commit(Box<Record>),
}

/// How the task between the run and the disk has ended.
#[derive(Debug)]
enum Relayed {
    /// The writer has all of it, or has failed and says so itself.
    All,
    Stalled,
}

pub(super) fn begin(shared: &Arc<Shared>, id: &RunId) -> Option<Keeping> {
    let (to_writer, steps) = mpsc::channel(WAITING);
    let (answer, done) = oneshot::channel();
    let admitted = {
        let mut state = shared.state();
        let late = state.writing.values().filter(|writing| writing.late).count();
        let free = state.writing.len() < MOST_WRITERS && late < MOST_LATE && !state.writing.contains_key(id);
        if free {
            state.writing.insert(id.clone(), Writing { bytes: BESIDES, late: false });
        }
        free
    };
    if !admitted {
        shared.account(&Err(NotKept::Busy));
        return None;
    }
    let writer = {
        let (shared, id) = (Arc::clone(shared), id.clone());
        move |steps| {
            let result = write(&shared, &id, steps);
            // One that was kept has left this list when it came into the other one.
            shared.state().writing.remove(&id);
            shared.account(&result);
            shared.show();
            // Whoever waited may have given up.
            let _ = answer.send(result);
        }
    };
    let (pieces, of_run) = mpsc::channel(1);
    let (end, ended) = oneshot::channel();
    let (relaying, id) = (Arc::clone(shared), id.clone());
    let (of, in_memory) = (id.clone(), Arc::new(AtomicBool::new(true)));
    let is_held = Arc::clone(&in_memory);
    let relay = tokio::spawn(async move {
        let (of_run, held, record) = hold(of_run, ended).await;
        is_held.store(false, Ordering::Relaxed);
        let started = match record {
            // Thrown away.
            Held::Ended(None) => None,
            record => Some((record, thread("capture", move || writer(steps)))),
        };
        let relayed = match started {
            Some((record, Ok(()))) => relay(of_run, held, record, to_writer).await,
            not_started => {
                relaying.state().writing.remove(&of);
                if let Some((_, Err(error))) = not_started {
                    relaying.account(&Err(error.into()));
                }
                Relayed::All
            }
        };
        if matches!(relayed, Relayed::Stalled) {
            relaying.late(&of);
        }
        relayed
    });
    Some(Keeping { id, pieces, end, relay, held: in_memory, done })
}

/// What is known when there must be a writer, or need be none.
enum Held {
    /// The run goes on, and prints much.
    Open(oneshot::Receiver<Option<Box<Record>>>),
    /// It has ended; with a record it is kept.
    Ended(Option<Box<Record>>),
}

/// Waits until it is known whether something is kept, or there is more than is held.
async fn hold(
    mut of_run: mpsc::Receiver<(Stream, Bytes)>,
    mut ended: oneshot::Receiver<Option<Box<Record>>>,
) -> (mpsc::Receiver<(Stream, Bytes)>, Vec<(Stream, Bytes)>, Held) {
    let (mut held, mut bytes) = (Vec::new(), 0);
    while bytes <= HELD {
        tokio::select! {
            Some((stream, piece)) = of_run.recv() => {
                bytes += piece.len();
                held.push((stream, piece));
            }
            record = &mut ended => return (of_run, held, Held::Ended(record.ok().flatten())),
        }
    }
    (of_run, held, Held::Open(ended))
}

/// Passes on what the run prints, and its end. Dropping `of_run` makes every further piece fail at once.
async fn relay(
    mut of_run: mpsc::Receiver<(Stream, Bytes)>,
    held: Vec<(Stream, Bytes)>,
    record: Held,
    to_writer: mpsc::Sender<Step>,
) -> Relayed {
    for (stream, piece) in held {
        if let Some(relayed) = pass(&to_writer, Step::Piece(stream, piece)).await {
            return relayed;
        }
    }
    let record = match record {
        Held::Ended(record) => record,
        Held::Open(mut ended) => loop {
            tokio::select! {
                Some((stream, piece)) = of_run.recv() => {
                    if let Some(relayed) = pass(&to_writer, Step::Piece(stream, piece)).await {
                        return relayed;
                    }
                }
                record = &mut ended => break record.ok().flatten(),
            }
        },
    };
    // Thrown away: the writer sees its channel end without a record.
    let Some(record) = record else { return Relayed::All };
    of_run.close();
    while let Some((stream, piece)) = of_run.recv().await {
        if let Some(relayed) = pass(&to_writer, Step::Piece(stream, piece)).await {
            return relayed;
        }
    }
    pass(&to_writer, Step::Commit(record)).await.unwrap_or(Relayed::All)
}

async fn pass(to_writer: &mpsc::Sender<Step>, step: Step) -> Option<Relayed> {
    match tokio::time::timeout(STALL, to_writer.send(step)).await {
        Ok(Ok(())) => None,
        Ok(Err(_)) => Some(Relayed::All),
        Err(_) => Some(Relayed::Stalled),
    }
}

pub(super) async fn finish(
    shared: &Shared,
    keeping: Keeping,
    record: Option<Record>,
) -> Result<Option<Kept>, NotKept> {
    let Keeping { id, pieces, end, relay, done, held: _ } = keeping;
    drop(pieces);
    let discard = record.is_none();
    // The relay may have ended, and says why.
    let _ = end.send(record.map(Box::new));
    if discard {
        return Ok(None);
    }
    let ended = async {
        match relay.await {
            Ok(Relayed::All) => Some(done.await.unwrap_or(Err(NotKept::Slow))),
            Ok(Relayed::Stalled) | Err(_) => None,
        }
    };
    match tokio::time::timeout(FINISH, ended).await {
        Ok(Some(result)) => result,
        Ok(None) => Err(NotKept::Slow),
        Err(_) => {
            shared.late(&id);
            Err(NotKept::Slow)
        }
    }
}

impl Shared {
    /// Nobody waits for this one any more.
    fn late(&self, id: &RunId) {
        if let Some(writing) = self.state().writing.get_mut(id) {
            writing.late = true;
        }
        self.account(&Err(NotKept::Slow));
    }
}

/// The writer, from its first byte to the capture's place in the folder.
fn write(shared: &Arc<Shared>, id: &RunId, mut steps: mpsc::Receiver<Step>) -> Result<Option<Kept>, NotKept> {
    shared.prepare()?;
    let mut draft = Draft::begin(&shared.folder, id)?;
    let written = take(shared, id, &mut draft, &mut steps);
    // Whoever sends learns of a failure before its leftovers are removed.
    drop(steps);
    let Some(record) = written? else { return Ok(None) };
    shared.grown(id, draft.size())?;
    let Committed { record, size, existed } = draft.commit(*record)?;
    {
        let mut state = shared.state();
        state.writing.remove(id);
        if !existed {
            state.index.insert(&record, size, SystemTime::now());
        }
    }
    if !existed {
        shared.counters.written.inc();
        if let Some(tell) = shared.on_kept.get() {
            tell(id);
        }
    }
    shared.make_room();
    shared.changed.notify_one();
    Ok(Some(Kept { record, size, existed }))
}

impl Shared {
    fn grown(&self, id: &RunId, bytes: u64) -> Result<(), NotKept> {
        let room = {
            let mut state = self.state();
            if let Some(writing) = state.writing.get_mut(id) {
                writing.bytes = bytes;
            }
            retain::fits(&state.index, state.besides(), &state.bounds)
        };
        if room || self.make_room() { Ok(()) } else { Err(NotKept::NoRoom) }
    }
}

/// Writes what the run prints until there is a record, or none because it is thrown away.
fn take(
    shared: &Shared,
    id: &RunId,
    draft: &mut Draft,
    steps: &mut mpsc::Receiver<Step>,
) -> Result<Option<Box<Record>>, NotKept> {
    let mut counted = 0;
    loop {
        match steps.blocking_recv() {
            Some(Step::Piece(stream, piece)) => {
                draft.write(stream, &piece)?;
                // It may shrink, when what was small so far is compressed.
                if draft.size().saturating_sub(counted) >= GROWTH {
                    counted = draft.size();
                    shared.grown(id, counted)?;
                }
            }
            Some(Step::Commit(record)) => return Ok(Some(record)),
            None => return Ok(None),
        }
    }
}

/// A thread that nothing waits for at the agent's end, as a runtime does for its own: it may hang in a disk.
pub(super) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work).map(drop)
}
