//! Captures over HTTP: who is told what, and how it is handed out.

use super::*;
use crate::captures::{Counters, Filter, Record as Written};
use crate::model::{RunId, Stream};

/// A folder of captures of the test's own.
pub(in crate::http) struct Room {
    pub(super) captures: Captures,
    _folder: tempfile::TempDir,
}

pub(in crate::http) fn room(agent: &AgentMetrics) -> Room {
    let folder = tempfile::tempdir().unwrap();
    let captures =
        Captures::open(&folder.path().join("captures"), &crate::config::Captures::default(), counters(agent));
    Room { captures, _folder: folder }
}

/// As `app` has them.
pub(in crate::http) fn counters(agent: &AgentMetrics) -> Counters {
    Counters {
        captures: agent.captures.clone(),
        bytes: agent.capture_bytes.clone(),
        budget_bytes: agent.capture_budget_bytes.clone(),
        working: agent.capture_working.clone(),
        written: agent.captures_written.clone(),
        failures: agent.capture_failures.clone(),
        evicted: agent.captures_evicted.clone(),
        set_aside: agent.captures_set_aside.clone(),
    }
}

async fn keep(served: &Served, id: &str, outcome: Outcome, stdout: &[u8]) -> RunId {
    let id = RunId::parse(id).unwrap();
    let captures = served.fake.captures();
    let keeping = captures.begin(&id).unwrap();
    let copies = keeping.copies();
    for piece in stdout.chunks(50_000) {
        copies.send((Stream::Stdout, bytes::Bytes::copy_from_slice(piece))).await.unwrap();
    }
    drop(copies);
    let mut run = result("sockets", &container("a", named("shop", "cart-0", "cart")), outcome, Vec::new());
    run.request.id = id.clone();
    run.started_at = std::time::SystemTime::now();
    captures.finish(keeping, Some(Written::of(&run, None, "node-1"))).await.unwrap();
    id
}

const FIRST: &str = "20261126T030412.001Z-00000001";
const SECOND: &str = "20261126T030412.002Z-00000002";
const PATH: &str = "/api/v1/captures";

