//! The file on disk in which queued runs, and what must be known again, outlive the agent. One transaction is all or
//! nothing, and is on the disk when it returns. What is no journal of this agent's is never read on: it is set aside.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase, ReadableTable as _, TableDefinition, TableHandle as _};

use super::payload::Key;

/// Name of the file in the storage folder.
const FILE: &str = "alerts.redb";
/// Where the last file that was no journal lies, for people to look at. One, so that it cannot fill the disk.
const ASIDE: &str = "alerts.redb.set-aside";
/// What this agent writes, and all that it reads.
const FORMAT: u64 = 1;
/// Bytes of the file that are held in memory; the library's own default is a gigabyte.
const CACHE: usize = 4 << 20;

const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("parachute_alerts");
/// Run id to its record, JSON.
const RUNS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("runs");
/// Alerts that were answered, with the time.
const SEEN: TableDefinition<'_, Key, u64> = TableDefinition::new("seen");
/// Probes in containers, with the time of their last run for an alert.
const RESTS: TableDefinition<'_, Key, u64> = TableDefinition::new("rests");
/// Alerts that are to be passed on to peers, JSON. An agent that knows nothing of it leaves it alone.
const PASSES: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("passes");

#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    /// Another try may succeed: the disk is full, read-only or gone.
    #[error("{0}")]
    Unavailable(String),
    /// Not a journal that this agent can read.
    #[error("{0}")]
    Foreign(String),
}

impl<E: Into<redb::Error>> From<E> for JournalError {
    fn from(error: E) -> Self {
        use std::io::ErrorKind::{InvalidData, IsADirectory, UnexpectedEof};
        let error: redb::Error = error.into();
        let text = error.to_string();
        match error {
            redb::Error::Io(io) if [InvalidData, IsADirectory, UnexpectedEof].contains(&io.kind()) => {
                Self::Foreign(text)
            }
            redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. } => Self::Foreign(text),
            _ => Self::Unavailable(text),
        }
    }
}

/// One change of what is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// A run is queued; its id and its record.
    Put(String, Vec<u8>),
    /// It needs nothing more.
    Done(String),
    Seen(Key, u64),
    ForgetSeen(Key),
    Rest(Key, u64),
    ForgetRest(Key),
    /// An alert is to be passed on; its record.
    Pass(Key, Vec<u8>),
    /// It was, or is given up.
    Passed(Key),
}

/// All that is, or is to be, written down.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) runs: Vec<(String, Vec<u8>)>,
    /// In the order of their times.
    pub(super) seen: Vec<(Key, u64)>,
    pub(super) rests: Vec<(Key, u64)>,
    pub(super) passes: Vec<(Key, Vec<u8>)>,
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal(Database);

impl Journal {
    /// Opens the journal in `folder`, or makes one. Every page is looked at: a file that was changed by anything else must
    /// not be found out in the middle of a write.
    pub(super) fn open(folder: &Path) -> Result<(Self, Contents), JournalError> {
        guarded(|| {
            let path = folder.join(FILE);
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            let mut builder = Builder::new();
            builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
            let database = builder.create_with_backend(redb::backends::FileBackend::new(file)?)?;
            let journal = Self(database);
            journal.settle()?;
            let contents = read(&journal.0)?;
            // So that the file's name is on the disk as well, and not only what is in it.
            File::open(folder)?.sync_all()?;
            Ok((journal, contents))
        })
    }

    /// Reads the journal of a disk that cannot be written, if the agent before this one has closed it.
    pub(super) fn peek(folder: &Path) -> Result<Contents, JournalError> {
        guarded(|| {
            let mut builder = Builder::new();
            let database = builder.set_cache_size(CACHE).open_read_only(folder.join(FILE))?;
            let format =
                database.begin_read()?.open_table(ABOUT)?.get("format")?.map(|format| format.value());
            if format == Some(FORMAT) {
                read(&database)
            } else {
                Err(JournalError::Foreign("it is of another format".into()))
            }
        })
    }

    /// Moves what lies in the journal's place out of the way.
    pub(super) fn set_aside(folder: &Path) -> std::io::Result<PathBuf> {
        let aside = folder.join(ASIDE);
        std::fs::rename(folder.join(FILE), &aside)?;
        Ok(aside)
    }

