//! What outlives the agent, and what a bad disk does.

use proptest::prelude::*;

use super::super::journal::{Contents, Journal, JournalError, Op};
use super::*;

const FILE: &str = "alerts.redb";

/// The folder as it is on the disk now, as one that was killed would leave it.
fn copied(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join(FILE), copy.path().join(FILE)).unwrap();
    copy
}

fn everything() -> Config {
    slow(", cooldown: 1h")
}

#[tokio::test]
async fn a_killed_agents_runs_are_run_once_under_the_same_ids() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let before = Room::open(everything(), Some(folder.path()), live(), false);
    for (n, pod) in ["cart-0", "cart-1", "cart-2"].iter().enumerate() {
        assert_eq!(before.post(&firing(&n.to_string(), pod)).await.status, 202);
    }
    assert_eq!(std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(before.begun(3).await.len(), 3);
    let ids: HashSet<RunId> = before.pool.begun.lock().unwrap().iter().map(|run| run.id.clone()).collect();
    let killed = copied(folder.path());
    before.close().await;

    // Of one the capture is there already; one's container is another with the same names.
    let kept: HashSet<RunId> = {
        let begun = &before_pod(&killed, "cart-0");
        begun.iter().cloned().collect()
    };
    assert_eq!(kept.len(), 1);
    let mut now = live();
    now[1] = container("7", named("shop", "cart-1", "cart"));
    let after = Room::with(everything(), Some(killed.path()), now, false, kept);
    assert_eq!(after.begun(1).await, ["a@cart-2"]);
    {
        let begun = after.pool.begun.lock().unwrap();
        assert!(ids.contains(&begun[0].id) && begun[0].alert.is_some());
    }
    assert_eq!(after.counters.runs_dropped.with_label_values(&["container_gone"]).get(), 1);
    let states: Vec<String> =
        after.alerts.log(10).iter().flat_map(|d| d.runs.iter().map(|run| run.state.clone())).collect();
    for state in ["done before the agent's restart", "not run: its container has gone", "queued"] {
        assert!(states.iter().any(|is| is == state), "{states:?}");
    }
    // It is known after the restart what was answered before, and what rests.
    assert_eq!(after.results(&firing("0", "cart-0")).await, (200, vec!["duplicate".to_owned()]));
    assert_eq!(after.results(&firing("9", "cart-0")).await, (200, vec!["cooldown".to_owned()]));
    after.pool.go.send_replace(true);
    eventually(|| after.alerts.queued() == 0).await;
    after.close().await;
    let last = Room::open(everything(), Some(killed.path()), live(), true);
    assert!(
        last.post(&firing("8", "cart-9")).await.status == 200 && last.begun(0).await.is_empty(),
        "nothing is left"
    );
}

/// The runs in a journal that are in this pod.
fn before_pod(folder: &tempfile::TempDir, pod: &str) -> Vec<RunId> {
    let copy = copied(folder.path());
    let (_, contents) = Journal::open(copy.path()).unwrap();
    let of_pod = contents
        .runs
        .iter()
        .filter(|(_, record)| String::from_utf8_lossy(record).contains(&format!("\"pod\":\"{pod}\"")));
    of_pod.map(|(id, _)| RunId::parse(id).unwrap()).collect()
}

#[tokio::test]
async fn what_was_answered_is_on_the_disk_at_every_moment() {
    let folder = tempfile::tempdir().unwrap();
    let pods: Vec<String> = (0..40).map(|n| format!("pod-{n}")).collect();
    let live: Vec<_> = pods
        .iter()
        .enumerate()
        .map(|(n, pod)| container(&format!("{n:02x}"), named("shop", pod, "c")))
        .collect();
    let room = Room::open(everything(), Some(folder.path()), live.clone(), false);
    for (n, pod) in pods.iter().enumerate() {
        assert_eq!(room.post(&firing(&n.to_string(), pod)).await.status, 202);
        if n % 8 == 0 {
            let killed = copied(folder.path());
            let (_, contents) = Journal::open(killed.path()).unwrap();
            assert_eq!(
                (contents.runs.len(), contents.seen.len(), contents.rests.len()),
                (n + 1, n + 1, n + 1)
            );
        }
    }
    let killed = copied(folder.path());
    let after = Room::open(everything(), Some(killed.path()), live, true);
    assert_eq!(after.begun(40).await.len(), 40);
    let distinct: HashSet<RunId> =
        after.pool.begun.lock().unwrap().iter().map(|run| run.id.clone()).collect();
    assert_eq!(distinct.len(), 40);
}

