//! Peers of the tests' own on loopback addresses, of which each answers in its way.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use prometheus::{IntCounterVec, IntGauge, Opts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const TOOK: &str = r#"{"queued":1,"results":["queued"]}"#;
const NOT_HERE: &str = r#"{"queued":0,"results":["not_here"]}"#;

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn taken(body: &str) -> String {
    answer("202 Accepted", "Parachute-Instance: other/1\r\n", body)
}

/// A listener that gives the answers in turn, the last one ever after, and keeps the requests. No text is no answer.
struct Peer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    async fn at(address: SocketAddr, answers: Vec<String>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut held = Vec::new();
            for turn in 0.. {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let mut request = Vec::new();
                let mut chunk = [0; 4096];
                while !String::from_utf8_lossy(&request).ends_with("]}") {
                    match stream.read(&mut chunk).await {
                        Ok(0) | Err(_) => break,
                        Ok(count) => request.extend_from_slice(&chunk[..count]),
                    }
                }
                kept.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
                let answer: &String = &answers[turn.min(answers.len() - 1)];
                let _ = stream.write_all(answer.as_bytes()).await;
                if answer.is_empty() {
                    held.push(stream);
                }
            }
        });
        Self { address, requests }
    }

    async fn new(answers: Vec<String>) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), answers).await
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

struct Stage {
    peers: Peers,
    counters: Counters,
    folder: tempfile::TempDir,
}

fn secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

impl Stage {
    fn new(address: SocketAddr, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        secret(&token, &format!("{TOKEN}\n"));
        let text = format!(
            "peers: {{ service: '{address}', token_file: {}, {more} }}\nprobes: {{ a: {{ command: [/bin/true], parse: none }} }}\n",
            token.display()
        );
        let config = config::from_str(&text, Path::new("test.yml")).unwrap_or_else(|wrong| panic!("{wrong}"));
        let many = |label| IntCounterVec::new(Opts::new("x", "x"), &[label]).unwrap();
        let counters = Counters {
            peers: IntGauge::new("x", "x").unwrap(),
            requests: many("result"),
            failures: many("reason"),
        };
        let config = Arc::new(ArcSwap::from_pointee(config));
        let peers = Peers::new(config, Instance::fresh("node-1"), counters.clone());
        Self { peers, counters, folder }
    }

    async fn pass_on(&self) -> Delivery {
        match self.pass_on_at_first().await {
            ControlFlow::Break(delivery) => delivery,
            ControlFlow::Continue(rest) => rest.finish(true).await,
        }
    }

    async fn pass_on_at_first(&self) -> ControlFlow<Delivery, Rest> {
        self.peers.pass_on(parcel(1)).await
    }

    fn requests(&self, result: &str) -> u64 {
        self.counters.requests.with_label_values(&[result]).get()
    }

    fn failures(&self, reason: &str) -> u64 {
        self.counters.failures.with_label_values(&[reason]).get()
    }
}

