//! The room as a whole, on real folders.

mod broken;
mod disks;
mod many;
mod retention;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use prometheus::Opts;
use proptest::prelude::*;
use tempfile::TempDir;

use super::draft::Draft;
use super::*;
use crate::model::testing::{container, named, result};
use crate::model::{Alert, Outcome};

const FAILED: Outcome = Outcome::Nonzero { status: 3 };

fn counters() -> Counters {
    let gauge = |name: &str| IntGauge::new(name, "x").unwrap();
    let by_reason = |name: &str| IntCounterVec::new(Opts::new(name, "x"), &["reason"]).unwrap();
    Counters {
        captures: gauge("captures"),
        bytes: gauge("bytes"),
        budget_bytes: gauge("budget"),
        working: gauge("working"),
        written: IntCounter::new("written", "x").unwrap(),
        failures: by_reason("failures"),
        evicted: by_reason("evicted"),
        set_aside: by_reason("aside"),
    }
}

fn count(counter: &IntCounterVec, reason: &str) -> u64 {
    counter.with_label_values(&[reason]).get()
}

struct Room {
    path: PathBuf,
    captures: Captures,
    counters: Counters,
}

impl Room {
    async fn open(path: PathBuf, bounds: &config::Captures) -> Self {
        let counters = counters();
        let captures = Captures::open(&path, bounds, counters.clone());
        tokio::time::timeout(Duration::from_mins(1), captures.loaded()).await.expect("the folder is read");
        Self { path, captures, counters }
    }

    /// As after the end of the agent.
    async fn reopen(self, bounds: &config::Captures) -> Self {
        let Self { path, captures, .. } = self;
        drop(captures);
        // A writer or the upkeep may hold it for an instant more.
        loop {
            let counters = counters();
            let captures = Captures::open(&path, bounds, counters.clone());
            if tokio::time::timeout(Duration::from_millis(500), captures.loaded()).await.is_ok() {
                return Self { path, captures, counters };
            }
        }
    }

    async fn keep(&self, id: &RunId, outcome: Outcome, stdout: &[u8]) -> Result<Option<Kept>, NotKept> {
        self.keep_both(id, outcome, stdout, b"").await
    }

    async fn keep_both(
        &self,
        id: &RunId,
        outcome: Outcome,
        stdout: &[u8],
        stderr: &[u8],
    ) -> Result<Option<Kept>, NotKept> {
        let keeping = self.captures.begin(id).expect("there is a place");
        let copies = keeping.copies();
        for (stream, bytes) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
            for piece in bytes.chunks(60_000) {
                if copies.send((stream, Bytes::copy_from_slice(piece))).await.is_err() {
                    break;
                }
            }
        }
        drop(copies);
        self.captures.finish(keeping, Some(record(id, outcome))).await
    }

    fn ids(&self) -> Vec<RunId> {
        self.captures.list(&Filter::default(), 1000, None).captures.into_iter().map(|one| one.id).collect()
    }

    fn read(&self, id: &RunId, stream: Stream) -> std::io::Result<Vec<u8>> {
        let (_, mut reader) = self.captures.read(id, stream, 0, None).map_err(std::io::Error::other)?;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn leftovers(&self) -> usize {
        fs::read_dir(self.path.join("tmp")).unwrap().count()
    }
}

fn folder() -> (TempDir, PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("captures");
    (temporary, path)
}

fn at(number: u32) -> RunId {
    RunId::parse(&format!("20261126T030412.{:03}Z-{number:08x}", number % 1000)).unwrap()
}

fn record(id: &RunId, outcome: Outcome) -> Record {
    let mut metadata = named("shop", "cart-0", "cart");
    metadata.labels.insert("app".into(), "cart".into());
    let mut run = result("sockets", &container("a", metadata), outcome, Vec::new());
    run.request.id = id.clone();
    run.started_at = SystemTime::now();
    run.request.alert = Some(Arc::new(Alert {
        labels: [("alertname".to_owned(), "TcpRetransmits".to_owned())].into(),
        fingerprint: "f00".into(),
        group_key: "{}:{}".into(),
        starts_at: "2026-11-26T03:04:05Z".into(),
    }));
    Record::of(&run, None, "node-1")
}

