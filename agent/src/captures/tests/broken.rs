//! Whatever may stand in the folder: half of a capture, a broken one, or something else.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

/// A whole capture, made by the room itself, to be broken.
async fn whole(id: &RunId) -> (TempDir, PathBuf) {
    let (temporary, path) = folder();
    let room = Room::open(path, &config::Captures::default()).await;
    room.keep(id, FAILED, &noise(100_000)).await.unwrap();
    let path = room.path.join(id.as_str());
    (temporary, path)
}

fn copy(from: &Path, to: &Path, names: &[&str]) {
    fs::create_dir_all(to).unwrap();
    for name in names {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// Of a good capture's folder, and a draft's.
type Step = fn(&Path, &Path);
/// Breaks the capture in this folder, whose record is this.
type Break<'a> = &'a dyn Fn(&Path, String);

#[tokio::test]
async fn a_crash_between_any_two_steps_leaves_all_or_nothing() {
    let (_temporary, good) = whole(&at(1)).await;
    // What is on the disk after each step of the writer; the last one is the move.
    let steps: [(Step, usize); 7] = [
        (|_, _| {}, 0),
        (|_, tmp| fs::create_dir_all(tmp).unwrap(), 0),
        (
            |_, tmp| {
                fs::create_dir_all(tmp).unwrap();
                File::create(tmp.join("stdout.zst")).unwrap();
            },
            0,
        ),
        (
            |good, tmp| {
                copy(good, tmp, &["stdout.zst"]);
                OpenOptions::new().write(true).open(tmp.join("stdout.zst")).unwrap().set_len(1000).unwrap();
            },
            0,
        ),
        (
            |good, tmp| {
                copy(good, tmp, &["stdout.zst"]);
                fs::write(tmp.join("record.json"), "{").unwrap();
            },
            0,
        ),
        (|good, tmp| copy(good, tmp, &["stdout.zst", "record.json"]), 0),
        (|good, tmp| copy(good, &tmp.join("../..").join(at(1).as_str()), &["stdout.zst", "record.json"]), 1),
    ];
    for (number, (step, captures)) in steps.into_iter().enumerate() {
        let (_temporary, path) = folder();
        fs::create_dir_all(path.join("tmp")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        step(&good, &path.join("tmp").join(at(1).as_str()));
        // Removal stops half way as well.
        copy(&good, &path.join(format!("tmp/{}.gone", at(2))), &["stdout.zst"]);
        let room = Room::open(path, &config::Captures::default()).await;
        assert_eq!((room.ids().len(), room.leftovers()), (captures, 0), "step {number}");
        assert!(!room.path.join("set-aside").exists(), "step {number}");
        // The same run can be kept now, where it was not.
        let kept = room.keep(&at(1), Outcome::Ok, b"again").await.unwrap().unwrap();
        assert_eq!(kept.existed, captures == 1, "step {number}");
    }
}

#[tokio::test]
async fn what_is_no_good_capture_is_set_aside_and_the_rest_is_read() {
    let (_temporary, good) = whole(&at(1)).await;
    let text = fs::read_to_string(good.join("record.json")).unwrap();
    let (temporary, path) = folder();
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    copy(&good, &path.join(at(1).as_str()), &["stdout.zst", "record.json"]);
    let mut number = 1;
    let mut broken = |how: Break<'_>| {
        number += 1;
        let id = at(number);
        let place = path.join(id.as_str());
        copy(&good, &place, &["stdout.zst", "record.json"]);
        let record = text.replace(at(1).as_str(), id.as_str());
        fs::write(place.join("record.json"), &record).unwrap();
        how(&place, record);
    };
    let write = |place: &Path, text: &str| fs::write(place.join("record.json"), text).unwrap();
    let corrupt: [Break<'_>; 22] = [
        &|place, _| write(place, ""),
        &|place, record| write(place, &record[..record.len() / 2]),
        &|place, _| fs::write(place.join("record.json"), noise(5000)).unwrap(),
        &|place, _| write(place, "[]"),
        &|place, _| write(place, "{\"version\":1}"),
        &|place, _| write(place, &"[".repeat(100_000)),
        &|place, record| write(place, &record.replace("\"version\":1", "\"version\":0")),
        &|place, record| write(place, &record.replace("\"version\":1", "\"version\":-1")),
        &|place, record| write(place, &record.replace("\"id\":\"2026", "\"id\":\"2025")),
        &|place, record| write(place, &record.replace("\"id\":\"2026", "\"id\":\"../26")),
        &|place, record| write(place, &record.replace("\"sha256\":\"", "\"sha256\":\"\\r\\nX-Evil: ")),
        &|place, record| write(place, &record.replace("\"started_at\":\"", "\"started_at\":\"x")),
        &|place, record| write(place, &record.replace("\"outcome\":\"nonzero\"", "\"outcome\":\"fine\"")),
        &|place, _| File::create(place.join("record.json")).unwrap().set_len(10 << 30).unwrap(),
        &|place, _| fs::remove_file(place.join("record.json")).unwrap(),
        &|place, _| {
            fs::remove_file(place.join("record.json")).unwrap();
            symlink("/etc/passwd", place.join("record.json")).unwrap();
        },
        &|place, _| {
            fs::remove_file(place.join("record.json")).unwrap();
            fs::create_dir(place.join("record.json")).unwrap();
        },
        &|place, _| {
            fs::remove_file(place.join("record.json")).unwrap();
            nix::unistd::mkfifo(&place.join("record.json"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        },
        &|place, _| fs::remove_file(place.join("stdout.zst")).unwrap(),
        &|place, _| {
            OpenOptions::new().append(true).open(place.join("stdout.zst")).unwrap().write_all(b"x").unwrap();
        },
        &|place, _| {
            fs::remove_file(place.join("stdout.zst")).unwrap();
            fs::create_dir(place.join("stdout.zst")).unwrap();
        },
        &|place, _| symlink("/etc/passwd", place.join("stderr.zst")).unwrap(),
    ];
    for how in corrupt {
        broken(how);
    }
    for version in ["2", "99999999999"] {
        broken(&|place, record| {
            write(place, &record.replace("\"version\":1", &format!("\"version\":{version}")));
        });
    }
    // Other things, four of them in the place of a capture.
    fs::write(path.join("notes.txt"), "mine").unwrap();
    fs::create_dir_all(path.join("a/b")).unwrap();
    fs::create_dir(path.join("lost+found")).unwrap();
    fs::write(path.join("x".repeat(255)), "").unwrap();
    symlink(temporary.path(), path.join("link")).unwrap();
    fs::write(path.join(at(900).as_str()), "a file").unwrap();
    symlink(&good, path.join(at(901).as_str())).unwrap();
    nix::unistd::mkfifo(&path.join(at(902).as_str()), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let before = fs::read_dir(&path).unwrap().count();

    let room = Room::open(path.clone(), &config::Captures::default()).await;
    assert_eq!(room.ids(), [at(1)]);
    assert_eq!(room.read(&at(1), Stream::Stdout).unwrap(), noise(100_000));
    let aside = |reason| count(&room.counters.set_aside, reason);
    assert_eq!((aside("corrupt"), aside("future_version"), aside("foreign")), (22, 2, 7));
    let left = fs::read_dir(path.join("set-aside")).unwrap().count();
    assert_eq!((left, before), (31, 31 + 2), "nothing is lost");
    assert!(path.join("lost+found").exists() && good.join("record.json").exists());
    assert!(
        room.counters.bytes.get() < 4 << 20,
        "a sparse file takes no room: {}",
        room.counters.bytes.get()
    );
    // At the next start there is nothing more to say of it, and it is kept.
    let room = room.reopen(&config::Captures::default()).await;
    assert_eq!((room.ids(), count(&room.counters.set_aside, "corrupt")), (vec![at(1)], 0));
    assert_eq!(fs::read_dir(path.join("set-aside")).unwrap().count(), 31);
    // Until it is too old.
    let soon = Duration::from_millis(1);
    room.captures.bound(&config::Captures {
        failures_max_age: soon,
        max_age: soon,
        ..config::Captures::default()
    });
    until("all goes", || fs::read_dir(path.join("set-aside")).unwrap().count() == 0).await;
    until("also the capture", || room.counters.captures.get() == 0).await;
    assert_eq!(count(&room.counters.evicted, "age"), 1);
}

#[tokio::test]
async fn a_stream_that_is_not_what_was_written_is_an_error_to_its_reader_and_set_aside() {
    let damage: [fn(&Path); 4] = [
        // Another digest in the record.
        |place| {
            let text = fs::read_to_string(place.join("record.json")).unwrap();
            let at = text.find("\"sha256\":\"").unwrap() + 10;
            let other = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
            let text = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            fs::write(place.join("record.json"), text).unwrap();
        },
        // A flipped byte in the middle, and at the end.
        |place| flip(place, 50_000),
        |place| flip(place, 99_990),
        // More or less than the record says.
        |place| {
            let text = fs::read_to_string(place.join("record.json")).unwrap();
            fs::write(place.join("record.json"), text.replace("\"bytes\":100000", "\"bytes\":99999"))
                .unwrap();
        },
    ];
    for (number, damage) in damage.into_iter().enumerate() {
        let (_temporary, path) = folder();
        let room = Room::open(path.clone(), &config::Captures::default()).await;
        room.keep(&at(1), FAILED, &noise(100_000)).await.unwrap();
        damage(&path.join(at(1).as_str()));
        let error = room.read(&at(1), Stream::Stdout).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{number}: {error}");
        assert_eq!(count(&room.counters.set_aside, "corrupt"), 1, "{number}");
        assert_eq!((room.ids().len(), room.counters.captures.get()), (0, 0), "{number}");
        assert!(matches!(room.captures.record(&at(1)), Err(Fault::Missing)), "{number}");
    }
}

fn flip(place: &Path, at: usize) {
    let mut bytes = fs::read(place.join("stdout.zst")).unwrap();
    bytes[at] ^= 0xff;
    fs::write(place.join("stdout.zst"), bytes).unwrap();
}

#[tokio::test]
async fn what_goes_behind_the_agents_back_is_forgotten() {
    let (_temporary, path) = folder();
    let room = Room::open(path.clone(), &config::Captures::default()).await;
    room.keep(&at(1), FAILED, b"x").await.unwrap();
    fs::remove_dir_all(path.join(at(1).as_str())).unwrap();
    assert!(matches!(room.captures.record(&at(1)), Err(Fault::Missing)));
    assert_eq!((room.ids().len(), room.counters.captures.get()), (0, 0));
    // Also all of the folder.
    fs::remove_dir_all(&path).unwrap();
    room.keep(&at(2), FAILED, b"x").await.unwrap();
    assert_eq!(room.ids(), [at(2)]);
}
