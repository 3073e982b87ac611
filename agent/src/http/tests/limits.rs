//! What no client may do to the others: wait, read or write too slowly, ask for too much.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{RUN, served};
use crate::http::{CONNECTION_TIMEOUT, HEADER_TIMEOUT, MAX_WAITING_RUNS};

#[tokio::test(start_paused = true)]
async fn slow_clients_are_cut_off() {
    let served = served(false, Ok(())).await;
    // A head that never ends: the connection is closed after the header timeout, without an answer or with a 408.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(2 * HEADER_TIMEOUT, stream.read_to_end(&mut bytes)).await.expect("closed").unwrap();
    assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&bytes));
    let json = "POST /api/v1/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    assert_eq!(served.raw(&format!("{json}Content-Length: 100\r\n\r\n{{")).await.status, 408);
    // The fake run never ends. That this is an answer also says that a run puts the connection's deadline off.
    let length = RUN.len();
    let answer = served.raw(&format!("{json}Content-Length: {length}\r\n\r\n{RUN}")).await;
    assert_eq!((answer.status, answer.error().as_str()), (504, "the run did not end in time"));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_the_answer_is_cut_off() {
    let served = served(false, Ok(())).await;
    // More than the kernel buffers for both ends of a connection.
    let padding = 64 << 20;
    served.fake.padding.store(padding, Ordering::Relaxed);
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream.readable().await.unwrap();
    tokio::time::sleep(2 * CONNECTION_TIMEOUT).await;
    let mut bytes = Vec::new();
    // Whether the end is a clean one is the kernel's affair.
    let _ = stream.read_to_end(&mut bytes).await;
    assert!(bytes.starts_with(b"HTTP/1.1 200") && bytes.len() < padding, "{} bytes came", bytes.len());
}

#[tokio::test]
async fn waiting_runs_leave_room_for_scrapes() {
    let served = served(false, Ok(())).await;
    let length = RUN.len();
    let head = "POST /api/v1/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Content-Length: {length}\r\n\r\n{RUN}");
    let wait = async || {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let asked = async |count| {
        let reached = async {
            while served.fake.asked.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reached).await.expect("the runs are asked for");
    };
    let mut waiting = Vec::new();
    for _ in 0..MAX_WAITING_RUNS {
        waiting.push(wait().await);
    }
    asked(MAX_WAITING_RUNS).await;
    for _ in 0..100 {
        let refused = served.raw(&request).await;
        assert_eq!(refused.status, 503);
        assert!(refused.head.contains("retry-after: 1\r\n"), "{}", refused.head);
    }
    assert_eq!(served.get("/metrics").await.status, 200);
    assert_eq!(served.get("/-/healthy").await.status, 200);
    // Half-sent heads, more than there were connections before.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
        slow.push(stream);
    }
    let healthy = tokio::time::timeout(Duration::from_secs(2), served.get("/-/healthy")).await;
    assert_eq!(healthy.expect("an answer at once").status, 200);
    // Who goes away frees a slot.
    drop(waiting.pop());
    let mut next = Vec::new();
    while served.fake.asked.load(Ordering::Relaxed) == MAX_WAITING_RUNS {
        next.push(wait().await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(served.fake.asked.load(Ordering::Relaxed), MAX_WAITING_RUNS + 1);
}

#[tokio::test]
async fn stopping_waits_for_no_more_than_the_grace() {
    let served = served(false, Ok(())).await;
    let mut waiting = TcpStream::connect(served.address).await.unwrap();
    let head = "POST /api/v1/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    waiting.write_all(format!("{head}Content-Length: {}\r\n\r\n{RUN}", RUN.len()).as_bytes()).await.unwrap();
    // Once another request is answered, the first one is certainly accepted.
    assert_eq!(served.get("/-/healthy").await.status, 200);
    served.stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), served.task).await.expect("ends").unwrap();
    assert!(TcpStream::connect(served.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn bad_run_requests_never_reach_the_rooms() {
    let served = served(false, Ok(())).await;
    let json = "Content-Type: application/json\r\n";
    let big = "x".repeat(64 * 1024 + 1);
    for (headers, body, status, says) in [
        ("", RUN, 415, "application/json"),
        ("Content-Type: text/plain\r\n", RUN, 415, "application/json"),
        ("Content-Type: application/x-www-form-urlencoded\r\n", "probe=sockets", 415, "application/json"),
        ("Content-Type: application/json\r\nOrigin: http://evil.example\r\n", RUN, 403, "web pages"),
        (json, "{", 400, "EOF"),
        (
            json,
            r#"{"probe":"sockets","target":{"pod":"cart-0"},"command":["sh"]}"#,
            400,
            "unknown field `command`",
        ),
        (json, r#"["sockets",{"pod":"cart-0"}]"#, 400, "expected a map"),
        (json, r#"{"probe":"sockets","target":[null,"cart-0",null,null]}"#, 400, "target must be an object"),
        (json, &big, 413, "65536"),
        (json, &big.repeat(15), 413, "65536"),
    ] {
        let answer = served.ask("POST", "/api/v1/run", headers, body).await;
        assert_eq!(answer.status, status, "{headers}");
        assert!(answer.error().contains(says), "{}", answer.error());
    }
    // Without a length the body is counted as it comes.
    let chunk = format!("{:x}\r\n{big}\r\n0\r\n\r\n", big.len());
    let head = "POST /api/v1/run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(served.raw(&format!("{head}{json}\r\n{chunk}")).await.status, 413);
    // Nobody sends 5 GiB to hear this.
    let head =
        "POST /api/v1/run HTTP/1.1\r\nHost: x\r\nContent-Length: 5368709120\r\nExpect: 100-continue\r\n";
    let answer = served.raw(&format!("{head}{json}\r\n")).await;
    assert!(answer.status == 413 && !answer.head.contains("100 Continue"), "{}", answer.head);
    assert_eq!(served.raw("NONSENSE\r\n\r\n").await.status, 400);
}
