//! A thousand slow clients of each kind, and a scrape among them that is answered at once.

use std::time::Instant;

use super::super::web::testing::Folder;
use super::*;

const CLIENTS: usize = 1000;
/// The requirement is 200 ms; this only says "did not wait for them", who are cut off after 5 s, on a machine where other
/// tests run.
const SOON: Duration = Duration::from_secs(4);

/// Opens them all, each with something said, and keeps them.
async fn crowd(served: &Served, said: &[u8]) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        crowd.push(stream);
    }
    crowd
}

/// The longest of some scrapes, in the presence of the crowd.
async fn scraped(served: &Served, kind: &str) {
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let since = Instant::now();
        let answer =
            tokio::time::timeout(SOON, served.get("/metrics")).await.expect("a scrape waits for nobody");
        assert_eq!(answer.status, 200);
        longest = longest.max(since.elapsed());
    }
    println!("{CLIENTS} {kind}: the longest of 10 scrapes took {longest:?}");
    let open = served.fake.agent.http_connections.get();
    assert!(open <= 1700, "{open} connections");
}

fn assert_cut(served: &Served, reason: &str) {
    let cut = served.closed(reason);
    println!("cut off for {reason}: {cut}");
    assert!(cut > 0, "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_keeps_nobody_waiting() {
    let served = served(false, Ok(())).await;
    let crowd = crowd(&served, b"").await;
    scraped(&served, "silent clients").await;
    assert_cut(&served, "no_request");
    drop(crowd);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dribbles_his_head_keeps_nobody_waiting() {
    let served = served(false, Ok(())).await;
    let mut crowd = crowd(&served, b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ").await;
    let dribble = async {
        loop {
            for stream in &mut crowd {
                // Many of them are cut off already.
                let _ = stream.try_write(b"x");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = dribble => {}
        () = scraped(&served, "clients that dribble their heads") => {}
    }
    assert_cut(&served, "no_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dribbles_his_body_keeps_nobody_waiting() {
    let served = served(false, Ok(())).await;
    let head = b"POST /api/v1/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
    let crowd = crowd(&served, head).await;
    scraped(&served, "clients that dribble their bodies").await;
    assert_cut(&served, "no_request");
    drop(crowd);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_ends_his_handshake_keeps_nobody_waiting() {
    let folder = Folder::new();
    let path = folder.write(
        "web.yml",
        "tls_server_config: { cert_file: server.crt, key_file: server.key }\n",
        0o600,
    );
    let served = served_by(Access::new(Some(&path), None, false).unwrap(), false, Ok(())).await;
    // The beginning of a record of a ClientHello.
    let crowd = crowd(&served, &[22, 3, 1, 2, 0, 1, 0]).await;
    // The scrapes themselves are plain, for which the file is changed: also that is seen among them.
    folder.write("web.yml", "", 0o600);
    // One of the crowd that is still coming in may be the first to see it, and nobody waits for what that one reads.
    let plain = async {
        while served.silence("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), plain).await.expect("the change is seen");
    scraped(&served, "clients in a handshake without an end").await;
    assert_cut(&served, "no_request");
    drop(crowd);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_keeps_nobody_waiting() {
    let served = served(false, Ok(())).await;
    // More than the kernel holds for a client.
    served.fake.padding.store(8 << 20, Ordering::Relaxed);
    let crowd = crowd(&served, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let since = Instant::now();
    while served.closed("unread_answer") == 0 {
        assert!(since.elapsed() < Duration::from_secs(30), "nobody was cut off");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    served.fake.padding.store(0, Ordering::Relaxed);
    scraped(&served, "clients that do not read").await;
    assert_cut(&served, "unread_answer");
    drop(crowd);
}
