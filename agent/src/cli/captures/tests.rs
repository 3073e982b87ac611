//! The verbs on a folder that the room itself has written.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::Parser as _;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts};
use tempfile::TempDir;

use super::which::{choose, one};
use super::{list, rm, save, show};
use crate::captures::{Captures, Counters, Filter, Folder, Record};
use crate::http::ListenAddress;
use crate::model::testing::{container, named, result};
use crate::model::{Alert, Outcome, RunId, Stream};

const PCAP: &[u8] = b"\xd4\xc3\xb2\xa1\x02\0\x04\0\xff\xfe";
const HOSTILE: &str = "one\u{1b}[2J\nstderr: nothing\u{202e}\n";

fn id(number: u32) -> RunId {
    RunId::parse(&format!("20261126T03041{number}.000Z-0000000{number}")).unwrap()
}

fn counters() -> Counters {
    let gauge = || IntGauge::new("x", "x").unwrap();
    let by_reason = || IntCounterVec::new(Opts::new("x", "x"), &["reason"]).unwrap();
    Counters {
        captures: gauge(),
        bytes: gauge(),
        budget_bytes: gauge(),
        working: gauge(),
        written: IntCounter::new("x", "x").unwrap(),
        failures: by_reason(),
        evicted: by_reason(),
        set_aside: by_reason(),
    }
}

/// Three captures: a text, a pcap and a failed one without a word; numbered 1 to 3 in that order.
fn kept() -> (TempDir, Folder) {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("captures");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let captures = Captures::open(&path, &crate::config::Captures::default(), counters());
        captures.loaded().await;
        for (number, probe, stdout, stderr, outcome) in [
            (1, "sockets", HOSTILE.as_bytes(), &b"a warning"[..], Outcome::Ok),
            (2, "tcpdump", PCAP, b"", Outcome::Ok),
            (3, "sockets", b"", b"", Outcome::Nonzero { status: 3 }),
        ] {
            let mut run =
                result(probe, &container("a", named("shop", "cart-0", "cart")), outcome, Vec::new());
            run.request.id = id(number);
            run.started_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_662_252 + u64::from(number));
            run.request.alert = (number == 1).then(|| {
                let labels = [("alertname".to_owned(), "Retransmits\u{1b}[m\u{202e}".to_owned())].into();
                Arc::new(Alert { labels, starts_at: "2026-11-26T03:04:05Z".into(), ..Alert::default() })
            });
            let keeping = captures.begin(&id(number)).unwrap();
            let copies = keeping.copies();
            copies.send((Stream::Stdout, Bytes::copy_from_slice(stdout))).await.unwrap();
            copies.send((Stream::Stderr, Bytes::copy_from_slice(stderr))).await.unwrap();
            drop(copies);
            captures.finish(keeping, Some(Record::of(&run, None, "node-1"))).await.unwrap().unwrap();
        }
    });
    (temporary, Folder::new(&path))
}

/// Every path below, to see that nothing was changed.
fn tree(path: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.push(path);
    }
    all.sort();
    all
}

/// Makes the record say something that is not so.
fn tamper(folder: &Folder, id: &RunId, change: impl Fn(&mut serde_json::Value)) {
    let path = folder.path().join(id.as_str()).join("record.json");
    let mut record = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(&path, record.to_string()).unwrap();
}

fn ids(folder: &Folder, filter: &Filter, limit: usize) -> (Vec<RunId>, bool) {
    let chosen = choose(folder, filter, limit).unwrap();
    (chosen.captures.into_iter().map(|capture| capture.id).collect(), chosen.more)
}

#[test]
fn the_newest_come_first_and_filters_leave_some() {
    let (_temporary, folder) = kept();
    let probe = |name: &str| Filter { probe: Some(name.into()), ..Filter::default() };
    for (filter, limit, found, more) in [
        (Filter::default(), usize::MAX, vec![id(3), id(2), id(1)], false),
        (Filter::default(), 3, vec![id(3), id(2), id(1)], false),
        (Filter::default(), 2, vec![id(3), id(2)], true),
        (probe("sockets"), 1, vec![id(3)], true),
        (probe("sockets"), usize::MAX, vec![id(3), id(1)], false),
        (probe("sock"), usize::MAX, vec![], false),
        (Filter { outcome: Some("failed".into()), ..Filter::default() }, usize::MAX, vec![id(3)], false),
    ] {
        assert_eq!(ids(&folder, &filter, limit), (found, more), "{filter:?} {limit}");
    }
    let table = list::table(&choose(&folder, &Filter::default(), usize::MAX).unwrap().captures);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines.len() == 4, "{table}");
    assert!(lines[2].contains("tcpdump") && lines[2].ends_with("10 B"), "{table}");
    assert!(lines[3].contains("Retransmits?[m?") && lines[3].starts_with(id(1).as_str()), "{table}");
}

