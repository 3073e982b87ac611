//! Real handshakes: with an authority of the tests' own, each kind of client, and what changes without a restart.

use rcgen::SanType;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::super::web::testing::{Authority, Folder, Identity};
use super::*;

const TLS: &str = "tls_server_config: { cert_file: server.crt, key_file: server.key";

/// What a client comes with.
struct Guest<'a> {
    trusts: &'a str,
    identity: Option<&'a Identity>,
    versions: Vec<&'static rustls::SupportedProtocolVersion>,
    alpn: &'a [&'a str],
}

impl<'a> Guest<'a> {
    fn of(folder: &'a Folder) -> Self {
        Self { trusts: &folder.authority.pem, identity: None, versions: vec![&TLS12, &TLS13], alpn: &[] }
    }

    fn with(self, identity: &'a Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }
}

async fn tls_served(folder: &Folder, text: &str, open: bool) -> Served {
    let path = folder.write("web.yml", text, 0o600);
    served_by(Access::new(Some(&path), None, open).unwrap(), true, Ok(())).await
}

fn connector(guest: &Guest<'_>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(guest.trusts.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&guest.versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match guest.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = guest.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// The status of a request, or why there is none.
async fn asks(served: &Served, guest: &Guest<'_>, method: &str, path: &str) -> Result<u16, String> {
    let stream = TcpStream::connect(served.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector(guest).connect(name, stream).await.map_err(|error| error.to_string())?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    // In TLS 1.3 a client hears that its certificate was refused when it reads.
    stream.read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(answer)
}

#[tokio::test]
async fn a_certificate_is_shown_and_plain_text_is_not_answered() {
    let folder = Folder::new();
    let served = tls_served(&folder, &format!("{TLS} }}\n"), false).await;
    let guest = Guest::of(&folder);
    assert_eq!(asks(&served, &guest, "GET", "/metrics").await, Ok(200));
    assert_eq!(asks(&served, &guest, "GET", "/").await, Ok(403), "TLS alone is no name");
    let stranger = Authority::new("another");
    assert!(asks(&served, &Guest { trusts: &stranger.pem, ..guest }, "GET", "/metrics").await.is_err());
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    assert!(served.closed("handshake") >= 2);
}

#[tokio::test]
async fn each_kind_of_client_authentication_lets_in_whom_go_lets_in() {
    let folder = Folder::new();
    let san = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let good = folder.authority.client("scraper", vec![san("prometheus.example")]);
    let (foreign, expired) =
        (Authority::new("foreign").client("scraper", Vec::new()), folder.authority.expired());
    // No certificate, one of ours, one of a stranger's, one that has expired; whether a good one is a name.
    for (kind, lets, names) in [
        ("NoClientCert", [true, true, true, true], false),
        ("RequestClientCert", [true, true, true, true], false),
        ("RequireAnyClientCert", [false, true, true, true], false),
        ("RequireClientCert", [false, true, true, true], false),
        ("VerifyClientCertIfGiven", [true, true, false, false], true),
        ("RequireAndVerifyClientCert", [false, true, false, false], true),
    ] {
        let authority = if kind == "NoClientCert" { "" } else { ", client_ca_file: ca.pem" };
        let served =
            tls_served(&folder, &format!("{TLS}, client_auth_type: {kind}{authority} }}\n"), false).await;
        let identities = [None, Some(&good), Some(&foreign), Some(&expired)];
        for version in [&TLS12, &TLS13] {
            for (identity, lets) in identities.into_iter().zip(lets) {
                let guest = Guest { identity, versions: vec![version], ..Guest::of(&folder) };
                let answer = asks(&served, &guest, "GET", "/metrics").await;
                assert_eq!(answer.is_ok(), lets, "{kind}: {answer:?}");
            }
        }
        let named = asks(&served, &Guest::of(&folder).with(&good), "GET", "/").await;
        assert_eq!(named, Ok(if names { 200 } else { 403 }), "{kind}");
    }
}

#[tokio::test]
async fn only_allowed_names_come_in() {
    let folder = Folder::new();
    let text = format!(
        "{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem,\n\
         client_allowed_sans: [a.example, 'ops@example', 'spiffe://x/y', 10.1.2.3, 'fd00::1'] }}\n"
    );
    let served = tls_served(&folder, &text, false).await;
    for (san, lets) in [
        (vec![SanType::DnsName("a.example".try_into().unwrap())], true),
        (vec![SanType::DnsName("A.example".try_into().unwrap())], false),
        (vec![SanType::DnsName("b.a.example".try_into().unwrap())], false),
        (
            vec![SanType::DnsName("b.example".try_into().unwrap()), SanType::IpAddress([10, 1, 2, 3].into())],
            true,
        ),
        (vec![SanType::IpAddress("fd00::1".parse().unwrap())], true),
        (vec![SanType::IpAddress([10, 1, 2, 4].into())], false),
        (vec![SanType::Rfc822Name("ops@example".try_into().unwrap())], true),
        (vec![SanType::URI("spiffe://x/y".try_into().unwrap())], true),
        (vec![SanType::URI("spiffe://x/z".try_into().unwrap())], false),
        (Vec::new(), false),
    ] {
        // A common name is not among them.
        let identity = folder.authority.client("a.example", san.clone());
        let answer = asks(&served, &Guest::of(&folder).with(&identity), "GET", "/metrics").await;
        assert_eq!(answer.is_ok(), lets, "{san:?}: {answer:?}");
    }
}

#[tokio::test]
async fn versions_are_kept_within_their_bounds() {
    let folder = Folder::new();
    for (bounds, twelve, thirteen) in [
        ("", true, true),
        (", min_version: TLS13", false, true),
        (", max_version: TLS12", true, false),
        (", min_version: TLS12, max_version: TLS12", true, false),
        (", cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]", true, true),
        (", cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]", false, true),
        (", cipher_suites: [TLS_AES_128_GCM_SHA256]", false, true),
        (", curve_preferences: [CurveP384]", true, true),
    ] {
        let served = tls_served(&folder, &format!("{TLS}{bounds} }}\n"), false).await;
        for (version, lets) in [(&TLS12, twelve), (&TLS13, thirteen)] {
            let guest = Guest { versions: vec![version], ..Guest::of(&folder) };
            let answer = asks(&served, &guest, "GET", "/metrics").await;
            assert_eq!(answer.is_ok(), lets, "{bounds} {version:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn certificates_rotate_without_a_restart_and_bad_ones_are_not_taken() {
    let folder = Folder::new();
    let served = tls_served(&folder, &format!("{TLS} }}\n"), false).await;
    let good = &served.fake.agent.web_config_last_reload_successful;
    let next = Authority::new("next");
    let by_next = Guest { trusts: &next.pem, ..Guest::of(&folder) };
    assert!(asks(&served, &by_next, "GET", "/metrics").await.is_err());
    // Half of a rotation: certificate and key do not fit.
    let identity = next.server();
    folder.write("server.crt", &identity.certificate, 0o644);
    assert_eq!(asks(&served, &Guest::of(&folder), "GET", "/metrics").await, Ok(200));
    assert_eq!(good.get(), 0);
    folder.write("server.key", &identity.key, 0o600);
    assert_eq!(asks(&served, &by_next, "GET", "/metrics").await, Ok(200));
    assert_eq!(good.get(), 1);
    assert!(asks(&served, &Guest::of(&folder), "GET", "/metrics").await.is_err());
    for (name, text, mode) in
        [("server.key", "junk", 0o600), ("server.key", &identity.key, 0o644), ("web.yml", "{", 0o600)]
    {
        folder.write(name, text, mode);
        assert_eq!(asks(&served, &by_next, "GET", "/metrics").await, Ok(200), "{name} {text}");
        assert_eq!(good.get(), 0);
    }
    folder.write("server.key", &identity.key, 0o600);
    folder.write("web.yml", &format!("{TLS} }}\n"), 0o600);
    assert_eq!((asks(&served, &by_next, "GET", "/metrics").await, good.get()), (Ok(200), 1));
}

#[tokio::test]
async fn where_there_are_users_a_certificate_alone_is_not_enough() {
    let folder = Folder::new();
    let hash = bcrypt::hash("x", 4).unwrap();
    let text = format!(
        "{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem }}\nbasic_auth_users: {{ alice: {hash} }}\n"
    );
    let served = tls_served(&folder, &text, false).await;
    let identity = folder.authority.client("scraper", Vec::new());
    assert_eq!(asks(&served, &Guest::of(&folder).with(&identity), "GET", "/metrics").await, Ok(401));
}

/// HTTP/2 by hyper's own client, where both sides offer it.
#[tokio::test]
async fn http2_is_spoken_over_tls_unless_it_is_switched_off() {
    let folder = Folder::new();
    for (more, spoken) in [("", true), ("http_server_config: { http2: false }\n", false)] {
        let served = tls_served(&folder, &format!("{TLS} }}\n{more}"), false).await;
        let guest = Guest { alpn: &["h2", "http/1.1"], ..Guest::of(&folder) };
        let stream = TcpStream::connect(served.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector(&guest).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), spoken);
        if !spoken {
            continue;
        }
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut send, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        for (path, status) in [("/metrics", 200), ("/", 403), ("/metrics", 200)] {
            let request =
                hyper::Request::get(format!("https://localhost{path}")).body(String::new()).unwrap();
            assert_eq!(send.send_request(request).await.unwrap().status(), status, "{path}");
        }
    }
}