#[tokio::test]
async fn a_list_is_filtered_and_mistakes_are_told() {
    let served = served(false, Ok(())).await;
    keep(&served, FIRST, Outcome::Ok, b"one").await;
    keep(&served, SECOND, Outcome::Timeout, b"two").await;
    let all = served.get(PATH).await.json();
    assert_eq!(all["complete"], true);
    assert_eq!((&all["captures"][0]["id"], &all["captures"][1]["id"]), (&SECOND.into(), &FIRST.into()));
    assert_eq!((&all["captures"][0]["outcome"], &all["next"]), (&"timeout".into(), &serde_json::Value::Null));
    let page = served.get("/api/v1/captures?limit=1").await.json();
    assert_eq!((page["captures"].as_array().unwrap().len(), &page["next"]), (1, &SECOND.into()));
    let next = served.get(&format!("{PATH}?limit=1&before={SECOND}")).await.json();
    assert_eq!((&next["captures"][0]["id"], &next["next"]), (&FIRST.into(), &serde_json::Value::Null));
    for (query, fitting) in [
        ("outcome=failed", 1),
        ("outcome=ok&namespace=shop&pod=cart-0&container=cart&probe=sockets&trigger=by-hand", 1),
        ("pod=", 2),
        ("pod=other", 0),
        ("alert=X", 0),
        ("until=1h", 0),
        ("since=1h", 2),
    ] {
        let got = served.get(&format!("{PATH}?{query}")).await.json();
        assert_eq!(got["captures"].as_array().unwrap().len(), fitting, "{query}");
    }
    for (query, says) in [
        ("limit=0", "limit must be a whole number from 1 to 1000"),
        ("limit=1001", "limit must be"),
        ("outcome=fine", "outcome must be one of ok, failed, nonzero"),
        ("since=yesterday", "since: \"yesterday\" is no time"),
        ("before=../x", "before must be"),
        ("name=x", "unknown parameter \"name\""),
    ] {
        let refused = served.get(&format!("{PATH}?{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.error().contains(says), "{query}: {}", refused.error());
    }
    assert_eq!(served.ask("POST", PATH, "", "").await.status, 405);
}

#[tokio::test]
async fn a_stream_is_a_file_to_save_whole_or_in_part() {
    let served = served(false, Ok(())).await;
    let text = "<script>alert(1)</script>\n".repeat(20_000);
    keep(&served, FIRST, Outcome::Ok, text.as_bytes()).await;
    keep(&served, SECOND, Outcome::Ok, b"\xd4\xc3\xb2\xa1\0\0").await;
    let path = format!("{PATH}/{FIRST}/stdout");
    let whole = served.get(&path).await;
    assert_eq!((whole.status, whole.text()), (200, text.as_str()));
    for line in [
        "content-type: text/plain; charset=utf-8",
        "accept-ranges: bytes",
        "x-content-type-options: nosniff",
        "content-security-policy: sandbox; default-src 'none'",
        &format!("content-disposition: attachment; filename=\"sockets-{FIRST}.txt\""),
        &format!("content-length: {}", text.len()),
    ] {
        assert!(whole.head.contains(&format!("{line}\r\n")), "{line}: {}", whole.head);
    }
    let etag = whole.head.split("etag: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
    let digest = served.get(&format!("{PATH}/{FIRST}")).await.json()["stdout"]["sha256"].clone();
    assert_eq!(etag, format!("\"{}\"", digest.as_str().unwrap()));

    let head = served.ask("HEAD", &path, "Range: bytes=0-0\r\n", "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.head.contains(&format!("content-length: {}\r\n", text.len())), "{}", head.head);
    let length = text.len();
    for (headers, status, from, to) in [
        ("Range: bytes=8-14\r\n".to_owned(), 206, 8, 15),
        ("Range: bytes=-3\r\n".to_owned(), 206, length - 3, length),
        (format!("Range: bytes=300000-\r\nIf-Range: {etag}\r\n"), 206, 300_000, length),
        ("Range: bytes=1-2\r\nIf-Range: \"other\"\r\n".to_owned(), 200, 0, length),
        ("Range: bytes=1-2,4-5\r\n".to_owned(), 200, 0, length),
        ("Range: lines=1-2\r\n".to_owned(), 200, 0, length),
    ] {
        let part = served.ask("GET", &path, &headers, "").await;
        assert_eq!((part.status, part.text()), (status, &text[from..to]), "{headers}");
        if status == 206 {
            let range = format!("content-range: bytes {from}-{}/{length}\r\n", to - 1);
            assert!(part.head.contains(&range), "{}", part.head);
        }
    }
    let beyond = served.ask("GET", &path, &format!("Range: bytes={length}-\r\n"), "").await;
    assert_eq!(beyond.status, 416);
    assert!(beyond.head.contains(&format!("content-range: bytes */{length}\r\n")), "{}", beyond.head);
    let same = served.ask("GET", &path, &format!("If-None-Match: {etag}\r\n"), "").await;
    assert_eq!((same.status, same.body.len()), (304, 0));

    let pcap = served.get(&format!("{PATH}/{SECOND}/stdout")).await;
    assert!(pcap.head.contains("application/vnd.tcpdump.pcap\r\n") && pcap.head.contains(".pcap\"\r\n"));
    assert_eq!(pcap.body, b"\xd4\xc3\xb2\xa1\0\0");
    let nothing = served.get(&format!("{PATH}/{FIRST}/stderr")).await;
    assert_eq!((nothing.status, nothing.body.len()), (200, 0));
}

#[tokio::test]
async fn one_is_removed_and_what_is_none_is_told() {
    let served = served(false, Ok(())).await;
    keep(&served, FIRST, Outcome::Ok, b"one").await;
    let path = format!("{PATH}/{FIRST}");
    let record = served.get(&path).await.json();
    assert_eq!(
        (&record["version"], &record["node"], &record["outcome"]),
        (&1.into(), &"node-1".into(), &"ok".into())
    );
    for (method, path, headers, status) in [
        ("GET", format!("{PATH}/x"), "", 400),
        ("GET", format!("{PATH}/{SECOND}"), "", 404),
        ("GET", format!("{PATH}/{SECOND}/stdout"), "", 404),
        ("GET", format!("{path}/stdin"), "", 404),
        ("GET", format!("{PATH}/..%2f..%2fetc/stdout"), "", 400),
        ("POST", path.clone(), "", 405),
        ("DELETE", format!("{path}/stdout"), "", 405),
        ("DELETE", path.clone(), "Origin: http://evil.example\r\n", 403),
        ("DELETE", format!("{PATH}/x"), "", 400),
        ("DELETE", format!("{PATH}/{SECOND}"), "", 404),
        ("DELETE", path.clone(), "", 200),
        ("DELETE", path.clone(), "", 404),
        ("GET", path.clone(), "", 404),
    ] {
        let answer = served.ask(method, &path, headers, "").await;
        assert_eq!(answer.status, status, "{method} {path} {headers}");
    }
    assert!(served.fake.captures().list(&Filter::default(), 10, None).captures.is_empty());
}
