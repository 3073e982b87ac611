//! Who may ask what, over real sockets: each kind of asker at each route.

use super::super::web::testing::{Folder, set_mode};
use super::*;
use crate::http::roles::needed;

const TOKEN: &str = "0123456789abcdef0123";
const READER: &str = "fedcba9876543210fedc";

/// Path, and a method that does something there.
const ROUTES: [(&str, &str); 10] = [
    ("GET", "/-/healthy"),
    ("GET", "/-/ready"),
    ("GET", "/metrics"),
    ("GET", "/"),
    ("GET", "/nowhere"),
    ("GET", "/api/v1/containers"),
    ("DELETE", "/api/v1/captures/01J"),
    ("POST", "/api/v1/run"),
    ("POST", "/-/reload"),
    ("GET", "/%2d/healthy"),
];

fn file(folder: &Folder) -> Access {
    let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
    let text = format!(
        "basic_auth_users:\n  alice: {}\n  bob: {}\n  carol: {}\nuser_roles:\n  bob: [read]\n  carol: [view, trigger]\n\
         bearer_tokens:\n  prometheus: {{ roles: [read], file: reader }}\n  \
         alertmanager: {{ roles: [trigger], sha256: {:x} }}\n\
         http_server_config: {{ headers: {{ X-Frame-Options: deny, Content-Security-Policy: default-src * }} }}\n",
        hash("alices"),
        hash("bobs"),
        hash("carols"),
        <sha2::Sha256 as sha2::Digest>::digest(TOKEN)
    );
    folder.write("reader", READER, 0o600);
    Access::new(Some(&folder.write("web.yml", &text, 0o600)), None, false).unwrap()
}