#[test]
fn what_is_damaged_is_left_out_and_left_where_it_is() {
    let (temporary, folder) = kept();
    fs::write(folder.path().join(id(2).as_str()).join("record.json"), "{").unwrap();
    tamper(&folder, &id(3), |record| record["version"] = 2.into());
    fs::create_dir(folder.path().join("foreign")).unwrap();
    std::os::unix::fs::symlink("/etc", folder.path().join(id(4).as_str())).unwrap();
    let before = tree(temporary.path());
    assert_eq!(ids(&folder, &Filter::default(), usize::MAX).0, [id(1)]);
    assert_eq!(one(&folder, "last", &Filter::default()).unwrap(), id(1));
    for (number, part) in [(2, "is damaged"), (3, "a later parachute"), (4, "it is no capture")] {
        let error = save::files(&folder, &id(number), temporary.path(), false).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(id(number).as_str()), "{error}");
    }
    assert_eq!(tree(temporary.path()), before);
}

#[test]
fn an_id_is_a_beginning_or_the_last_one() {
    let (_temporary, folder) = kept();
    let all = Filter::default();
    let of = |name: &str| Filter { probe: Some(name.into()), ..Filter::default() };
    for (wanted, filter, found) in [
        ("last", &all, Ok(3)),
        ("last", &of("tcpdump"), Ok(2)),
        ("last", &of("none"), Err("fits")),
        ("20261126T030411", &all, Ok(1)),
        (id(2).as_str(), &all, Ok(2)),
        ("20261126T03041", &all, Err("may be one of 3 captures")),
        ("2027", &all, Err("there is no capture 2027 in")),
        ("", &all, Err("there is no capture")),
        ("../captures", &all, Err("there is no capture")),
        ("20261126T030411", &of("sockets"), Err("`last`")),
    ] {
        match (one(&folder, wanted, filter), found) {
            (Ok(is), Ok(number)) => assert_eq!(is, id(number), "{wanted}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{wanted}: {error}"),
            (is, _) => panic!("{wanted}: {is:?}"),
        }
    }
}

