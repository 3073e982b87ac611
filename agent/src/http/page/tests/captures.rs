//! What was kept, as a person sees it, in real captures.

use bytes::Bytes;

use super::*;
use crate::captures::Record as Written;
use crate::model::{Alert, RunId, Stream, TriggerName};

/// Keeps a run with this output, and says under which id.
async fn keep(stage: &Stage, mut run: RunResult, stdout: &[u8], stderr: &[u8]) -> RunId {
    let id = run.request.id.clone();
    run.started_at = ago(40);
    stage.captures.loaded().await;
    let keeping = stage.captures.begin(&id).expect("there is a folder");
    let pieces = keeping.copies();
    for (stream, bytes) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
        if !bytes.is_empty() {
            pieces.send((stream, Bytes::copy_from_slice(bytes))).await.unwrap();
        }
    }
    drop(pieces);
    let mut record = Written::of(&run, None, "node-1");
    record.command = vec!["sh".into(), "-c".into(), HOSTILE.into()];
    stage.captures.finish(keeping, Some(record)).await.unwrap();
    id
}

fn run(stage: &Stage, probe: &str, outcome: Outcome, alert: Option<&str>) -> RunResult {
    let mut run = result(probe, &stage.containers[0], outcome, Vec::new());
    if let Some(name) = alert {
        run.request.trigger = TriggerName::new("retransmits");
        let labels = [("alertname", name), ("severity", "critical")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let fingerprint = "4f1c9a024f1c9a02".into();
        run.request.alert = Some(Arc::new(Alert { labels, fingerprint, ..Alert::default() }));
    }
    run
}

async fn capture(stage: &Arc<Stage>, name: &str, id: &RunId) -> String {
    let (status, html, _) = page(stage.clone(), &format!("/captures/{id}"), &[]).await;
    assert_eq!(status, 200, "{html}");
    write(name, &html);
    html
}

const PS: &str =
    "    PID S COMMAND\n      1 S nginx: master process\n      7 R sh -c <b>bold</b> \u{1b}[2J\n";

/// A file of two packets over Ethernet, as `tcpdump -w -` writes it.
fn packets() -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    for _ in 0..2 {
        file.extend([0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 60, 0, 0, 0]);
        file.extend(b"\x02\x42\xac<b>");
    }
    file
}

#[tokio::test]
async fn a_capture_is_shown_as_what_it_is() {
    let mut stage = usual();
    stage.table = Some(Table { skip: 0, columns: None, separator: None, metrics: Vec::new() });
    let stage = Arc::new(stage);
    let text = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/output/ss-tan.iproute2-6.1.0.txt"
    ));
    let alert = Some("TcpRetransmitsHigh");
    let failed = Outcome::Nonzero { status: 2 };
    let warned = b"ss: warning: \x1b[1mbold\x1b[0m\n";
    let ss = keep(&stage, run(&stage, "connections", failed, alert), text, warned).await;
    let html = capture(&stage, "usual-capture-text", &ss).await;
    for part in [
        "because of alert <b>TcpRetransmitsHigh</b>",
        "severity=critical",
        "exit status 2",
        "ss: warning: <i>⟨ESC⟩</i>[1mbold",
        "LISTEN",
        &format!("href=\"/api/v1/captures/{ss}/stdout\" download=\"connections-{ss}.txt\""),
        &format!("href=\"/api/v1/captures/{ss}/stderr\""),
        "node-1",
    ] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
    let ps = keep(&stage, run(&stage, "processes", Outcome::Ok, None), PS.as_bytes(), b"").await;
    let html = capture(&stage, "usual-capture-table", &ps).await;
    let row = "<tr><td>7<td>R<td>sh -c &lt;b&gt;bold&lt;/b&gt; <i>⟨ESC⟩</i>[2J</tr>";
    assert!(html.contains("<th>PID<th>S<th>COMMAND") && html.contains(row), "{html}");
    let pcap =
        keep(&stage, run(&stage, "tcpdump-10s", Outcome::Ok, alert), &packets(), b"2 packets captured\n")
            .await;
    let html = capture(&stage, "usual-capture-packets", &pcap).await;
    let told = "Packets (pcap): Ethernet, at most 262144 bytes of each packet; this beginning has 2 packets of 120 bytes";
    assert!(
        html.contains(told) && html.contains("00000000  d4 c3 b2 a1") && html.contains(".pcap\""),
        "{html}"
    );
    let nothing = keep(&stage, run(&stage, "sockets", Outcome::Timeout, None), b"", b"").await;
    assert_eq!(capture(&stage, "usual-capture-nothing", &nothing).await.matches("Nothing.").count(), 2);

    for (path, name) in [("/captures", "captures"), ("/", "overview-full")] {
        let (_, html, _) = page(stage.clone(), path, &[]).await;
        write(&format!("usual-{name}"), &html);
        assert!(
            [&ss, &ps, &pcap, &nothing].iter().all(|id| html.contains(&format!("/captures/{id}\""))),
            "{html}"
        );
    }
    for (filter, found) in [
        (vec![("alert", "TcpRetransmitsHigh")], 2),
        (vec![("outcome", "failed")], 2),
        (vec![("probe", "processes"), ("pod", "cart-0")], 1),
        (vec![("since", "2020-01-01T00:00:00Z"), ("until", "2020-01-02T00:00:00Z")], 0),
    ] {
        let (_, html, _) = page(stage.clone(), "/captures", &filter).await;
        assert_eq!(html.matches("href=\"/captures/2").count(), found, "{filter:?} {html}");
    }
    let (_, html, _) = page(stage.clone(), &format!("/containers/{}", stage.containers[0].id), &[]).await;
    assert_eq!(html.matches("href=\"/captures/2").count(), 4, "{html}");
}