fn parcel(alerts: usize) -> Parcel {
    Parcel { body: r#"{"version":"4","alerts":[{"status":"firing"}]}"#.into(), alerts }
}

const QUICK: &str = "scheme: http, timeout: 200ms, give_up_after: 2s";

#[tokio::test]
async fn a_peer_is_shown_the_token_and_told_who_passes_on() {
    let peer = Peer::new(vec![taken(TOOK)]).await;
    let stage = Stage::new(peer.address, QUICK);
    let delivery = stage.pass_on().await;
    assert_eq!(delivery, Delivery { peers: 1, answered: 1, took: vec![1], ..Delivery::default() });
    let requests = peer.requests();
    assert_eq!(requests.len(), 1);
    let request = requests[0].to_lowercase();
    for part in [
        "post /api/v1/alerts http/1.1\r\n".to_owned(),
        format!("authorization: bearer {TOKEN}\r\n"),
        format!("parachute-forwarded-by: {}\r\n", stage.peers.0.own.as_str().to_lowercase()),
        format!("host: {}\r\n", peer.address),
        "content-type: application/json\r\n".to_owned(),
    ] {
        assert!(request.contains(&part), "{part} in {request}");
    }
    assert_eq!((stage.requests("ok"), stage.counters.peers.get()), (1, 1));
    let peer = Peer::new(vec![taken(NOT_HERE)]).await;
    let delivery = Stage::new(peer.address, QUICK).pass_on().await;
    assert_eq!((delivery.answered, delivery.outcome(0)), (1, "nowhere"));
}

#[tokio::test]
async fn an_agent_knows_itself_by_its_answer() {
    let stage = Stage::new((Ipv4Addr::LOCALHOST, 1).into(), QUICK);
    let headers = format!("Parachute-Instance: {}\r\n", stage.peers.0.own.as_str());
    let peer = Peer::new(vec![answer("200 OK", &headers, "{}")]).await;
    // The same agent, as behind any address.
    let mut config = Config::clone(&stage.peers.0.config.load());
    config.peers.as_mut().unwrap().service.port = peer.address.port();
    stage.peers.0.config.store(Arc::new(config));
    let delivery = stage.pass_on().await;
    assert_eq!((delivery.peers, delivery.outcome(0)), (0, "no_peers"));
    assert_eq!((stage.requests("itself"), stage.counters.peers.get()), (1, 0));
}

#[tokio::test]
async fn who_has_no_room_is_asked_again_with_pauses_and_not_for_ever() {
    let full = || answer("503 Service Unavailable", "Retry-After: 1\r\n", "{}");
    let peer = Peer::new(vec![full(), taken(TOOK)]).await;
    let stage = Stage::new(peer.address, QUICK);
    let began = Instant::now();
    assert_eq!(stage.pass_on().await.outcome(0), "taken");
    assert!(began.elapsed() >= FIRST_PAUSE, "{:?}", began.elapsed());
    assert_eq!(
        (peer.requests().len(), stage.requests("unavailable"), stage.failures("unavailable")),
        (2, 1, 0)
    );

    let peer = Peer::new(vec![full()]).await;
    let stage = Stage::new(peer.address, QUICK);
    let began = Instant::now();
    let delivery = stage.pass_on().await;
    assert_eq!(delivery.outcome(0), "failed");
    assert!(delivery.failures[0].contains("503"), "{delivery:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // At once, after half a second and after a second more.
    assert_eq!((peer.requests().len(), stage.failures("unavailable")), (3, 1));
}

#[tokio::test]
async fn who_hangs_costs_the_deadline_and_is_counted() {
    let peer = Peer::new(vec![String::new()]).await;
    let stage = Stage::new(peer.address, "scheme: http, timeout: 200ms, give_up_after: 1s");
    let began = Instant::now();
    let delivery = stage.pass_on().await;
    assert!(began.elapsed() < Duration::from_millis(1900), "{:?}", began.elapsed());
    assert_eq!(delivery.failures, [format!("{}: it did not answer in time", peer.address)]);
    assert_eq!((stage.requests("timeout"), stage.failures("timeout")), (2, 1));
    assert!(stage.peers.0.silent.lock().unwrap().contains(&peer.address), "it is asked last from now on");
    // Bytes that never end are no answer either.
    let peer =
        Peer::new(vec![format!("{}{}", taken("").replace(": 0", ": 99999999"), "x".repeat(200_000))]).await;
    let stage = Stage::new(peer.address, QUICK);
    assert!(stage.pass_on().await.failures[0].contains("too long"));
}

#[tokio::test]
async fn a_redirection_is_refused_and_the_token_goes_nowhere_else() {
    let trap = Peer::new(vec![taken(TOOK)]).await;
    for status in ["301 Moved", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let headers =
            format!("Location: http://{}/api/v1/alerts\r\nParachute-Instance: x/1\r\n", trap.address);
        let peer = Peer::new(vec![answer(status, &headers, "")]).await;
        let stage = Stage::new(peer.address, QUICK);
        assert_eq!(stage.pass_on().await.outcome(0), "failed");
        assert_eq!((peer.requests().len(), stage.failures("refused")), (1, 1), "{status}: asked once");
    }
    assert_eq!(trap.requests(), [""; 0]);
}

#[tokio::test]
async fn other_answers_have_their_reasons() {
    for (given, reason) in [
        (answer("401 Unauthorized", "", "{}"), "unauthorized"),
        (answer("403 Forbidden", "", "{}"), "unauthorized"),
        (answer("404 Not Found", "", "{}"), "refused"),
        (answer("413 Payload Too Large", "", "{}"), "refused"),
        // It may be anything that listens there.
        (answer("200 OK", "", TOOK), "refused"),
        (taken("[]"), "refused"),
        (taken("no JSON"), "refused"),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), "unreachable"),
    ] {
        let peer = Peer::new(vec![given.clone()]).await;
        let stage = Stage::new(peer.address, "scheme: http, timeout: 200ms, give_up_after: 1s");
        assert_eq!(stage.pass_on().await.answered, 0, "{given}");
        assert_eq!(stage.failures(reason), 1, "{given}");
    }
}

