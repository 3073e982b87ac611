//! Disks that are full, that cannot be written, and that hang. Real ones, each mounted in a folder of the test's own.

use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::*;

/// A mount that goes with the test.
pub(super) struct Mounted(TempDir);

impl Mounted {
    pub(super) fn tmpfs(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tmpfs = Some("tmpfs");
        mount(tmpfs, folder.path(), tmpfs, MsFlags::empty(), Some(options)).expect("these tests need root");
        Self(folder)
    }

    fn remount(&self, flags: MsFlags) {
        mount(None::<&str>, self.0.path(), None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>).unwrap();
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.path().join("captures")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever still has a file open there must not keep the mount in sight.
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_stops_the_keeping_until_there_is_room() {
    let disk = Mounted::tmpfs("size=512k,mode=700");
    let room = Room::open(disk.path(), &config::Captures::default()).await;
    room.keep(&at(1), FAILED, b"before").await.unwrap();
    let keeping = room.captures.begin(&at(2)).unwrap();
    let copies = keeping.copies();
    let mut failed = false;
    for piece in noise(3 << 20).chunks(60_000) {
        failed = copies.send((Stream::Stdout, Bytes::copy_from_slice(piece))).await.is_err();
        if failed {
            break;
        }
    }
    assert!(failed, "whoever sends learns of it");
    let result = room.captures.finish(keeping, Some(record(&at(2), FAILED))).await;
    assert!(matches!(result, Err(NotKept::NoSpace(_))), "{result:?}");
    assert_eq!((room.counters.working.get(), count(&room.counters.failures, "no_space")), (0, 1));
    until("nothing is left of it", || room.leftovers() == 0).await;

    // Somebody else fills it to the last byte.
    let filler = disk.0.path().join("filler");
    while fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&filler)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &[1; 4096]))
        .is_ok()
    {}
    assert!(matches!(room.keep(&at(3), FAILED, b"x").await, Err(NotKept::NoSpace(_))));
    assert_eq!(room.ids(), [at(1)]);
    assert_eq!(room.read(&at(1), Stream::Stdout).unwrap(), b"before");
    fs::remove_file(filler).unwrap();
    room.keep(&at(4), FAILED, b"after").await.unwrap();
    assert_eq!((room.ids(), room.counters.working.get()), (vec![at(4), at(1)], 1));
}

/// Something mounted over a file or folder of a capture's; it goes with the test.
struct Over(PathBuf);

