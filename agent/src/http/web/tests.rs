//! The web configuration file, as Prometheus' users have it, and wrong in every way: each mistake has a fixture with its exact
//! message.

use std::path::Path;
use std::time::{Duration, Instant};

use super::testing::{Folder, set_mode};
use super::*;

fn fixtures(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/web-config").join(folder);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "yml"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    all.sort();
    all
}

fn load(folder: &Folder, text: &str) -> Result<Loaded, WebError> {
    let config = Some(folder.write("web.yml", text, 0o600));
    Loaded::read(&Paths { config, token: None }, &mut Files::default())
}

/// With another key that does not fit, a token that is too short, and one that others can read.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("other.key", &folder.authority.server().key, 0o600);
    folder.write("open.key", &folder.authority.server().key, 0o644);
    folder.write("junk.pem", "junk\n", 0o600);
    folder.write("token", "0123456789abcdef0123\n", 0o600);
    folder.write("short", "0123\n", 0o600);
    folder.write("shared.crt", &folder.authority.pem, 0o666);
    folder
}

#[test]
fn what_exporters_take_is_taken() {
    let folder = folder();
    let all = fixtures("good");
    assert!(all.len() >= 8, "{}", all.len());
    for (path, text) in all {
        if let Err(error) = load(&folder, &text) {
            panic!("{path}: {error}");
        }
    }
}

/// `PARACHUTE_BLESS=1` writes the messages anew.
#[test]
fn every_mistake_is_told_by_its_place() {
    let folder = folder();
    let all = fixtures("bad");
    assert!(all.len() >= 30, "{}", all.len());
    for (path, text) in all {
        let error = load(&folder, &text).expect_err(&path).to_string();
        let shown = error.replace(&folder.folder.path().display().to_string(), "DIR") + "\n";
        let expected = path.replace(".yml", ".txt");
        if std::env::var_os("PARACHUTE_BLESS").is_some() {
            std::fs::write(&expected, &shown).unwrap();
        }
        assert_eq!(shown, std::fs::read_to_string(&expected).unwrap(), "{path}");
    }
}

#[test]
fn files_are_roots_and_keys_are_nobody_elses() {
    let folder = folder();
    let text = "tls_server_config: { cert_file: server.crt, key_file: server.key }\n";
    load(&folder, text).unwrap();
    for (name, mode, good) in [
        ("web.yml", 0o644, true),
        ("web.yml", 0o664, false),
        ("web.yml", 0o646, false),
        ("server.crt", 0o644, true),
        ("server.crt", 0o666, false),
        ("server.key", 0o400, true),
        ("server.key", 0o640, false),
        ("server.key", 0o604, false),
    ] {
        let before = if name == "server.crt" { 0o644 } else { 0o600 };
        set_mode(&folder.path(name), mode);
        let read = || {
            let paths = Paths { config: Some(folder.path("web.yml")), token: None };
            Loaded::read(&paths, &mut Files::default())
        };
        assert_eq!(read().is_ok(), good, "{name} {mode:o}");
        set_mode(&folder.path(name), before);
        std::os::unix::fs::chown(folder.path(name), Some(1000), None).unwrap();
        assert!(read().is_err(), "{name} of another owner");
        std::os::unix::fs::chown(folder.path(name), Some(0), None).unwrap();
    }
    // A pipe is not waited for, and a folder is no file.
    for make in ["mkfifo", "mkdir"] {
        std::fs::remove_file(folder.path("server.crt")).unwrap_or_default();
        assert!(std::process::Command::new(make).arg(folder.path("server.crt")).status().unwrap().success());
        assert!(load(&folder, text).is_err());
    }
}

#[test]
fn a_key_in_the_file_makes_the_file_a_secret() {
    let folder = folder();
    let indented = |text: &str| text.lines().flat_map(|line| ["    ", line, "\n"]).collect::<String>();
    let identity = folder.authority.server();
    let text = format!(
        "tls_server_config:\n  cert: |\n{}  key: |\n{}  client_ca: |\n{}  client_auth_type: RequireAndVerifyClientCert\n",
        indented(&identity.certificate),
        indented(&identity.key),
        indented(&folder.authority.pem)
    );
    assert!(load(&folder, &text).unwrap().authenticates());
    let config = Some(folder.write("web.yml", &text, 0o644));
    let error = Loaded::read(&Paths { config, token: None }, &mut Files::default()).unwrap_err();
    assert!(error.to_string().contains("holds a secret"), "{error}");
}

#[test]
fn tokens_are_compared_whole() {
    let folder = folder();
    let loaded = load(&folder, "bearer_tokens: { one: { roles: [read, view], file: token } }\n").unwrap();
    assert_eq!(loaded.token(b"0123456789abcdef0123"), Some(("one", Roles::READ.and(Roles::VIEW))));
    for wrong in ["", "0", "0123456789abcdef012", "0123456789abcdef01234", "0123456789abcdef0123\n"] {
        assert_eq!(loaded.token(wrong.as_bytes()), None, "{wrong}");
    }
    assert!(!format!("{loaded:?}").contains("0123456789abcdef0123"));
}

#[test]
fn a_bucket_fills_with_time_and_not_above_its_rim() {
    let bucket = Bucket::new(Duration::from_secs(1), 2);
    let start = Instant::now();
    for (after, allowed) in [
        (0, true),
        (0, true),
        (0, false),
        (500, false),
        (1000, true),
        (1001, false),
        (60_000, true),
        (60_000, true),
        (60_000, false),
    ] {
        assert_eq!(bucket.allows(start + Duration::from_millis(after)), allowed, "{after}");
    }
}

proptest::proptest! {
    /// Whatever stands in the file, reading it ends, with a message of one line if it is wrong.
    #[test]
    fn no_file_breaks_the_reader(text in "[a-z_0-9:{}\\[\\], \n$&*!|>'\"-]{0,200}") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        std::fs::write(&path, text).unwrap();
        set_mode(&path, 0o600);
        if let Err(error) = Loaded::read(&Paths { config: Some(path), token: None }, &mut Files::default()) {
            proptest::prop_assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