fn basic(name: &str, password: &str) -> String {
    use base64::Engine as _;
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    format!("Authorization: Basic {both}\r\n")
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn each_asker_gets_to_what_his_roles_open_and_to_nothing_else() {
    let folder = Folder::new();
    let served = served_by(file(&folder), true, Ok(())).await;
    let (view, trigger) = (Roles::VIEW, Roles::TRIGGER);
    for (credentials, roles) in [
        (basic("alice", "alices"), Some(Roles::ALL)),
        (basic("bob", "bobs"), Some(Roles::READ)),
        (basic("carol", "carols"), Some(view.and(trigger))),
        (bearer(READER), Some(Roles::READ)),
        (bearer(TOKEN), Some(trigger)),
        (format!("authorization:  bearer  {TOKEN}\r\n"), Some(trigger)),
        (String::new(), None),
        (basic("alice", "bobs"), None),
        (basic("alice", ""), None),
        (basic("mallory", "alices"), None),
        (bearer(""), None),
        (bearer("0123456789abcdef0124"), None),
        (bearer(&format!("{TOKEN}0")), None),
        (format!("Authorization: {TOKEN}\r\n"), None),
        (format!("Authorization: Basic {TOKEN}\r\n"), None),
        ("Authorization: Basic !!!\r\n".to_owned(), None),
        ("Authorization: Digest x\r\n".to_owned(), None),
        // Two are one too many.
        (basic("alice", "alices") + &bearer(TOKEN), None),
    ] {
        for (method, path) in ROUTES {
            let needs = needed(&method.parse().unwrap(), path);
            let answer = served.ask(method, path, &credentials, "").await;
            let open = needs == Roles::NONE;
            match roles {
                Some(roles) if roles.cover(needs) => {
                    assert!(
                        ![401, 403].contains(&answer.status),
                        "{credentials} {method} {path}: {}",
                        answer.status
                    );
                }
                _ if open => assert_eq!(answer.status, 200, "{path}"),
                Some(_) => assert_eq!(answer.status, 403, "{credentials} {method} {path}"),
                None => {
                    assert_eq!(answer.status, 401, "{credentials} {method} {path}");
                    assert!(
                        answer.head.contains("www-authenticate: Basic realm=\"parachute\""),
                        "{}",
                        answer.head
                    );
                    assert!(
                        answer.head.contains("www-authenticate: Bearer realm=\"parachute\""),
                        "{}",
                        answer.head
                    );
                }
            }
            assert!(answer.head.contains("x-frame-options: deny\r\n"), "{path}: {}", answer.head);
        }
    }
    assert_eq!(served.fake.asked.load(Ordering::Relaxed), 0);
    let page = served.ask("GET", "/", &basic("alice", "alices"), "").await;
    assert!(
        page.head.contains("default-src 'none'") && !page.head.contains("default-src *"),
        "{}",
        page.head
    );
}

#[tokio::test]
async fn an_unknown_name_is_answered_as_a_wrong_password_is() {
    let folder = Folder::new();
    let served = served_by(file(&folder), true, Ok(())).await;
    let without_date = |answer: Answer| {
        let head: Vec<_> =
            answer.head.lines().filter(|line| !line.starts_with("date:")).map(str::to_owned).collect();
        (head, answer.body)
    };
    for path in ["/", "/metrics", "/api/v1/containers"] {
        let wrong = without_date(served.ask("GET", path, &basic("alice", "<secret>"), "").await);
        let unknown = without_date(served.ask("GET", path, &basic("<nobody>", "<secret>"), "").await);
        assert_eq!(wrong, unknown);
        assert!(!String::from_utf8_lossy(&wrong.1).contains("secret"));
    }
}

#[tokio::test]
async fn without_any_name_only_numbers_are_read_and_the_answer_says_what_to_do() {
    let served = served_by(Access::new(None, None, false).unwrap(), true, Ok(())).await;
    for (method, path) in ROUTES {
        let needs = needed(&method.parse().unwrap(), path);
        let answer = served.ask(method, path, &bearer(TOKEN), "").await;
        assert_eq!(answer.status == 403, !Roles::READ.cover(needs), "{method} {path}: {}", answer.status);
    }
    let page = served.ask("GET", "/", "Accept: text/html,*/*\r\n", "").await;
    assert!(page.head.contains("content-type: text/html"), "{}", page.head);
    let text = served.get("/").await;
    assert!(text.head.contains("content-type: text/plain"), "{}", text.head);
    let api = served.get("/api/v1/containers").await.error();
    for said in [page.text(), text.text(), &api] {
        for way in
            ["--web.config.file", "--web.token-file", "--unix-socket", "parachute captures", "role view"]
        {
            assert!(said.contains(way), "{way}: {said}");
        }
    }
}

#[tokio::test]
async fn a_token_file_has_all_roles_and_changes_without_a_restart() {
    let folder = Folder::new();
    let path = folder.write("token", TOKEN, 0o600);
    let served = served_by(Access::new(None, Some(&path), false).unwrap(), true, Ok(())).await;
    let status = async |token: &str| served.ask("GET", "/", &bearer(token), "").await.status;
    assert_eq!((status(TOKEN).await, status(READER).await), (200, 401));
    let refused = served.get("/").await;
    assert!(!refused.head.contains("Basic") && refused.head.contains("Bearer realm"), "{}", refused.head);
    folder.write("token", READER, 0o600);
    assert_eq!((status(TOKEN).await, status(READER).await), (401, 200));
    // One that others can read is not taken, and neither is the lack of one.
    folder.write("token", TOKEN, 0o644);
    assert_eq!((status(TOKEN).await, status(READER).await), (401, 200));
    assert_eq!(served.fake.agent.web_config_last_reload_successful.get(), 0);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(status(READER).await, 200);
    folder.write("token", TOKEN, 0o600);
    assert_eq!((status(TOKEN).await, status(READER).await), (200, 401));
    assert_eq!(served.fake.agent.web_config_last_reload_successful.get(), 1);
}

#[tokio::test]
async fn who_may_not_view_is_not_shown_what_a_run_printed() {
    let folder = Folder::new();
    let served = served_by(file(&folder), true, Ok(())).await;
    for (credentials, sees) in [(basic("carol", "carols"), true), (bearer(TOKEN), false)] {
        let mut finished = result("sockets", &container("a", None), Outcome::Ok, Vec::new());
        finished.output.stderr = b"\xff\n".to_vec();
        *served.fake.run.lock().unwrap() = Some(Ok(finished));
        let headers = format!("Content-Type: application/json\r\n{credentials}");
        let answer = served.ask("POST", "/api/v1/run", &headers, RUN).await;
        let body = answer.json();
        assert_eq!((answer.status, &body["outcome"]), (200, &"ok".into()));
        assert_eq!(body["stdout"].is_string() && body["stderr_base64"].is_string(), sees, "{body}");
        assert_eq!(body["output_withheld"] == "the output needs the role view", !sees, "{body}");
        assert!(sees || (body["stdout"].is_null() && !answer.text().contains("/wo=")), "{body}");
    }
}

#[tokio::test]
async fn a_rate_limit_is_kept_but_not_against_health_checks() {
    let folder = Folder::new();
    let path = folder.write("web.yml", "rate_limit: { interval: 1h, burst: 3 }\n", 0o600);
    let served = served_by(Access::new(Some(&path), None, true).unwrap(), true, Ok(())).await;
    for wanted in [200, 200, 200, 429, 429] {
        assert_eq!(served.get("/metrics").await.status, wanted);
    }
    let alerts = served.ask("POST", "/api/v1/alerts", "", "{}").await;
    assert!(alerts.status == 503 && alerts.head.contains("retry-after: 1\r\n"), "{}", alerts.head);
    assert_eq!(served.get("/-/healthy").await.status, 200);
    // A burst of 0 lets nothing through, an interval of 0 all, as in the toolkit.
    folder.write("web.yml", "rate_limit: { interval: 1s, burst: 0 }\n", 0o600);
    assert_eq!(served.get("/metrics").await.status, 429);
    folder.write("web.yml", "rate_limit: { interval: 0, burst: 0 }\n", 0o600);
    assert_eq!(served.get("/metrics").await.status, 200);
}

#[test]
fn an_address_that_others_reach_needs_names_or_the_flag() {
    let folder = Folder::new();
    let tls = "tls_server_config: { cert_file: server.crt, key_file: server.key";
    let verified =
        format!("{tls}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem }}\n");
    let user = format!("basic_auth_users: {{ alice: {} }}\n", bcrypt::hash("x", 4).unwrap());
    let token = folder.write("token", TOKEN, 0o600);
    let cases: Vec<(String, Option<&std::path::Path>, bool)> = vec![
        (String::new(), None, false),
        (format!("{tls} }}\n"), None, false),
        (format!("{tls}, client_auth_type: RequireAnyClientCert }}\n"), None, false),
        (
            format!("{tls}, client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.pem }}\n"),
            None,
            false,
        ),
        (verified, None, true),
        (user.clone(), None, true),
        ("bearer_tokens: { x: { roles: [read], file: token } }\n".to_owned(), None, true),
        (String::new(), Some(&token), true),
    ];
    for (text, token, enough) in cases {
        let path = folder.write("web.yml", &text, 0o600);
        let access = Access::new(Some(&path), token, false).unwrap();
        for (address, far) in [
            ("127.0.0.1:1", false),
            ("127.9.9.9:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("unix:/x", false),
            (":1", true),
            ("0.0.0.0:1", true),
            ("10.0.0.1:1", true),
            ("[fe80::1]:1", true),
        ] {
            let suits = access.suits(&["127.0.0.1:2".parse().unwrap(), address.parse().unwrap()]);
            assert_eq!(suits.is_ok(), enough || !far, "{text} {address}");
            if let Err(error) = suits {
                assert!(error.to_string().contains("--web.allow-unauthenticated"), "{error}");
            }
        }
        let open = Access::new(Some(&path), token, true);
        assert_eq!(open.is_ok(), !enough, "{text}: the flag contradicts it");
        assert!(open.is_err() || open.unwrap().suits(&[":1".parse().unwrap()]).is_ok());
    }
    set_mode(&token, 0o640);
    assert!(Access::new(None, Some(&token), false).is_err());
}

#[tokio::test]
async fn no_file_takes_the_last_name_away_from_an_address_that_others_reach() {
    let folder = Folder::new();
    let user = format!("basic_auth_users: {{ alice: {} }}\n", bcrypt::hash("x", 4).unwrap());
    let path = folder.write("web.yml", &user, 0o600);
    let access = Access::new(Some(&path), None, false).unwrap();
    access.suits(&[":1".parse().unwrap()]).unwrap();
    let served = served_by(access, true, Ok(())).await;
    assert_eq!(served.get("/metrics").await.status, 401);
    folder.write("web.yml", "", 0o600);
    assert_eq!(served.get("/metrics").await.status, 401);
    assert_eq!(served.fake.agent.web_config_last_reload_successful.get(), 0);
    assert_eq!(served.ask("GET", "/", &basic("alice", "x"), "").await.status, 200);
}

#[tokio::test]
async fn large_heads_are_refused() {
    let served = served(false, Ok(())).await;
    let long = format!("X-Long: {}\r\n", "x".repeat(64 * 1024));
    let many = "X-Many: x\r\n".repeat(100);
    for headers in [long, many] {
        assert_eq!(served.ask("GET", "/metrics", &headers, "").await.status, 431);
    }
}

/// What the log says, for as long as this test's thread runs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn who_starts_something_is_in_the_log() {
    let (folder, log) = (Folder::new(), Log::default());
    let writer = log.clone();
    // For all threads, those of other tests as well: where one thread alone has a subscriber, the first thread to come by a
    // place in the code decides for all whether it is logged, and others have none.
    let format = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    tracing::subscriber::set_global_default(format.finish()).unwrap();
    let served = served_by(file(&folder), true, Ok(())).await;
    assert_eq!(served.ask("POST", "/-/reload", &basic("carol", "carols"), "").await.status, 200);
    *served.fake.run.lock().unwrap() = Some(Err(RunRefusal::NoContainer));
    let headers = format!("Content-Type: application/json\r\n{}", bearer(TOKEN));
    assert_eq!(served.ask("POST", "/api/v1/run", &headers, RUN).await.status, 404);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for said in [
        "reload was asked for asker=\"user:carol\" address=\"127.0.0.1:",
        "run was asked for asker=\"token:alertmanager\" address=\"127.0.0.1:",
        "probe \"sockets\" in pod \"cart-0\"",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert!(!log.contains(TOKEN) && !log.contains("carols"), "{log}");
}