/// Bytes that do not become less by packing.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Waits for what a thread does on its own.
async fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_mins(1), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_was_printed_is_there_after_a_restart_with_its_record() {
    let (_temporary, path) = folder();
    let room = Room::open(path, &config::Captures::default()).await;
    let (text, binary) = ("caf\u{e9}\n".repeat(50_000), noise(300_000));
    let kept = room.keep_both(&at(1), FAILED, text.as_bytes(), &binary).await.unwrap().unwrap();
    room.keep(&at(2), Outcome::Ok, b"").await.unwrap().unwrap();
    assert_eq!((kept.existed, kept.record.stdout.bytes), (false, text.len() as u64));
    assert!(kept.record.stdout.compressed_bytes < 10_000 && kept.size >= 300_000, "{kept:?}");
    for room in [room, Room::open(folder().1, &config::Captures::default()).await] {
        if room.captures.list(&Filter::default(), 1, None).captures.is_empty() {
            continue;
        }
        let room = room.reopen(&config::Captures::default()).await;
        assert_eq!(room.ids(), [at(2), at(1)]);
        let record = room.captures.record(&at(1)).unwrap();
        assert_eq!(record, kept.record);
        assert_eq!((record.stdout.kind, record.stderr.kind), (Kind::Text, Kind::Binary));
        assert_eq!(record.outcome, FAILED);
        assert_eq!(record.container.labels["app"], "cart");
        assert_eq!(record.file_name(Stream::Stderr), format!("sockets-{}.stderr.bin", at(1)));
        assert_eq!(room.read(&at(1), Stream::Stdout).unwrap(), text.as_bytes());
        assert_eq!(room.read(&at(1), Stream::Stderr).unwrap(), binary);
        assert_eq!(room.read(&at(2), Stream::Stdout).unwrap(), b"");
        assert!(!room.path.join(at(2).as_str()).join("stdout.zst").exists());
        let names = |of: &str| fs::read_dir(room.path.join(of)).unwrap().count();
        assert_eq!((names(at(1).as_str()), names(at(2).as_str()), room.leftovers()), (3, 1, 0));
        let mode = |of: &str| fs::metadata(room.path.join(of)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode(at(1).as_str())), (0o700, 0o700));
        assert_eq!(mode(&format!("{}/record.json", at(1))), 0o600);
        assert_eq!((room.counters.captures.get(), room.counters.working.get()), (2, 1));
        assert!(room.captures.contains(&at(1)) && !room.captures.contains(&at(3)));
    }
}

#[tokio::test]
async fn a_run_is_kept_once_and_what_is_thrown_away_leaves_nothing() {
    let (_temporary, path) = folder();
    let room = Room::open(path, &config::Captures::default()).await;
    assert!(!room.keep(&at(1), Outcome::Ok, b"first").await.unwrap().unwrap().existed);
    assert!(room.keep(&at(1), FAILED, b"second").await.unwrap().unwrap().existed);
    assert_eq!(room.read(&at(1), Stream::Stdout).unwrap(), b"first");
    assert_eq!((room.ids().len(), room.counters.written.get()), (1, 1));

    let first = room.captures.begin(&at(2)).unwrap();
    assert!(room.captures.begin(&at(2)).is_none(), "it is being written");
    assert_eq!(count(&room.counters.failures, "busy"), 1);
    first.copies().send((Stream::Stdout, Bytes::from_static(b"x"))).await.unwrap();
    assert!(room.captures.finish(first, None).await.unwrap().is_none());
    drop(room.captures.begin(&at(3)));
    until("drafts go", || room.leftovers() == 0).await;
    assert_eq!((room.ids().len(), room.counters.written.get()), (1, 1));

    assert!(room.captures.remove(&at(1)).unwrap() && !room.captures.remove(&at(1)).unwrap());
    assert_eq!((room.ids().len(), count(&room.counters.evicted, "asked")), (0, 1));
    assert!(matches!(room.captures.record(&at(1)), Err(Fault::Missing)));
}

#[tokio::test]
async fn lists_are_filtered_and_paged_newest_first() {
    let (_temporary, path) = folder();
    let room = Room::open(path, &config::Captures::default()).await;
    for number in 0..7 {
        let outcome = if number % 2 == 0 { Outcome::Ok } else { FAILED };
        room.keep(&at(number), outcome, b"x").await.unwrap();
    }
    let page = |filter: &Filter, limit, before: Option<&RunId>| room.captures.list(filter, limit, before);
    let all = Filter::default();
    let first = page(&all, 3, None);
    let ids = |listing: &Listing| listing.captures.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
    assert_eq!((ids(&first), first.complete), (vec![at(6), at(5), at(4)], true));
    let second = page(&all, 3, first.next.as_ref());
    let third = page(&all, 3, second.next.as_ref());
    assert_eq!((ids(&second), ids(&third), third.next), (vec![at(3), at(2), at(1)], vec![at(0)], None));
    assert_eq!(page(&all, 7, None).next, None, "nothing is left");

    let is = |text: &str| Some(text.to_owned());
    let hour = Duration::from_hours(1);
    let now = SystemTime::now();
    for (filter, fitting) in [
        (Filter { outcome: is("ok"), ..Filter::default() }, 4),
        (Filter { outcome: is("failed"), ..Filter::default() }, 3),
        (Filter { outcome: is("nonzero"), ..Filter::default() }, 3),
        (Filter { outcome: is("timeout"), ..Filter::default() }, 0),
        (Filter { namespace: is("shop"), pod: is("cart-0"), ..Filter::default() }, 7),
        (Filter { container: is("cart"), probe: is("sockets"), ..Filter::default() }, 7),
        (Filter { alert: is("TcpRetransmits"), trigger: is("by-hand"), ..Filter::default() }, 7),
        (Filter { pod: is("cart"), ..Filter::default() }, 0),
        (Filter { alert: is(""), ..Filter::default() }, 0),
        (Filter { since: Some(now - hour), until: Some(now + hour), ..Filter::default() }, 7),
        (Filter { since: Some(now + hour), ..Filter::default() }, 0),
        (Filter { until: Some(now - hour), ..Filter::default() }, 0),
    ] {
        assert_eq!(page(&filter, 100, None).captures.len(), fitting, "{filter:?}");
    }
}

