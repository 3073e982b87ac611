//! A real browser without a window: what a page looks like on a desk and on a phone, what it is after its scripts have
//! run, and what else they did. It is told by the DevTools protocol over a pair of pipes
//! (<https://chromedevtools.github.io/devtools-protocol/>).

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

/// How long one answer, or the load of one page, may take; chromium's own start is most of it.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long a loaded page's own timers may take to do something.
const SETTLED: Duration = Duration::from_millis(250);

/// In a pid namespace of its own, so that all of its processes end together and leave no zombies to init. Its sandbox
/// refuses root, and the pages are our own; it talks to nobody else.
const START: &str = r#"exec unshare --pid --fork --kill-child --mount-proc chromium --headless --no-sandbox \
    --disable-gpu --disable-dev-shm-usage --no-first-run --disable-background-networking --disable-sync \
    --disable-component-update --ignore-certificate-errors --hide-scrollbars \
    --user-data-dir="$1" --remote-debugging-pipe about:blank 3<"$1/in" 4>"$1/out""#;

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// In CSS pixels.
    pub width: u32,
    pub height: u32,
    pub phone: bool,
    pub dark: bool,
    pub scripts: bool,
    /// The header `Authorization`, if any.
    pub authorization: Option<&'a str>,
}

impl View<'_> {
    pub const DESK: Self =
        Self { width: 1200, height: 900, phone: false, dark: false, scripts: true, authorization: None };
    pub const PHONE: Self = Self { width: 390, height: 844, phone: true, ..Self::DESK };
}

/// A page that was looked at.
#[derive(Clone, Debug)]
pub struct Page {
    pub title: String,
    /// The document as it stands after scripts, if any ran.
    pub dom: String,
    /// Its text as a person reads it.
    pub text: String,
    /// How wide its content is: more than the view is a page that must be moved sideways.
    pub width: u64,
    /// Everything that the page asked for, the page itself first.
    pub requests: Vec<String>,
    /// What scripts did that a person would notice, and what was forbidden to them: dialogs, console lines, errors.
    pub events: Vec<Value>,
    /// The whole page drawn.
    pub png: Vec<u8>,
}

/// A running browser. Dropping it kills it; its folder is its starter's to remove.
#[derive(Debug)]
pub struct Chromium {
    child: Child,
    commands: File,
    messages: Receiver<Value>,
    number: u64,
    /// Came while an answer was awaited.
    events: Vec<Value>,
}

