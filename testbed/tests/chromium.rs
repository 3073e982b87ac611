//! The browser sees what scripts do, so that a test may say that none ran.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use std::fs;

use testbed::{Chromium, Snapshot, View};

const PAGE: &str = r#"<!doctype html><meta name="viewport" content="width=device-width">
<style>p { color: black } @media (prefers-color-scheme: dark) { p { width: 2000px } }</style>
<p id="a">before</p><img src="http://127.0.0.1:9/seen"><script>
alert('a dialog'); document.title = innerWidth;
setTimeout(() => document.getElementById('a').textContent = 'later', 100)</script>"#;

#[test]
fn scripts_are_seen() {
    let before = Snapshot::take();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    fs::write(&path, PAGE).unwrap();
    let url = format!("file://{}", path.display());
    let mut chromium = Chromium::start(&folder.path().join("profile")).unwrap();

    let page = chromium.look(&url, View::PHONE).unwrap();
    assert_eq!((page.title.as_str(), page.text.trim(), page.width), ("390", "later", 390));
    assert_eq!(page.requests, [url.as_str(), "http://127.0.0.1:9/seen"]);
    assert!(page.events.iter().any(|event| event["params"]["message"] == "a dialog"), "{:?}", page.events);
    assert!(page.png.starts_with(b"\x89PNG"));

    let page = chromium.look(&url, View { scripts: false, dark: true, ..View::DESK }).unwrap();
    assert_eq!((page.title.as_str(), page.text.trim()), ("", "before"));
    assert!(page.width >= 2000 && page.dom.contains("alert('a dialog')"), "{} {}", page.width, page.dom);
    assert!(!page.events.iter().any(|event| event["params"]["message"] == "a dialog"), "{:?}", page.events);
    drop(chromium);
    assert_eq!(before.leftovers(), [""; 0]);
}
