//! What came of a run: for the terminal, and for docs/kernels.json, of which the README's table is made.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::PROJECT;
use super::jobs::Machine;
use super::machine::Outcome;
use crate::progress;

/// Kept in the repository.
const KEPT: &str = "docs/kernels.json";

/// What this machine runs with its own kernel, by the tests' names: beside the guests' v2, what is not v2.
const NATIVE: [(&str, &str); 4] = [
    ("containerd cgroupfs runc", "runtimes::containerd"),
    ("docker", "runtimes::docker"),
    ("podman crun", "runtimes::podman_crun"),
    ("podman runc", "runtimes::podman_runc"),
];

/// That one of them may take.
const NATIVE_SECONDS: &str = "600";

/// Those of them whose names have all texts of the first and none of the second.
pub(super) fn native(only: &[String], skip: &[String]) -> Vec<(&'static str, &'static str)> {
    let mut tests = NATIVE.to_vec();
    tests.retain(|(job, _)| {
        let name = format!("this machine/{job}");
        let has = |text: &String| name.contains(text.as_str());
        only.iter().all(has) && !skip.iter().any(has)
    });
    tests
}

#[derive(Debug, Default)]
pub(super) struct Report {
    /// A row of the table each: what the tests told of a runtime, and where that was.
    rows: Vec<Value>,
    /// Jobs that are no row, by machine.
    tests: Vec<Value>,
    failed: Vec<String>,
    passed: usize,
    /// Date and commit.
    of: Value,
}

impl Report {
    /// Of what is built now, whatever becomes of the checkout meanwhile.
    pub(super) fn begin() -> anyhow::Result<Self> {
        let (commit, date) = (said("git", &["rev-parse", "--short", "HEAD"])?, said("date", &["-u", "+%F"])?);
        Ok(Self { of: json!({ "commit": commit, "date": date }), ..Self::default() })
    }

    pub(super) fn add(&mut self, machine: Machine, outcome: Outcome) {
        let name = machine.name();
        let Outcome { release, ended, cells, passed, fallen, died } = outcome;
        let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (job, line) in cells {
            match serde_json::from_str(&line) {
                Ok(row) => told.entry(job).or_default().push(row),
                Err(error) => {
                    self.failed.push(format!("{name}/{job}: a row that is no JSON ({error}): {line}"));
                }
            }
        }
        for job in machine.jobs {
            let names = fallen.get(&job.name).filter(|names| !names.is_empty());
            let names = names.map(|names| format!("failed in {}", names.join(", ")));
            let verdict = match ended.get(&job.name) {
                Some((0, _)) if job.is_row() && !told.contains_key(&job.name) => {
                    Some("told nothing for its row".to_owned())
                }
                Some((0, _)) if passed.get(&job.name).is_none_or(|tests| *tests == 0) => {
                    Some("ran no test".to_owned())
                }
                Some((0, _)) => None,
                Some((124 | 137, _)) => {
                    let names = names.map(|names| format!(", and {names}")).unwrap_or_default();
                    Some(format!("was not over after {} s{names}", job.seconds))
                }
                Some((status, _)) => Some(names.unwrap_or(format!("ended with {status}"))),
                None => {
                    let why = died.as_deref().unwrap_or("the machine ended before it");
                    Some(format!("no verdict: {why}"))
                }
            };
            match &verdict {
                None => self.passed += 1,
                Some(why) => self.failed.push(format!("{name}/{}: {why}", job.name)),
            }
            let place = json!({
                "kernel": release, "machine": name, "root": machine.root.suite, "job": job.name, "failed": verdict,
                "passed": passed.get(&job.name).copied().unwrap_or(0),
            });
            match told.remove(&job.name) {
                Some(rows) => self.rows.extend(rows.into_iter().map(|row| joined(&place, row))),
                None if job.is_row() => self.rows.push(place),
                None => self.tests.push(place),
            }
        }
    }

    /// The same tests on this machine.
    pub(super) fn add_native(&mut self, tests: &[(&str, &str)], logs: &Path) -> anyhow::Result<()> {
        for (job, test) in tests {
            let cells = tempfile::NamedTempFile::new()?;
            let mut cargo = Command::new("timeout");
            cargo.args(["--foreground", "--kill-after=10", NATIVE_SECONDS, "cargo", "test", "--locked"]);
            cargo.args(["--package", "parachute", "--test", "real", "--", "--exact", test]);
            cargo
                .current_dir(PROJECT)
                .env("PARACHUTE_CELLS", cells.path())
                .stdout(File::create(logs.join(format!("this-machine-{job}.log")))?);
            println!("this machine: {job} ...");
            let status = cargo.status().with_context(|| progress::starting(&cargo))?;
            let text = fs::read_to_string(cells.path())?;
            let failed = match status.code() {
                Some(0) if text.is_empty() => Some("told nothing for its row".to_owned()),
                Some(0) => None,
                _ => Some(format!("ended with {status}")),
            };
            match &failed {
                None => self.passed += 1,
                Some(why) => self.failed.push(format!("this machine/{job}: {why}")),
            }
            let place =
                json!({ "kernel": "", "machine": "", "root": "this machine", "job": job, "failed": failed });
            let rows = text.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>()?;
            if rows.is_empty() {
                self.rows.push(place);
            } else {
                self.rows.extend(rows.into_iter().map(|row| joined(&place, row)));
            }
        }
        Ok(())
    }