impl Chromium {
    /// Starts one with its profile in `folder`, which is made if need be.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let [commands, answers] = ["in", "out"].map(|name| folder.join(name));
        for pipe in [&commands, &answers] {
            mkfifo(pipe, Mode::S_IRUSR | Mode::S_IWUSR)
                .with_context(|| format!("making the pipe {}", pipe.display()))?;
        }
        let log = File::create(folder.join("log"))?;
        let child = Command::new("sh")
            .args(["-c", START, "sh"])
            .arg(folder)
            .env("HOME", folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting sh")?;
        // In the shell's own order: each waits for the other end.
        let commands = File::options().write(true).open(commands)?;
        let answers = BufReader::new(File::open(answers)?);
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in answers.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, commands, messages, number: 0, events: Vec::new() })
    }

    /// Opens a page, waits until it is loaded and its scripts have had time, and closes it.
    pub fn look(&mut self, url: &str, view: View<'_>) -> anyhow::Result<Page> {
        let target = self.call("", "Target.createTarget", json!({ "url": "about:blank" }))?;
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.call("", "Target.attachToTarget", target.clone())?;
        let session = session["sessionId"].as_str().context("no session")?.to_owned();
        let page = self.look_in(&session, url, view).with_context(|| format!("looking at {url}"));
        self.call("", "Target.closeTarget", json!({ "targetId": target["targetId"] }))?;
        page
    }

    fn look_in(&mut self, session: &str, url: &str, view: View<'_>) -> anyhow::Result<Page> {
        for domain in ["Page.enable", "Network.enable", "Runtime.enable", "Log.enable"] {
            self.call(session, domain, json!({}))?;
        }
        let View { width, height, phone, dark, scripts, authorization } = view;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        self.call(session, "Emulation.setDeviceMetricsOverride", size)?;
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        self.call(session, "Emulation.setEmulatedMedia", json!({ "features": [scheme] }))?;
        self.call(session, "Emulation.setScriptExecutionDisabled", json!({ "value": !scripts }))?;
        if let Some(value) = authorization {
            let headers = json!({ "headers": { "Authorization": value } });
            self.call(session, "Network.setExtraHTTPHeaders", headers)?;
        }
        self.events.clear();
        let loaded = self.call(session, "Page.navigate", json!({ "url": url }))?;
        if let Some(error) = loaded["errorText"].as_str() {
            bail!("{error}");
        }
        self.gather("Page.loadEventFired", DEADLINE)?;
        // It is over when nothing more comes, which no event says.
        let _ = self.gather("", SETTLED);
        let title = self.evaluate(session, "document.title")?;
        let dom = self.evaluate(session, "document.documentElement.outerHTML")?;
        let text = self.evaluate(session, "document.body.innerText")?;
        let width = self.evaluate(session, "document.documentElement.scrollWidth")?;
        let drawn = json!({ "format": "png", "captureBeyondViewport": true });
        let drawn = self.call(session, "Page.captureScreenshot", drawn)?;
        let words = |value: Value| value.as_str().unwrap_or_default().to_owned();
        let (sent, noticed): (Vec<Value>, Vec<Value>) =
            self.events.drain(..).partition(|event| event["method"] == "Network.requestWillBeSent");
        Ok(Page {
            title: words(title),
            dom: words(dom),
            text: words(text),
            width: width.as_u64().context("no width")?,
            requests: sent
                .into_iter()
                .map(|event| words(event["params"]["request"]["url"].clone()))
                .collect(),
            events: noticed,
            png: STANDARD.decode(drawn["data"].as_str().context("no picture")?)?,
        })
    }

    /// What an expression is in the page. DevTools may ask also where the page's own scripts may not run.
    fn evaluate(&mut self, session: &str, expression: &str) -> anyhow::Result<Value> {
        let asked = json!({ "expression": expression, "returnByValue": true });
        Ok(self.call(session, "Runtime.evaluate", asked)?["result"]["value"].clone())
    }

    /// Sends one command and returns its answer's result.
    #[allow(clippy::needless_pass_by_value, reason = "every caller makes it on the spot")]
    fn call(&mut self, session: &str, method: &str, parameters: Value) -> anyhow::Result<Value> {
        self.number += 1;
        let id = self.number;
        let mut command = json!({ "id": id, "method": method, "params": parameters });
        if !session.is_empty() {
            command["sessionId"] = session.into();
        }
        self.commands
            .write_all(format!("{command}\0").as_bytes())
            .context("chromium has ended (is it installed? cargo xtask setup installs it)")?;
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message =
                self.messages.recv_timeout(left).with_context(|| format!("no answer to {method}"))?;
            if message["id"] == id {
                if message["error"].is_object() {
                    bail!("{method}: {}", message["error"]);
                }
                return Ok(message["result"].clone());
            }
            self.note(message)?;
        }
    }

    /// Takes in events until this one comes.
    fn gather(&mut self, last: &str, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left).with_context(|| format!("no {last}"))?;
            let is_last = message["method"] == last;
            self.note(message)?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Keeps an event that is of interest. A dialog stops its page until somebody answers it.
    fn note(&mut self, event: Value) -> anyhow::Result<()> {
        const KEPT: [&str; 5] = [
            "Network.requestWillBeSent",
            "Page.javascriptDialogOpening",
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
            "Log.entryAdded",
        ];
        if event["method"] == "Page.javascriptDialogOpening" {
            self.number += 1;
            let closed = json!({
                "id": self.number, "sessionId": event["sessionId"],
                "method": "Page.handleJavaScriptDialog", "params": { "accept": false },
            });
            self.commands.write_all(format!("{closed}\0").as_bytes())?;
        }
        if KEPT.iter().any(|kept| event["method"] == *kept) {
            self.events.push(event);
        }
        Ok(())
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Both only fail when it is gone already. unshare takes all of its processes with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
