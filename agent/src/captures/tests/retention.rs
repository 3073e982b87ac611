//! What goes when there is no room, or when it is too old.

use super::super::index::{self, Index};
use super::super::retain::{self, Besides};
use super::*;

const DAY: u64 = 24 * 3_600_000;

fn bounds(max_size: u64) -> config::Captures {
    config::Captures { max_size, ..config::Captures::default() }
}

/// One capture per word, oldest first: `o` ended well, `f` failed; each of `size` bytes.
fn of(kinds: &str, size: u64) -> Index {
    let mut index = Index::default();
    for (number, kind) in (0..).zip(kinds.chars()) {
        let outcome = if kind == 'f' { FAILED } else { Outcome::Ok };
        index.insert(&record(&at(number), outcome), size, SystemTime::now());
    }
    index
}

#[test]
fn the_oldest_goes_first_and_failures_stay_until_they_take_half() {
    let now = index::millis(SystemTime::now());
    let none = Besides::default();
    let drafts = |drafts| Besides { drafts, aside: 0 };
    let aside = |aside| Besides { drafts: 0, aside };
    for (kinds, room, besides, gone) in [
        ("ooo", 30, none, vec![]),
        ("ooo", 29, none, vec![0]),
        ("ooo", 10, none, vec![0, 1]),
        ("foofo", 40, none, vec![1]),
        ("foofo", 20, none, vec![0, 1, 2]),
        ("ffffo", 40, none, vec![0]),
        ("offff", 40, none, vec![0]),
        ("ffff", 30, none, vec![0]),
        ("ffooo", 40, drafts(10), vec![2, 3]),
        ("ff", 40, drafts(30), vec![0]),
        ("oo", 10, drafts(100), vec![0, 1]),
        // What was set aside has at most half of the room.
        ("oooo", 40, aside(10), vec![0]),
        ("oooo", 40, aside(1000), vec![0, 1]),
    ] {
        let victims = retain::victims(&of(kinds, 10), besides, &bounds(room), 1000, now);
        let expected: Vec<_> = gone.into_iter().map(|n| (index::key(&at(n)), Why::Size)).collect();
        assert_eq!(victims, expected, "{kinds} in {room} beside {besides:?}");
    }
    let many = retain::victims(&of("ofo", 1), none, &bounds(100), 1, now);
    assert_eq!(many, [(index::key(&at(0)), Why::Number), (index::key(&at(2)), Why::Number)]);
}

#[test]
fn what_is_too_old_goes_and_failures_later() {
    let index = of("of", 10);
    let bounds = bounds(1000);
    let now = index::millis(SystemTime::now());
    let gone = |days| {
        let victims = retain::victims(&index, Besides::default(), &bounds, 1000, now + days * DAY);
        victims.into_iter().map(|(key, why)| (index::id(key), why)).collect::<Vec<_>>()
    };
    assert_eq!(gone(6), []);
    assert_eq!(gone(8), [(at(0), Why::Age)]);
    assert_eq!(gone(31), [(at(0), Why::Age), (at(1), Why::Age)]);
    let next = retain::next_expiry(&index, &bounds, &[]).unwrap();
    assert!((now + 7 * DAY - 60_000..=now + 7 * DAY).contains(&next));
    // A clock that was a year ahead must not keep anything for a year.
    let mut ahead = Index::default();
    let mut record = record(&at(1), Outcome::Ok);
    record.started_at = "2099-01-01T00:00:00Z".into();
    ahead.insert(&record, 1, SystemTime::now());
    assert_eq!(retain::victims(&ahead, Besides::default(), &bounds, 10, now + 8 * DAY).len(), 1);
}

#[test]
fn ids_are_kept_whole_in_few_bytes() {
    for text in
        ["20261126T030412.123Z-4f1c9a02", "00000000T000000.000Z-00000000", "99999999T999999.999Z-ffffffff"]
    {
        let id = RunId::parse(text).unwrap();
        assert_eq!(index::id(index::key(&id)), id);
    }
    let id = RunId::parse("20261126T030412.123Z-4f1c9a02").unwrap();
    assert_eq!(index::time(&id), 1_795_662_252_123);
    assert_eq!(index::time(&RunId::parse("99999999T999999.999Z-ffffffff").unwrap()), 0);
}

#[test]
fn names_go_with_the_last_capture_that_has_them() {
    let mut index = of("oof", 1);
    assert_eq!((index.len(), index.distinct().0), (3, 1));
    for number in 0..3 {
        assert!(index.remove(&at(number)) && !index.remove(&at(number)));
    }
    assert_eq!((index.distinct(), index.bytes, index.failed_bytes), ((0, 0), 0, 0));
}

/// All that is on the disk below a folder, in bytes.
fn disk(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(path).unwrap().flatten();
    entries
        .map(|entry| {
            let about = entry.metadata().unwrap();
            about.blocks() * 512 + if about.is_dir() { disk(&entry.path()) } else { 0 }
        })
        .sum()
}

#[tokio::test]
async fn the_room_is_never_overdrawn_and_a_reader_reads_on() {
    let (_temporary, path) = folder();
    let most = 1 << 20;
    let room = Room::open(path.clone(), &bounds(most)).await;
    room.keep(&at(0), FAILED, &noise(200_000)).await.unwrap();
    room.keep(&at(1), Outcome::Ok, &noise(200_000)).await.unwrap();
    let (_, mut reader) = room.captures.read(&at(1), Stream::Stdout, 0, None).unwrap();
    let mut first = [0; 1000];
    reader.read_exact(&mut first).unwrap();
    for number in 2..12 {
        room.keep(&at(number), Outcome::Ok, &noise(200_000)).await.unwrap().unwrap();
        let used = disk(&path);
        assert!(used <= most + 8192, "{used} of {most}");
    }
    let ids = room.ids();
    assert!(ids.contains(&at(0)) && ids.contains(&at(11)) && !ids.contains(&at(1)), "{ids:?}");
    assert_eq!(count(&room.counters.evicted, "size") + ids.len() as u64, 12);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len() + 1000, 200_000);

    // More than there will ever be room for: it is not kept, and the run goes on.
    let error = room.keep(&at(20), FAILED, &noise(3 << 20)).await.unwrap_err();
    assert!(matches!(error, NotKept::NoRoom), "{error}");
    assert_eq!(room.counters.working.get(), 1, "the disk is not to blame");
    until("nothing is left of it", || room.leftovers() == 0).await;

    // Less room after a reload.
    room.keep(&at(30), FAILED, &noise(100_000)).await.unwrap();
    room.captures.bound(&bounds(300_000));
    until("the rest goes", || disk(&path) <= 310_000).await;
    assert_eq!(room.ids(), [at(30)]);
    assert_eq!(room.counters.budget_bytes.get(), 300_000);
}

#[tokio::test]
async fn the_timer_removes_what_is_too_old_without_a_run() {
    let (_temporary, path) = folder();
    let soon = Duration::from_millis(300);
    let room =
        Room::open(path.clone(), &config::Captures { max_age: soon, ..config::Captures::default() }).await;
    room.keep(&at(1), FAILED, b"x").await.unwrap();
    room.keep(&at(2), Outcome::Ok, b"x").await.unwrap();
    until("it goes", || room.ids() == [at(1)]).await;
    until("from the disk as well", || !path.join(at(2).as_str()).exists()).await;
    assert_eq!(count(&room.counters.evicted, "age"), 1);
}