#[test]
fn a_person_sees_the_record_and_text_that_cannot_deceive() {
    let (_temporary, folder) = kept();
    let shown = |number| {
        let mut out = Vec::new();
        let result = show::write(&folder, &id(number), &mut out);
        (String::from_utf8(out).unwrap(), result)
    };
    let (text, result) = shown(1);
    assert!(result.is_ok());
    for part in [
        "capture     20261126T030411.000Z-00000001\n",
        "container   shop/cart-0/cart\n",
        "alertname=\"Retransmits\\u{1b}[m\\u{202e}\"",
        "stdout: 27 B of text\n  one^[[2J\n  stderr: nothing<U+202E>\n\nstderr: 9 B of text\n  a warning\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (text, _) = shown(2);
    let hint = format!("\nstdout: 10 bytes of pcap; parachute captures save {}\n\nstderr: nothing\n", id(2));
    assert!(text.ends_with(&hint), "{text}");
    assert!(shown(3).0.contains("outcome     nonzero: exit status 3"));

    tamper(&folder, &id(1), |record| record["stderr"]["sha256"] = "0".repeat(64).into());
    let (text, result) = shown(1);
    assert!(text.contains("one^[[2J"), "{text}");
    let error = format!("{:#}", result.unwrap_err());
    assert!(error.contains("stderr of capture") && error.contains("is damaged"), "{error}");
}

#[test]
fn files_are_saved_whole_or_not_at_all() {
    let (temporary, folder) = kept();
    let into = temporary.path().join("into");
    fs::create_dir(&into).unwrap();
    let saved = save::files(&folder, &id(1), &into, false).unwrap();
    let stem = format!("sockets-{}", id(1));
    let names = ["txt", "stderr.txt", "record.json"].map(|end| into.join(format!("{stem}.{end}")));
    assert_eq!(saved, names);
    assert_eq!(fs::read(&names[0]).unwrap(), HOSTILE.as_bytes());
    assert_eq!(fs::read(&names[1]).unwrap(), b"a warning");
    let record: Record = serde_json::from_slice(&fs::read(&names[2]).unwrap()).unwrap();
    assert_eq!(record, folder.look(&id(1)).unwrap().record);
    for name in &names {
        assert_eq!(fs::metadata(name).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    // One that is there already keeps the others from being written, and stays as it is.
    fs::remove_file(&names[0]).unwrap();
    fs::write(&names[1], "mine").unwrap();
    let error = save::files(&folder, &id(1), &into, false).unwrap_err().to_string();
    assert!(error.contains("is there already") && error.contains("--force"), "{error}");
    assert!(!names[0].exists() && fs::read(&names[1]).unwrap() == b"mine");
    save::files(&folder, &id(1), &into, true).unwrap();
    assert_eq!(fs::read(&names[1]).unwrap(), b"a warning");

    let before = tree(&into);
    tamper(&folder, &id(2), |record| record["stdout"]["sha256"] = "0".repeat(64).into());
    let error = format!("{:#}", save::files(&folder, &id(2), &into, false).unwrap_err());
    assert!(error.contains("digest") && error.contains(id(2).as_str()), "{error}");
    assert_eq!(tree(&into), before, "nothing of it is left");
    let error = save::files(&folder, &id(3), &into.join("none"), false).unwrap_err().to_string();
    assert!(error.starts_with("there is no folder"), "{error}");
}

#[test]
fn the_examples_are_right_and_wrong_words_are_refused() {
    let read = |line: &str| crate::cli::Cli::try_parse_from(line.split_whitespace()).map(drop);
    let mut examples = 0;
    for line in super::EXAMPLES.lines().filter_map(|line| line.strip_prefix("  ")) {
        let line = line.split(" | ").next().unwrap();
        read(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        examples += 1;
    }
    assert!(examples >= 6);
    for line in [
        "list --outcome bad",
        "list --since yesterday",
        "save x --to a --directory b",
        "save x --stream stderr",
        "rm",
    ] {
        assert!(read(&format!("parachute captures {line}")).is_err(), "{line}");
    }
    read("parachute captures list --since 2026-11-26T03:00:00+01:00 --until 30m --limit 0 -o name").unwrap();
}

/// Answers one request so, and says what was asked.
fn agent(folder: &Path, answer: &'static str) -> (ListenAddress, std::thread::JoinHandle<String>) {
    let path = folder.join("agent.sock");
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (ListenAddress::Unix(path), asked)
}

#[test]
fn the_agent_removes_them_and_without_one_they_go_as_well() {
    let (temporary, folder) = kept();
    let there = |number| folder.look(&id(number)).is_ok();
    let (address, asked) = agent(temporary.path(), "HTTP/1.0 200 OK\r\n\r\n{}");
    rm::remove(&folder, &address, &id(1)).unwrap();
    let asked = asked.join().unwrap();
    assert!(asked.starts_with(&format!("DELETE /api/v1/captures/{} HTTP/1.0\r\n", id(1))), "{asked}");
    assert!(there(1), "that is the agent's to do");

    let (address, asked) = agent(temporary.path(), "HTTP/1.0 500 Oh\r\n\r\nthe disk fails");
    let error = format!("{:#}", rm::remove(&folder, &address, &id(1)).unwrap_err());
    assert!(error.contains("500: the disk fails") && error.contains(id(1).as_str()) && there(1), "{error}");
    asked.join().unwrap();

    let (address, asked) = agent(temporary.path(), "HTTP/1.0 404 Not Found\r\n\r\n{}");
    rm::remove(&folder, &address, &id(1)).unwrap();
    asked.join().unwrap();
    assert!(!there(1), "the agent has another folder");

    // Nobody listens any more.
    rm::remove(&folder, &address, &id(2)).unwrap();
    assert!(!there(2) && there(3));
    let error = rm::remove(&folder, &address, &id(2)).unwrap_err().to_string();
    assert!(error.contains("there is no such capture"), "{error}");
}