    /// Makes all changes or none.
    pub(super) fn apply<'a>(&self, ops: impl IntoIterator<Item = &'a Op>) -> Result<(), JournalError> {
        guarded(|| {
            let write = self.0.begin_write()?;
            {
                let (mut runs, mut seen, mut rests) =
                    (write.open_table(RUNS)?, write.open_table(SEEN)?, write.open_table(RESTS)?);
                let mut passes = write.open_table(PASSES)?;
                for op in ops {
                    match op {
                        Op::Put(id, record) => _ = runs.insert(id.as_str(), record.as_slice())?,
                        Op::Done(id) => _ = runs.remove(id.as_str())?,
                        Op::Seen(key, at) => _ = seen.insert(key, at)?,
                        Op::ForgetSeen(key) => _ = seen.remove(key)?,
                        Op::Rest(key, at) => _ = rests.insert(key, at)?,
                        Op::ForgetRest(key) => _ = rests.remove(key)?,
                        Op::Pass(key, record) => _ = passes.insert(key, record.as_slice())?,
                        Op::Passed(key) => _ = passes.remove(key)?,
                    }
                }
            }
            Ok(write.commit()?)
        })
    }

    /// Puts `contents` in the place of everything.
    pub(super) fn replace(&self, contents: &Contents) -> Result<(), JournalError> {
        guarded(|| {
            let write = self.0.begin_write()?;
            {
                write.delete_table(RUNS)?;
                write.delete_table(SEEN)?;
                write.delete_table(RESTS)?;
                write.delete_table(PASSES)?;
                let (mut runs, mut seen, mut rests) =
                    (write.open_table(RUNS)?, write.open_table(SEEN)?, write.open_table(RESTS)?);
                for (id, record) in &contents.runs {
                    runs.insert(id.as_str(), record.as_slice())?;
                }
                for (key, at) in &contents.seen {
                    seen.insert(key, at)?;
                }
                for (key, at) in &contents.rests {
                    rests.insert(key, at)?;
                }
                let mut passes = write.open_table(PASSES)?;
                for (key, record) in &contents.passes {
                    passes.insert(key, record.as_slice())?;
                }
            }
            Ok(write.commit()?)
        })
    }

    /// Marks a new file as one of this agent's, and refuses one of anybody else's.
    fn settle(&self) -> Result<(), JournalError> {
        let write = self.0.begin_write()?;
        let others = write.list_tables()?.any(|table| table.name() != ABOUT.name());
        {
            let mut about = write.open_table(ABOUT)?;
            let format = about.get("format")?.map(|format| format.value());
            match format {
                Some(FORMAT) => {}
                None if !others => _ = about.insert("format", FORMAT)?,
                None => return Err(JournalError::Foreign("it is some other program's".to_owned())),
                Some(other) => {
                    return Err(JournalError::Foreign(format!(
                        "it is of format {other}, and this agent knows {FORMAT}"
                    )));
                }
            }
            write.open_table(RUNS)?;
            write.open_table(SEEN)?;
            write.open_table(RESTS)?;
            write.open_table(PASSES)?;
        }
        Ok(write.commit()?)
    }
}

fn read(database: &impl ReadableDatabase) -> Result<Contents, JournalError> {
    let read = database.begin_read()?;
    let mut contents = Contents::default();
    for run in read.open_table(RUNS)?.iter()? {
        let (id, record) = run?;
        contents.runs.push((id.value().to_owned(), record.value().to_owned()));
    }
    // One of an agent that knew nothing of peers has none, if it cannot be written now.
    match read.open_table(PASSES) {
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        passes => {
            for pass in passes?.iter()? {
                let (key, record) = pass?;
                contents.passes.push((key.value(), record.value().to_owned()));
            }
        }
    }
    for (table, into) in [(SEEN, &mut contents.seen), (RESTS, &mut contents.rests)] {
        for known in read.open_table(table)?.iter()? {
            let (key, at) = known?;
            into.push((key.value(), at.value()));
        }
        into.sort_unstable_by_key(|(_, at)| *at);
    }
    Ok(contents)
}

/// The library panics at some broken files in builds with debug assertions, and promises nothing of others.
fn guarded<T>(work: impl FnOnce() -> Result<T, JournalError>) -> Result<T, JournalError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(JournalError::Foreign("reading it failed".to_owned())))
}
