//! The page in a real browser, with a container and an alert that want to be markup and scripts: nothing of them runs,
//! nothing is asked for elsewhere, and a phone shows it without moving it sideways. The pictures are in target/screenshots.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testbed::{Chromium, Page, View, WORKLOAD_IMAGE};

use crate::common::alerting::{self, captured, payload};
use crate::common::{self, Rig};

const CONFIGURATION: &str = r#"
probes:
  processes: { command: [ps, -eo, args], keep: always, parse: none }
  listeners:
    command: [ps, -eo, 'pid,stat,args']
    keep: always
    parse:
      table:
        columns: [pid, state, arguments]
        metrics:
          - { name: seen_processes, type: gauge, help: Processes., aggregate: count, labels: { arguments: arguments } }
  fails: { command: ['false'], keep: always, parse: none }
  # Every byte as it is, which ps does not print.
  raw: { command: [bash, -c, "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'"], keep: always, parse: none }
triggers:
  any:
    alert: { labels: { alertname: "*" } }
    target: { namespace: "{{namespace}}", pod: "{{pod}}", container: "{{container}}" }
    probes: [processes, listeners, fails, raw]
"#;

const SCREENSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/screenshots");

/// What a script of anybody's would make the title.
const PWNED: &str = "PWNED";

const SCRIPT: &str = "<script>document.title='PWNED'</script>";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_container_or_an_alert_is_markup() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let pod = rig
        .bed
        .pod("shop", "cart-0")
        .label("app", SCRIPT)
        .label("onload", "\" onmouseover=\"document.title='PWNED'")
        .container("main", WORKLOAD_IMAGE, &["/workload", "markup"]);
    common::knows(&agent, &[pod.start().await.unwrap()]).await;
    let labels = json!({
        "alertname": format!("{SCRIPT}High"), "namespace": "shop", "pod": "cart-0", "container": "main",
        "summary": "'\"><img src=http://127.0.0.1:9/seen onerror=document.title='PWNED'>",
        "javascript:document.title='PWNED'": "&lt;script&gt;",
    });
    let nowhere = json!({ "alertname": SCRIPT, "namespace": "nowhere", "pod": SCRIPT });
    let alerts = [labels, nowhere].map(|labels| {
        json!({
            "status": "firing", "labels": labels, "annotations": { "summary": SCRIPT },
            "startsAt": "2026-11-26T09:02:58.425191094Z", "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "javascript:document.title='PWNED'", "fingerprint": SCRIPT,
        })
    });
    let answer = alerting::post(&agent, &payload(SCRIPT, &alerts)).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.body);
    let all = captured(&agent, "pod=cart-0", 4).await;

    fs::create_dir_all(SCREENSHOTS).unwrap();
    let chromium = Chromium::start(&rig.path("chromium"));
    let mut chromium = chromium.unwrap();
    let base = format!("http://{}", agent.address());
    let view = |phone: bool, dark: bool| View { dark, ..if phone { View::PHONE } else { View::DESK } };
    let mut paths = vec![("overview".to_owned(), "/".to_owned())];
    for capture in &all {
        let probe = capture["probe"].as_str().unwrap();
        paths.push((format!("capture-{probe}"), format!("/captures/{}", capture["id"].as_str().unwrap())));
    }
    // Where the first page leads to; each page once.
    let first = chromium.look(&format!("{base}/"), View::DESK).unwrap();
    for (n, path) in links(&first).into_iter().filter(|path| path.starts_with('/')).take(12).enumerate() {
        let is_page = !["/api/", "/metrics", "/-/"].iter().any(|other| path.starts_with(other));
        if is_page && !paths.iter().any(|(_, known)| *known == path) {
            paths.push((format!("link-{n}"), path));
        }
    }
    let mut shown = String::new();
    for (name, path) in &paths {
        let url = format!("{base}{path}");
        let all = [
            ("phone", view(true, false)),
            ("phone-dark", view(true, true)),
            ("desk", view(false, false)),
            ("desk-dark", view(false, true)),
        ];
        // In every way the pages that people see most, and the others once.
        let looks = if name.starts_with("link-") { 1 } else { all.len() };
        for (look, view) in all.into_iter().take(looks) {
            let page = chromium.look(&url, view).unwrap();
            fs::write(Path::new(SCREENSHOTS).join(format!("{name}-{look}.png")), &page.png).unwrap();
            harmless(&page, &url, &base);
            if view.phone {
                assert!(page.width <= u64::from(view.width), "{url} is {} pixels wide", page.width);
            }
            shown += &page.text;
        }
        if looks == 1 {
            continue;
        }
        // As somebody without JavaScript reads it.
        let plain = chromium.look(&url, View { scripts: false, ..View::DESK }).unwrap();
        let scripted = chromium.look(&url, View::DESK).unwrap();
        assert_eq!(plain.text.lines().count(), scripted.text.lines().count(), "{url} needs scripts");
    }
    println!("{} pages were looked at: {paths:?}", paths.len());
    // It is shown, as the text that it is.
    for text in [SCRIPT, "<img src=x onerror=document.title='PWNED'>", "<svg/onload=", "<!--<style>"] {
        assert!(shown.contains(text), "{text} is nowhere to be seen");
    }
    let raw = all.iter().find(|capture| capture["probe"] == "raw").unwrap();
    let raw = alerting::stdout(&agent, raw).await;
    assert!(raw.windows(5).any(|bytes| bytes == b"\x1b]0;P"), "the container has printed escapes");
    assert!(
        !shown.contains('\x1b') && !shown.contains(['\x07', '\u{202e}']),
        "control characters are shown as such"
    );
    drop(chromium);
    rig.finish(agent);
}

/// Fails where anything but the agent's own page came of it.
fn harmless(page: &Page, url: &str, base: &str) {
    assert!(!page.title.contains(PWNED) || page.title.contains('<'), "{url}: {}", page.title);
    let strangers: Vec<_> = page.requests.iter().filter(|asked| !asked.starts_with(base)).collect();
    assert!(strangers.is_empty(), "{url} asks for {strangers:?}");
    // The browser asks for this one by itself.
    let icon = |event: &&Value| event["params"]["entry"]["url"] == format!("{base}/favicon.ico");
    let noticed: Vec<_> = page.events.iter().filter(|event| !icon(event)).collect();
    assert!(noticed.is_empty(), "{url}: {noticed:?}");
    for markup in
        ["<script>document", "<svg/onload", "<svg onload", "onerror=\"document", "href=\"javascript:"]
    {
        assert!(!page.dom.contains(markup), "{url}: {markup} is markup in\n{}", page.dom);
    }
}

/// Where its links lead, each once.
fn links(page: &Page) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in page.dom.split("href=\"").skip(1) {
        let to = part.split('"').next().unwrap_or_default().replace("&amp;", "&");
        if !found.contains(&to) {
            found.push(to);
        }
    }
    found
}