#[tokio::test]
async fn hostile_captures_are_shown_and_not_obeyed() {
    let mut stage = hostile();
    stage.table = Some(Table { skip: 0, columns: None, separator: None, metrics: Vec::new() });
    let stage = Arc::new(stage);
    let long = format!("{}{}", HOSTILE.repeat(3), "x".repeat(300_000));
    let invalid: Vec<u8> =
        [HOSTILE.as_bytes(), b"\n\xff\xfe\xc3(\xed\xa0\x80 \x9b31m\r\nabc\x08\x08\x08"].concat();
    let lines = format!("A B\n{}\n", HOSTILE.replace('\0', "")).repeat(40);
    for (probe, name, stdout) in [
        ("p", "text", HOSTILE.replace('\0', "").into_bytes()),
        ("p", "long", long.replace('\0', "").into_bytes()),
        ("p", "binary", invalid),
        ("processes", "table", lines.into_bytes()),
    ] {
        let id =
            keep(&stage, run(&stage, probe, Outcome::Ok, Some(HOSTILE)), &stdout, HOSTILE.as_bytes()).await;
        let html = capture(&stage, &format!("hostile-capture-{name}"), &id).await;
        assert_harmless(&html);
        assert!(html.contains("&lt;script&gt;") && html.len() < 400_000, "{name}: {}", html.len());
    }
    for path in ["/captures", "/"] {
        let (_, html, _) = page(stage.clone(), path, &[]).await;
        assert_harmless(&html);
    }
}

#[tokio::test]
async fn many_captures_come_page_by_page_and_what_is_gone_is_told() {
    let stage = Arc::new(usual());
    for _ in 0..60 {
        keep(&stage, run(&stage, "sockets", Outcome::Timeout, None), b"x", b"").await;
    }
    let (_, first, _) = page(stage.clone(), "/captures", &[("probe", "sockets")]).await;
    assert_eq!(first.matches("href=\"/captures/2").count(), 50);
    let (_, rest) = first.split_once("href=\"/captures?probe=sockets&amp;before=").unwrap();
    let before = rest.split_once('"').unwrap().0;
    let (_, second, _) = page(stage.clone(), "/captures", &[("probe", "sockets"), ("before", before)]).await;
    assert_eq!(second.matches("href=\"/captures/2").count(), 10);
    assert!(!second.contains("before="), "{second}");
    for (path, query, status, says) in [
        ("/captures/20200101T000000.000Z-00000000", vec![], 404, "There is no such capture"),
        ("/captures/nonsense", vec![], 404, "There is no such capture"),
        ("/captures", vec![("outcome", "bad")], 400, "outcome must be one of"),
        ("/captures", vec![("since", "<b>bold")], 400, "since"),
        ("/captures", vec![("before", "x")], 400, "before must be"),
        ("/captures", vec![("pdo", "x")], 400, "unknown parameter"),
    ] {
        let (got, html, _) = page(stage.clone(), path, &query).await;
        assert!(got == status && html.contains(says), "{path} {query:?}: {got} {html}");
        assert_harmless(&html);
    }
}