impl Over {
    fn new(source: &str, kind: Option<&str>, place: PathBuf) -> Self {
        let flags = if kind.is_some() { MsFlags::empty() } else { MsFlags::MS_BIND };
        mount(Some(source), &place, kind, flags, None::<&str>).expect("these tests need root");
        Self(place)
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn one_that_cannot_be_removed_stays_and_others_make_the_room() {
    let disk = Mounted::tmpfs("size=4m,mode=700");
    let room =
        Room::open(disk.path(), &config::Captures { max_size: 1 << 20, ..config::Captures::default() }).await;
    room.keep(&at(1), Outcome::Ok, &noise(200_000)).await.unwrap();
    // What is mounted on cannot be renamed: EBUSY, as EPERM after chattr(1).
    let over = Over::new("tmpfs", Some("tmpfs"), disk.path().join(at(1).as_str()));
    for number in 2..12 {
        room.keep(&at(number), Outcome::Ok, &noise(200_000)).await.unwrap().unwrap();
    }
    let ids = room.ids();
    assert!(ids.len() < 6 && ids.contains(&at(11)) && ids.contains(&at(1)), "{ids:?}");
    assert_eq!((room.counters.working.get(), count(&room.counters.failures, "io")), (1, 0));
    drop(over);
}

#[tokio::test]
async fn one_that_cannot_be_read_keeps_no_other_from_being_counted() {
    let disk = Mounted::tmpfs("size=4m,mode=700");
    let bounds = config::Captures::default();
    let room = Room::open(disk.path(), &bounds).await;
    for number in 1..4 {
        room.keep(&at(number), Outcome::Ok, b"x").await.unwrap().unwrap();
    }
    // Its first byte is at no address that is mapped: EIO.
    let over = Over::new("/proc/self/mem", None, disk.path().join(at(2).as_str()).join("record.json"));
    let room = room.reopen(&bounds).await;
    assert_eq!(room.ids(), [at(3), at(1)]);
    assert_eq!((count(&room.counters.failures, "io"), room.counters.captures.get()), (1, 2));
    assert!(matches!(room.captures.record(&at(2)), Err(Fault::Io(_))));
    drop(over);
}

#[tokio::test]
async fn where_there_can_be_no_captures_nobody_waits_for_them() {
    let captures = Captures::open(Path::new("/proc/captures"), &config::Captures::default(), counters());
    tokio::time::timeout(Duration::from_mins(1), captures.settled()).await.expect("it is known to fail");
    assert!(!captures.list(&Filter::default(), 10, None).complete);
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_stops_the_keeping_and_is_read_all_the_same() {
    let disk = Mounted::tmpfs("size=4m,mode=700");
    let room = Room::open(disk.path(), &config::Captures::default()).await;
    room.keep(&at(1), FAILED, b"before").await.unwrap();
    let first = Arc::downgrade(&room.captures.shared);
    drop(room);
    // Its threads may still end, and with the last of them it lets go of the folder.
    until("the folder is free", || first.strong_count() == 0).await;
    disk.remount(MsFlags::MS_RDONLY);
    // Also at the start.
    let counters = counters();
    let captures = Captures::open(&disk.path(), &config::Captures::default(), counters.clone());
    let room = Room { path: disk.path(), captures, counters };
    assert!(matches!(
        room.keep(&at(2), FAILED, b"x").await,
        Err(NotKept::ReadOnly(_) | NotKept::Unusable(_))
    ));
    assert_eq!(room.counters.working.get(), 0);
    assert!(room.captures.contains(&at(1)));
    assert_eq!(room.read(&at(1), Stream::Stdout).unwrap(), b"before");
    disk.remount(MsFlags::empty());
    until("it works again", || !room.path.join("tmp").join(at(2).as_str()).exists()).await;
    room.keep(&at(3), FAILED, b"after").await.unwrap();
    room.captures.loaded().await;
    assert_eq!((room.ids(), room.counters.working.get()), (vec![at(3), at(1)], 1));
    assert!(room.captures.remove(&at(1)).unwrap());
    disk.remount(MsFlags::MS_RDONLY);
    assert!(room.captures.remove(&at(3)).is_err());
    assert!(matches!(room.keep(&at(4), FAILED, b"x").await, Err(NotKept::ReadOnly(_))));
    assert_eq!(room.ids(), [at(3)]);
}

fn run(program: &str, arguments: &[&str], last: &Path) {
    let output = Command::new(program).args(arguments).arg(last).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Thaws what a failing test has left frozen: nothing could be unmounted otherwise.
struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_holds_nobody_up() {
    let images = tempfile::tempdir().unwrap();
    let image = images.path().join("image");
    fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    run("mkfs.ext4", &["-q", "-F"], &image);
    let disk = Mounted(tempfile::tempdir().unwrap());
    run("mount", &["-o", "loop", image.to_str().unwrap()], disk.0.path());
    let room = Room::open(disk.path(), &config::Captures::default()).await;
    room.keep(&at(1), FAILED, b"before").await.unwrap();

    run("fsfreeze", &["-f"], disk.0.path());
    let frozen = Frozen(disk.0.path().to_owned());
    // Nobody waits longer than the disk is waited for, whatever a command prints.
    for number in 2..4 {
        let started = Instant::now();
        let result = room.keep(&at(number), FAILED, &noise(2 << 20)).await;
        assert!(matches!(result, Err(NotKept::Slow)), "{result:?}");
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }
    assert_eq!((room.counters.working.get(), count(&room.counters.failures, "slow")), (0, 2));
    // What can be asked without the disk is answered.
    assert_eq!(room.ids(), [at(1)]);
    assert!(room.captures.contains(&at(1)));
    // It gets no more to do than it may ever finish.
    for number in 4..10 {
        let keeping = room.captures.begin(&at(number)).expect("there is a place");
        // More than is held in memory; the second is only taken when there is a writer for the first.
        for _ in 0..2 {
            keeping.copies().send((Stream::Stdout, noise(1 << 16).into())).await.unwrap();
        }
        room.captures.shared.state().writing.get_mut(&at(number)).unwrap().late = true;
        drop(keeping);
    }
    assert!(room.captures.begin(&at(99)).is_none(), "eight hang already");
    assert_eq!(count(&room.counters.failures, "busy"), 1);

    drop(frozen);
    until("the writers have gone", || room.captures.shared.state().writing.is_empty()).await;
    room.keep(&at(100), FAILED, b"after").await.unwrap();
    assert!(room.ids().contains(&at(100)));
    assert_eq!(room.counters.working.get(), 1);
}