#[tokio::test]
async fn what_the_configuration_has_lost_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let before = Room::open(everything(), Some(folder.path()), live(), false);
    before.post(&firing("1", "cart-0")).await;
    let killed = copied(folder.path());
    let other = configured("queued_runs: 5", "  t: { http: {}, probes: [b] }\n");
    let after = Room::open(other, Some(killed.path()), live(), true);
    eventually(|| after.counters.runs_dropped.with_label_values(&["not_configured"]).get() == 1).await;
    assert!(after.begun(0).await.is_empty() && after.alerts.queued() == 0);
}

/// A folder whose disk has this many bytes; unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn new(bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={bytes},mode=700");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), folder.path(), Some("tmpfs"), flags, Some(size.as_str()))
            .expect("root mounts a tmpfs");
        Self(folder)
    }

    fn remount(&self, flags: nix::mount::MsFlags) {
        let flags = flags | nix::mount::MsFlags::MS_REMOUNT;
        nix::mount::mount(None::<&str>, self.0.path(), None::<&str>, flags, None::<&str>).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn on_a_full_disk_runs_are_run_and_the_sender_comes_again() {
    use std::io::Write as _;
    let disk = Small::new(24 << 20);
    let folder = disk.0.path();
    let live: Vec<_> =
        (0..200).map(|n| container(&format!("{n:02x}"), named("shop", &format!("pod-{n}"), "c"))).collect();
    let config = configured(
        "queued_runs: 500",
        "  t: { alert: { labels: { alertname: Slow } }, target: { pod: '{{pod}}' }, probes: [a] }\n",
    );
    let room = Room::open(config, Some(folder), live, false);
    let body = |n: usize| {
        let (name, pod, big) = (format!("f{n}"), format!("pod-{n}"), "x".repeat(12_000));
        webhook("g", &[("firing", &name, &[("alertname", "Slow"), ("pod", &pod), ("big", &big)])])
    };
    assert_eq!(room.post(&body(0)).await.status, 202);
    let filler = folder.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    // The journal has some room of its own.
    let mut taken = 1;
    let refused = loop {
        match room.post(&body(taken)).await.status {
            202 => taken += 1,
            status => break status,
        }
    };
    assert_eq!(refused, 503);
    let count = taken + 1;
    eventually(|| room.alerts.queued() == count).await;
    assert!(room.dropped("not_written") == 1 && room.counters.journal_failures.get() >= 1);
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    let mut status = 503;
    for _ in 0..200 {
        status = room.post(&body(taken)).await.status;
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status, 200, "a duplicate, and written");
    let (_, contents) = Journal::open(copied(folder).path()).unwrap();
    assert_eq!((contents.runs.len(), contents.seen.len(), contents.rests.len()), (count, count, count));
    room.pool.go.send_replace(true);
    assert_eq!(room.begun(count).await.len(), count, "none was lost, and none ran twice");
    room.close().await;
}

#[tokio::test]
async fn what_is_left_on_a_disk_that_became_read_only_is_run() {
    let disk = Small::new(24 << 20);
    let before = Room::open(everything(), Some(disk.0.path()), live(), false);
    assert_eq!(before.post(&firing("1", "cart-0")).await.status, 202);
    before.close().await;
    disk.remount(nix::mount::MsFlags::MS_RDONLY);
    let room = Room::open(everything(), Some(disk.0.path()), live(), true);
    assert_eq!(room.begun(1).await, ["a@cart-0"]);
    assert_eq!(room.post(&firing("2", "cart-1")).await.status, 503);
    assert_eq!(room.begun(2).await, ["a@cart-0", "a@cart-1"]);
    assert_eq!(room.counters.journals_set_aside.get(), 0);
    disk.remount(nix::mount::MsFlags::empty());
    eventually(|| {
        let written = Journal::open(copied(disk.0.path()).path());
        written.is_ok_and(|(_, left)| left.runs.is_empty() && left.seen.len() == 2)
    })
    .await;
    room.close().await;
}

#[tokio::test]
async fn without_a_disk_a_redelivery_is_known_and_answered_well_once_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("later");
    let room = Room::open(everything(), Some(&gone), live(), true);
    let answer = room.post(&firing("1", "cart-0")).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body["error"].as_str().unwrap().contains("run all the same"));
    assert_eq!(room.begun(1).await, ["a@cart-0"]);
    assert_eq!(room.post(&firing("1", "cart-0")).await.status, 503, "still not written");
    assert!(room.dropped("not_written") >= 2 && room.counters.journal_failures.get() >= 1);
    std::fs::create_dir(&gone).unwrap();
    let mut status = 503;
    for _ in 0..100 {
        status = room.post(&firing("1", "cart-0")).await.status;
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status, 200);
    assert_eq!(room.begun(1).await.len(), 1, "it did not run twice");
    let (_, contents) = Journal::open(copied(&gone).path()).unwrap();
    assert_eq!((contents.runs.len(), contents.seen.len(), contents.rests.len()), (0, 1, 1));
}