#[tokio::test]
async fn without_a_token_that_is_roots_alone_nobody_is_asked() {
    let peer = Peer::new(vec![taken(TOOK)]).await;
    for (text, mode, says) in [
        ("short", 0o600, "has no token"),
        ("0123456789abcdef\u{7f}x", 0o600, "has no token"),
        (TOKEN, 0o644, "others cannot change"),
        (TOKEN, 0o620, "others cannot change"),
    ] {
        let stage = Stage::new(peer.address, "scheme: http, give_up_after: 1s");
        let path = stage.folder.path().join("token");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = stage.pass_on().await.error.unwrap();
        assert!(error.contains(says), "{error}");
        assert_eq!(stage.failures("settings"), 1);
        stage.peers.look().await;
        assert_eq!(stage.failures("settings"), 2, "told at the start as well");
    }
    assert_eq!(peer.requests(), [""; 0]);
}

/// A listener with a certificate for this name, its own authority, that answers each request well.
async fn tls_peer(name: &str) -> (SocketAddr, String, Arc<Mutex<Vec<String>>>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let builder =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_single_cert(vec![certificate.der().clone()], private).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            kept.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
            stream.write_all(taken(TOOK).as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    (address, certificate.pem(), requests)
}

#[tokio::test]
async fn over_tls_only_who_has_the_services_name_is_shown_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let more = format!("ca_file: {}, timeout: 500ms, give_up_after: 1s", ca.display());
    let (address, authority, requests) = tls_peer("127.0.0.1").await;
    std::fs::write(&ca, &authority).unwrap();
    assert_eq!(Stage::new(address, &more).pass_on().await.outcome(0), "taken");
    assert!(requests.lock().unwrap()[0].contains(TOKEN));

    let (other, other_authority, requests) = tls_peer("10.0.0.1").await;
    for trusted in [&other_authority, &authority] {
        std::fs::write(&ca, trusted).unwrap();
        let stage = Stage::new(other, &more);
        let delivery = stage.pass_on().await;
        assert!(delivery.failures[0].contains("TLS"), "{delivery:?}");
        assert_eq!(stage.failures("unreachable"), 1);
    }
    assert!(requests.lock().unwrap().is_empty());
    std::fs::write(&ca, "no certificate").unwrap();
    assert!(Stage::new(other, &more).pass_on().await.error.unwrap().contains("no certificate in PEM"));
}

#[tokio::test]
async fn a_peer_without_tls_is_not_shown_the_token() {
    let peer = Peer::new(vec![taken(TOOK)]).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, tls_peer("127.0.0.1").await.1).unwrap();
    let more = format!("ca_file: {}, timeout: 200ms, give_up_after: 1s", ca.display());
    let stage = Stage::new(peer.address, &more);
    assert_eq!(stage.pass_on().await.answered, 0);
    assert!(peer.requests().iter().all(|request| !request.contains(TOKEN)), "{:?}", peer.requests());
    assert!(stage.requests("unreachable") + stage.requests("timeout") >= 1);
}