    pub(super) fn failures(&self) -> usize {
        self.failed.len()
    }

    /// Keeps it: alone if the run is whole, else with what was kept of other jobs.
    pub(super) fn keep(&self, whole: bool) -> anyhow::Result<()> {
        let path = Path::new(PROJECT).join(KEPT);
        let kept: Value =
            serde_json::from_str(&fs::read_to_string(&path).unwrap_or_default()).unwrap_or_default();
        let all = |new: &[Value], name: &str| {
            let old = kept[name].as_array().filter(|_| !whole);
            let others =
                old.into_iter().flatten().filter(|row| !new.iter().any(|new| place(new) == place(row)));
            let mut all: Vec<Value> = others.chain(new).cloned().collect();
            all.sort_by_key(place);
            all
        };
        let run = &self.of;
        let jobs: Vec<String> =
            self.rows.iter().chain(&self.tests).map(|row| place(row).join("/").replace("//", "/")).collect();
        let (whole, mut later) = match (whole, &kept["later"]) {
            (false, Value::Object(later)) => (kept["whole"].clone(), later.clone()),
            (false, _) => (kept["whole"].clone(), Map::new()),
            (true, _) => (run.clone(), Map::new()),
        };
        if whole != *run {
            later.extend(jobs.into_iter().map(|job| (job, run.clone())));
        }
        let all = json!({
            "whole": whole, "later": later, "rows": all(&self.rows, "rows"), "tests": all(&self.tests, "tests"),
        });
        let text = serde_json::to_string_pretty(&all)?;
        fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))
    }

    /// Makes the README's table of what is kept.
    pub(super) fn tell() -> anyhow::Result<()> {
        let mut cargo = progress::cargo();
        cargo
            .args(["test", "--locked", "--package", "parachute", "--test", "readme"])
            .env("UPDATE_README", "1");
        progress::quietly("writing the README's table", &mut cargo)
    }
}

/// What such a command prints, on one line.
fn said(program: &str, words: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(words).current_dir(PROJECT).output();
    let output = output.with_context(|| format!("starting {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What of several results is of the same job: kernels by the name that this project has for them.
fn place(row: &Value) -> [String; 3] {
    ["root", "machine", "job"].map(|key| row[key].as_str().unwrap_or_default().to_owned())
}

/// What is told of a row, and what only the host knows of it.
fn joined(place: &Value, mut row: Value) -> Value {
    for key in ["root", "machine", "job", "failed"] {
        row[key] = place[key].clone();
    }
    row
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failed {
            writeln!(f, "FAILED {failure}")?;
        }
        write!(f, "{} jobs ok, {} failed", self.passed, self.failed.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::jobs;
    use super::*;

    #[test]
    fn a_machine_that_dies_has_no_verdict_and_that_is_a_failure() {
        let machine = jobs::machines(true, &[], &[]).remove(0);
        let (name, job) = (machine.name(), machine.jobs[0].name.clone());
        let mut report = Report::default();
        let died = Some("it ended in it".to_owned());
        report.add(machine.clone(), Outcome { release: "5.10.0".into(), died, ..Outcome::default() });
        assert_eq!(report.failures(), 1);
        assert_eq!(
            report.to_string(),
            format!("FAILED {name}/{job}: no verdict: it ended in it\n0 jobs ok, 1 failed")
        );
        // The table has a row of it all the same.
        assert_eq!(report.rows[0]["failed"], "no verdict: it ended in it");

        let mut report = Report::default();
        let cells = vec![(job.clone(), r#"{"version":"1"}"#.to_owned())];
        let ended = BTreeMap::from([(job.clone(), (0, 9))]);
        let passed = BTreeMap::from([(job.clone(), 1)]);
        report.add(
            machine.clone(),
            Outcome {
                ended: ended.clone(),
                passed: passed.clone(),
                cells: cells.clone(),
                ..Outcome::default()
            },
        );
        assert_eq!(
            (report.failures(), &report.rows[0]["version"], &report.rows[0]["job"]),
            (0, &json!("1"), &json!(job))
        );

        // What ended well and did nothing has not gone well.
        report.add(machine.clone(), Outcome { ended: ended.clone(), passed, ..Outcome::default() });
        report.add(machine.clone(), Outcome { ended, cells, ..Outcome::default() });
        let fallen = BTreeMap::from([(job.clone(), vec!["a::b".to_owned()])]);
        let ended = BTreeMap::from([(job.clone(), (101, 9))]);
        report.add(machine, Outcome { ended, fallen, ..Outcome::default() });
        let said: Vec<_> = report.failed.iter().filter_map(|line| line.split(": ").last()).collect();
        assert_eq!(said, ["told nothing for its row", "ran no test", "failed in a::b"]);
    }
}