#[tokio::test]
async fn what_is_no_journal_is_set_aside() {
    for bytes in [&b"not a database"[..], &[0; 8192], b"x"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), bytes).unwrap();
        let room = Room::open(everything(), Some(folder.path()), live(), true);
        assert_eq!(room.post(&firing("1", "cart-0")).await.status, 202);
        assert_eq!(room.counters.journals_set_aside.get(), 1);
        assert_eq!(std::fs::read(folder.path().join("alerts.redb.set-aside")).unwrap(), bytes);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(FILE)).unwrap();
    let room = Room::open(everything(), Some(folder.path()), live(), true);
    assert_eq!(room.post(&firing("1", "cart-0")).await.status, 202);
    // An empty file is what a kill in the first moment leaves.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), b"").unwrap();
    let room = Room::open(everything(), Some(folder.path()), live(), true);
    assert_eq!(room.post(&firing("1", "cart-0")).await.status, 202);
    assert_eq!(room.counters.journals_set_aside.get(), 0);
}

#[test]
fn a_newer_or_another_programs_database_is_not_read() {
    use redb::TableDefinition;
    let make = |table: &str, key: &str, value: u64| {
        let folder = tempfile::tempdir().unwrap();
        let database = redb::Database::create(folder.path().join(FILE)).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(TableDefinition::<&str, u64>::new(table)).unwrap().insert(key, value).unwrap();
        write.commit().unwrap();
        folder
    };
    for (table, key, value, says) in [
        ("parachute_alerts", "format", 2, "format 2"),
        ("books", "format", 1, "some other program's"),
        ("runs", "x", 1, "some other program's"),
    ] {
        match Journal::open(make(table, key, value).path()) {
            Err(JournalError::Foreign(why)) => assert!(why.contains(says), "{why}"),
            other => panic!("{table}: {other:?}"),
        }
    }
    let held = make("parachute_alerts", "format", 1);
    let _database = redb::Database::open(held.path().join(FILE)).unwrap();
    assert!(
        matches!(Journal::open(held.path()), Err(JournalError::Unavailable(_))),
        "another agent's is left alone"
    );
}

fn journal_with(runs: u8) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let ops: Vec<Op> = (0..runs)
        .flat_map(|n| {
            [
                Op::Put(RunId::fresh().to_string(), vec![b'x'; 500]),
                Op::Seen([n; 16], u64::from(n)),
                Op::Rest([n; 16], 1),
            ]
        })
        .collect();
    journal.apply(&ops).unwrap();
    folder
}

#[test]
fn a_journal_says_what_was_last_written() {
    let folder = journal_with(3);
    let (journal, contents) = Journal::open(folder.path()).unwrap();
    assert_eq!((contents.runs.len(), contents.seen.len(), contents.rests.len()), (3, 3, 3));
    assert!(contents.seen.is_sorted_by_key(|(_, at)| *at));
    journal
        .apply(&[Op::Done(contents.runs[0].0.clone()), Op::ForgetSeen([1; 16]), Op::ForgetRest([2; 16])])
        .unwrap();
    drop(journal);
    let (journal, contents) = Journal::open(folder.path()).unwrap();
    assert_eq!((contents.runs.len(), contents.seen.len(), contents.rests.len()), (2, 2, 2));
    let new =
        Contents { runs: vec![("r".into(), b"1".to_vec())], seen: vec![([9; 16], 5)], ..Contents::default() };
    journal.replace(&new).unwrap();
    drop(journal);
    assert_eq!(Journal::open(folder.path()).unwrap().1, new);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever has become of the file: it is read as it was, or refused, and never a crash.
    #[test]
    fn broken_bytes_are_refused_or_harmless(at in 0usize..1_000_000, bytes in prop::collection::vec(any::<u8>(), 1..64), cut in any::<bool>()) {
        let folder = journal_with(20);
        let path = folder.path().join(FILE);
        let mut all = std::fs::read(&path).unwrap();
        let at = at % all.len();
        if cut {
            all.truncate(at);
        } else {
            let end = (at + bytes.len()).min(all.len());
            all[at..end].copy_from_slice(&bytes[..end - at]);
        }
        std::fs::write(&path, &all).unwrap();
        match Journal::open(folder.path()) {
            Ok((journal, contents)) => {
                prop_assert!(contents.runs.len() == 20 || contents.runs.is_empty(), "{} runs", contents.runs.len());
                prop_assert!(journal.apply(&[Op::Seen([1; 16], 1)]).is_ok());
            }
            Err(JournalError::Foreign(_)) => {}
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}