#[tokio::test]
async fn who_did_not_answer_lately_holds_nobody_up_and_is_asked_after_the_others() {
    let peer = Peer::new(vec![String::new(), String::new(), taken(TOOK)]).await;
    let stage = Stage::new(peer.address, "scheme: http, timeout: 300ms, give_up_after: 5s");
    let ControlFlow::Continue(rest) = stage.pass_on_at_first().await else { panic!("it is not asked again") };
    let began = Instant::now();
    assert!(matches!(stage.pass_on_at_first().await, ControlFlow::Continue(_)));
    assert!(began.elapsed() < Duration::from_millis(250), "the second parcel waits for nothing");
    assert_eq!(
        (peer.requests().len(), stage.requests("timeout")),
        (1, 1),
        "and who was not asked is not counted"
    );
    // All connections are taken, but those for whom there is doubt have their own; a healthy peer's wait for nobody's.
    let all = u32::try_from(CONNECTIONS).unwrap();
    let _taken = stage.peers.0.connections.acquire_many(all).await.unwrap();
    assert_eq!(rest.finish(true).await.outcome(0), "taken");
    assert!(stage.peers.silent().is_empty());
    // One that waits for a connection until it is given up was not asked, and nothing is known of it.
    let stage = Stage::new(peer.address, "scheme: http, give_up_after: 1s");
    let _taken = stage.peers.0.connections.acquire_many(all).await.unwrap();
    let ControlFlow::Continue(rest) = stage.pass_on_at_first().await else {
        panic!("it is given up at once")
    };
    let delivery = rest.finish(false).await;
    assert!(delivery.failures[0].contains("was not asked"), "{delivery:?}");
    assert_eq!((stage.requests("timeout"), stage.failures("not_asked")), (0, 1));
    assert!(stage.peers.silent().is_empty());
}

#[tokio::test]
async fn who_was_given_up_on_is_counted_and_not_asked_again() {
    let peer = Peer::new(vec![answer("503 Service Unavailable", "", "{}")]).await;
    let stage = Stage::new(peer.address, QUICK);
    let ControlFlow::Continue(rest) = stage.pass_on_at_first().await else { panic!("it is not asked again") };
    assert_eq!(rest.finish(false).await.outcome(0), "failed");
    assert_eq!((peer.requests().len(), stage.failures("unavailable")), (1, 1));
}

#[tokio::test]
async fn a_disk_that_hangs_is_said_and_holds_one_thread() {
    let peer = Peer::new(vec![taken(TOOK)]).await;
    let stage = Stage::new(peer.address, "scheme: http, give_up_after: 1s");
    let _hangs = stage.peers.0.disk.acquire().await.unwrap();
    let delivery = stage.pass_on().await;
    assert!(delivery.error.as_ref().unwrap().contains("not read in time"), "{delivery:?}");
    assert_eq!((delivery.outcome(0), stage.failures("slow_disk")), ("failed", 1));
}

#[tokio::test]
async fn a_parcel_that_a_peer_does_not_take_as_it_is_is_to_be_taken_apart() {
    let lags = || answer("503 Service Unavailable", "", "{}");
    for status in ["400 Bad Request", "413 Payload Too Large"] {
        let peer = Peer::new(vec![answer(status, "", "{}")]).await;
        let stage = Stage::new(peer.address, QUICK);
        let ControlFlow::Break(delivery) = stage.peers.pass_on(parcel(2)).await else { panic!("{status}") };
        assert!(delivery.spoiled, "{delivery:?}");
        assert_eq!(stage.failures("refused"), 0, "{status}: nobody is given up yet");
        let delivery = stage.pass_on().await;
        assert!(!delivery.spoiled && stage.failures("refused") == 1, "{status}: one alone cannot be");
    }
    let peer = Peer::new(vec![lags()]).await;
    let stage = Stage::new(peer.address, QUICK);
    assert!(matches!(stage.peers.pass_on(parcel(2)).await, ControlFlow::Continue(_)));
}
