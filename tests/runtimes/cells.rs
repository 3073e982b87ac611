//! The cells of a row. Each is tried whatever came of the others, so that the row says all that does not work.

use std::path::Path;

use serde_json::{Value, json};
use testbed::Agent;

use super::subjects::{LISTENERS, Subject};
use crate::common::{self, SOON, alerting, eventually_or};
use crate::exec_terminal::Person;

/// What more is to be said of what works, or why it does not.
pub(crate) type Cell = Result<String, String>;

/// In the table's order.
#[derive(Debug)]
pub(crate) struct Cells(Vec<(&'static str, Cell)>);

impl Cells {
    pub(crate) async fn fill(agent: &Agent, subject: &Subject, folder: &Path) -> Self {
        let detected = detect(agent, subject).await;
        let described = metadata(agent, subject).await;
        let joined = numbers(agent, subject, "-joined").await;
        let observer = numbers(agent, subject, "").await;
        let terminal = terminal(agent, subject, folder);
        let captures = captures(agent, subject).await;
        Self(vec![
            ("detect", detected),
            ("metadata", described),
            ("joined", joined),
            ("observer", observer),
            ("exec tty", terminal),
            ("captures", captures),
        ])
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &Cell)> {
        self.0.iter().map(|(name, cell)| (*name, cell))
    }

    /// Each cell's verdict, `ok`, `known` or `failed`, and its reason.
    pub(crate) fn to_json(&self, known: impl Fn(&str, &Cell) -> Option<&'static str>) -> Value {
        let value = |name, cell: &Cell| match (cell, known(name, cell)) {
            (Ok(note), _) => json!({ "verdict": "ok", "note": note }),
            (Err(_), Some(why)) => json!({ "verdict": "known", "note": why }),
            (Err(reason), None) => json!({ "verdict": "failed", "note": reason }),
        };
        self.all().map(|(name, cell)| (name.to_owned(), value(name, cell))).collect()
    }
}

/// It is listed, once, with the pid that the runtime tells.
async fn detect(agent: &Agent, subject: &Subject) -> Cell {
    eventually_or(SOON, async || {
        let row = listed(agent, subject).await?;
        if row["pid"] == subject.pid {
            Ok(String::new())
        } else {
            Err(format!("pid {} is listed as {}", subject.pid, row["pid"]))
        }
    })
    .await
}

async fn metadata(agent: &Agent, subject: &Subject) -> Cell {
    eventually_or(SOON, async || {
        let row = listed(agent, subject).await?;
        let names =
            ["namespace", "pod", "container", "image"].map(|name| row[name].as_str().unwrap_or_default());
        let [wanted @ .., image] = subject.names.each_ref().map(String::as_str);
        // Podman puts a registry before a name that has none.
        if names[..3] == wanted && names[3].ends_with(image) {
            Ok(String::new())
        } else {
            Err(format!("{:?} is listed as {names:?}", subject.names))
        }
    })
    .await
}

async fn listed(agent: &Agent, subject: &Subject) -> Result<Value, String> {
    let mut rows = common::containers(agent).await;
    rows.retain(|row| row["id"] == subject.id.as_str());
    match rows.len() {
        1 => Ok(rows.remove(0)),
        0 => Err("it is not listed".to_owned()),
        more => Err(format!("it is listed {more} times")),
    }
}

/// How a gauge without labels came out.
fn found(run: &Value) -> f64 {
    run["families"][0]["samples"][0]["value"].as_f64().unwrap_or(0.0)
}

/// The container's listeners, processes and addresses and nobody else's; which way the probes went.
async fn numbers(agent: &Agent, subject: &Subject, which: &str) -> Cell {
    // The workload listens a moment after it has started; a run that has not gone well has not.
    let listeners =
        eventually_or(SOON, async || match run(agent, subject, &format!("listeners{which}")).await {
            Ok(answer) if found(&answer) < f64::from(LISTENERS) => {
                Err(format!("{} listeners and not {LISTENERS}", found(&answer)))
            }
            other => Ok(other),
        })
        .await??;
    if found(&listeners) > f64::from(LISTENERS) {
        return Err(format!("{} listeners and not {LISTENERS}", found(&listeners)));
    }
    let processes = run(agent, subject, &format!("processes{which}")).await?;
    let mut found: Vec<_> = lines(&processes);
    found.sort();
    // A joined ps is a process of the container.
    let expected: &[&str] = if which.is_empty() { &["workload"] } else { &["ps", "workload"] };
    if found != expected {
        return Err(format!("processes {found:?} and not {expected:?}"));
    }
    if let Some(address) = &subject.address {
        let found = lines(&run(agent, subject, &format!("addresses{which}")).await?);
        let is_one = |line: &String, address: &str| line.contains(&format!(" {address}/"));
        let others = found.iter().filter(|line| !is_one(line, address) && !is_one(line, "127.0.0.1"));
        if !found.iter().any(|line| is_one(line, address)) || others.count() > 0 {
            return Err(format!("addresses {found:?} and not {address}"));
        }
    }
    Ok(listeners["way"].as_str().unwrap_or_default().to_owned())
}

/// One run on request that has gone well.
async fn run(agent: &Agent, subject: &Subject, probe: &str) -> Result<Value, String> {
    let body = json!({ "probe": probe, "target": { "id": subject.id } }).to_string();
    let answer = agent.post("/api/v1/run", &body).await.map_err(|error| error.to_string())?;
    let run: Value = serde_json::from_str(&answer.body).map_err(|_| answer.body.clone())?;
    if answer.status == 200 && run["outcome"] == "ok" {
        Ok(run)
    } else {
        let said = |key: &str| run[key].as_str().unwrap_or_default().to_owned();
        // What is the same for each container: the table tells a reason once.
        Err(format!("{probe}: {}: {}", said("outcome"), said("reason")))
    }
}

fn lines(run: &Value) -> Vec<String> {
    run["stdout"].as_str().unwrap_or_default().lines().map(|line| line.trim().to_owned()).collect()
}

/// A shell of the host's in the container, at a real terminal whose size is its own.
fn terminal(agent: &Agent, subject: &Subject, folder: &Path) -> Cell {
    let id = &subject.id[..12];
    let person = Person::at(folder, agent);
    let screen = person
        .types(&format!("parachute exec {id} sh -c 'tty; stty size; cat /proc/1/comm'; echo status $?"));
    for line in ["/dev/pts/0", "30 100", "workload", "status 0"] {
        if !screen.lines().any(|found| found == line) {
            return Err(format!("no {line} on {screen:?}"));
        }
    }
    Ok(String::new())
}

/// What a run printed is kept, found by its container, and given out as it was.
async fn captures(agent: &Agent, subject: &Subject) -> Cell {
    let ran = run(agent, subject, "listeners-joined").await?;
    let id = ran["capture"].as_str().ok_or("nothing was kept")?;
    let kept = alerting::captures(agent, "probe=listeners-joined&limit=1").await;
    let kept = kept.first().filter(|kept| kept["id"] == id).ok_or("it is not the newest that is listed")?;
    let record = alerting::record(agent, kept).await;
    let text = alerting::stdout(agent, kept).await;
    let [said, kept_text] = [ran["stdout"].as_str().unwrap_or_default().as_bytes(), &text];
    if said != kept_text || text.is_empty() {
        return Err(format!("{} bytes are kept of {}", text.len(), said.len()));
    }
    if record["container"]["id"] != subject.id.as_str() {
        return Err(format!("it names another container: {record}"));
    }
    Ok(String::new())
}