#[tokio::test]
async fn a_folder_that_is_not_safe_is_not_used_until_it_is() {
    let (temporary, path) = folder();
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let counters = counters();
    let captures = Captures::open(&path, &config::Captures::default(), counters.clone());
    let room = Room { path: path.clone(), captures, counters };
    until("it is refused", || count(&room.counters.failures, "unusable") == 1).await;
    assert!(matches!(room.keep(&at(1), Outcome::Ok, b"x").await, Err(NotKept::Unusable(_))));
    assert_eq!((room.counters.working.get(), fs::read_dir(&path).unwrap().count()), (0, 0));
    let listing = room.captures.list(&Filter::default(), 10, None);
    assert!(listing.captures.is_empty() && !listing.complete);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    room.keep(&at(1), Outcome::Ok, b"x").await.unwrap();
    room.captures.loaded().await;
    assert_eq!((room.counters.working.get(), room.ids().len()), (1, 1));

    // Another agent is refused, and still knows what is there.
    let other = Captures::open(&path, &config::Captures::default(), self::counters());
    assert!(other.contains(&at(1)) && !other.contains(&at(2)));
    let keeping = other.begin(&at(2)).unwrap();
    let error = other.finish(keeping, Some(record(&at(2), FAILED))).await.unwrap_err().to_string();
    assert!(error.contains("another agent"), "{error}");

    let link = temporary.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(Folder::new(&link).prepare(), Err(FolderError::NoFolder(_))));
    assert!(Folder::new(Path::new("/dev/null/captures")).prepare().is_err());
}

#[test]
fn which_stream_was_cut_is_told_by_the_cap() {
    let part = |bytes| Part { bytes, ..Part::default() };
    for (truncated, stdout, stderr, cut) in [
        (false, 10, 10, (false, false)),
        (true, 10, 3, (true, false)),
        (true, 3, 10, (false, true)),
        (true, 10, 10, (true, true)),
        (true, 3, 3, (true, true)),
    ] {
        let mut record = Record { max_output: 10, truncated, ..record(&at(1), Outcome::Truncated) };
        record.complete([part(stdout), part(stderr)]);
        assert_eq!((record.stdout.truncated, record.stderr.truncated), cut, "{stdout} {stderr}");
    }
}

#[test]
fn what_a_stream_is_does_not_hang_on_how_it_was_cut() {
    let kind = |pieces: &[&[u8]]| {
        let mut observed = record::Observed::default();
        for piece in pieces {
            observed.see(piece);
        }
        observed.part(0).kind
    };
    for (bytes, expected) in [
        (&b""[..], Kind::Text),
        ("a \u{1f600} b".as_bytes(), Kind::Text),
        (b"a\0b", Kind::Binary),
        (b"\xff", Kind::Binary),
        (b"abc\xc3", Kind::Binary),
        (b"\xd4\xc3\xb2\xa1\x02\0", Kind::Pcap),
        (b"\xa1\xb2\x3c\x4d\0\x02", Kind::Pcap),
        (b"\x0a\x0d\x0d\x0a\x1c\0\0\0", Kind::Pcapng),
        (b"\n\r\r\ntext", Kind::Text),
    ] {
        assert_eq!(kind(&[bytes]), expected, "{bytes:?}");
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(kind(&single), expected, "{bytes:?} byte by byte");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_come_back_as_they_were_in_any_range(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5_000), 0..12),
        repeated in 1_usize..20,
        from in any::<prop::sample::Index>(),
        most in prop::option::of(0_u64..200_000),
    ) {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::new(temporary.path());
        folder.prepare().unwrap();
        let mut draft = Draft::begin(&folder, &at(1)).unwrap();
        let mut all = Vec::new();
        for piece in pieces.iter().cycle().take(pieces.len() * repeated) {
            draft.write(Stream::Stderr, piece).unwrap();
            all.extend_from_slice(piece);
        }
        draft.commit(record(&at(1), Outcome::Ok)).unwrap();
        let from = from.index(all.len() + 2);
        let (_, mut reader) = read::open(&folder, &at(1), Stream::Stderr, (from as u64, most), None).unwrap();
        prop_assert_eq!(reader.length(), all.len() as u64);
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        let most = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap());
        let expected: Vec<_> = all.iter().copied().skip(from).take(most).collect();
        prop_assert_eq!(got, expected);
    }
}
