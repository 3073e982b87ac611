//! The README's table of kernels and runtimes, from what the last whole run of `cargo xtask vm` has kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

const COLUMNS: [&str; 6] = ["detect", "metadata", "joined", "observer", "exec tty", "captures"];

/// What rows have in common that become one: all but how the containers are made, and the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    runtime: String,
    version: Vec<u32>,
    cgroups: String,
    cells: Vec<String>,
}

/// The table and, below it, the reasons of what is not ok, and which tests ran besides.
pub(crate) fn table(kept: &str) -> String {
    let kept: Value = serde_json::from_str(kept).unwrap();
    let mut reasons: Vec<String> = Vec::new();
    // First by kernel, then over kernels.
    let mut of_kernel: BTreeMap<(Vec<u32>, Row), BTreeSet<String>> = BTreeMap::new();
    for row in kept["rows"].as_array().unwrap() {
        let cells = COLUMNS.iter().map(|column| cell(row, column, &mut reasons)).collect();
        let runtime = row["runtime"].as_str().unwrap_or_else(|| text(row, "job"));
        let made = Row {
            runtime: runtime.to_owned(),
            version: numbers(text(row, "version"), 3),
            cgroups: text(row, "cgroups").to_owned(),
            cells,
        };
        of_kernel
            .entry((numbers(text(row, "kernel"), 2), made))
            .or_default()
            .insert(text(row, "how").to_owned());
    }
    let mut rows: BTreeMap<(Row, BTreeSet<String>), Vec<String>> = BTreeMap::new();
    for ((kernel, row), how) in of_kernel {
        rows.entry((row, how)).or_default().push(dotted(&kernel));
    }
    let mut table = of_which_run(&kept);
    let _ = write!(
        table,
        "| kernel | cgroups | runtime | {} |\n|{}\n",
        COLUMNS.join(" | "),
        " --- |".repeat(COLUMNS.len() + 3)
    );
    for ((row, how), kernels) in rows {
        let Row { runtime, version, cgroups, cells } = row;
        let how = how.into_iter().collect::<Vec<_>>().join("; ");
        let runtime = format!("{runtime} {} ({how})", dotted(&version));
        let _ = writeln!(table, "| {} | {cgroups} | {runtime} | {} |", kernels.join(", "), cells.join(" | "));
    }
    if !reasons.is_empty() {
        table.push('\n');
    }
    for (number, reason) in reasons.iter().enumerate() {
        let _ = writeln!(table, "{}. {reason}", number + 1);
    }
    table.push('\n');
    for job in kept["tests"].as_array().unwrap() {
        let kernel = dotted(&numbers(text(job, "kernel"), 2));
        let said = match job["failed"].as_str() {
            None => format!("all {} pass", job["passed"]),
            Some(why) => format!("{} pass, and the job {why}", job["passed"]),
        };
        let _ =
            writeln!(table, "- {} on {kernel}, with Debian {}: {said}.", text(job, "job"), text(job, "root"));
    }
    table
}

/// Where the table is from.
fn of_which_run(kept: &Value) -> String {
    let run = |run: &Value| format!("{} at commit {}", text(run, "date"), text(run, "commit"));
    let mut said = format!("Of the run of all jobs of {}", run(&kept["whole"]));
    let mut later: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (job, of) in kept["later"].as_object().into_iter().flatten() {
        later.entry(run(of)).or_default().push(job);
    }
    for (run, jobs) in later {
        // Which they are stands in docs/kernels.json.
        let _ = write!(said, "; {} of these jobs again on {run}", jobs.len());
    }
    said + ".\n\n"
}

fn cell(row: &Value, column: &str, reasons: &mut Vec<String>) -> String {
    let cell = &row["cells"][column];
    let note = cell["note"].as_str().unwrap_or_else(|| text(row, "failed"));
    match cell["verdict"].as_str() {
        Some("ok") if note.is_empty() || note == column => "ok".to_owned(),
        Some("ok") => format!("ok, {}", note.trim_start_matches("observer_")),
        verdict => {
            let word = if verdict == Some("known") { "no" } else { "FAILED" };
            let at = reasons.iter().position(|reason| reason == note).unwrap_or_else(|| {
                reasons.push(note.to_owned());
                reasons.len() - 1
            });
            format!("{word} ({})", at + 1)
        }
    }
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

/// The first of a version's numbers.
fn numbers(version: &str, count: usize) -> Vec<u32> {
    version.split(['.', '-', '+', '~']).map_while(|part| part.parse().ok()).take(count).collect()
}

fn dotted(numbers: &[u32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

#[test]
fn rows_that_say_the_same_are_one_and_reasons_are_told_once() {
    let row = |kernel: &str, how: &str, observer: Value| {
        serde_json::json!({
            "kernel": kernel, "cgroups": "v2", "runtime": "containerd", "version": "1.7.24", "how": how, "root": "trixie",
            "job": "x", "failed": null, "cells": {
                "detect": { "verdict": "ok", "note": "" }, "metadata": { "verdict": "ok", "note": "" },
                "joined": { "verdict": "ok", "note": "joined" }, "observer": observer,
                "exec tty": { "verdict": "ok", "note": "" }, "captures": { "verdict": "known", "note": "No disk." },
            },
        })
    };
    let ok = || serde_json::json!({ "verdict": "ok", "note": "observer_mount" });
    let failed = serde_json::json!({ "verdict": "failed", "note": "it fell" });
    let kept = serde_json::json!({
        "whole": { "date": "2026-11-26", "commit": "abc" }, "later": { "trixie/6.12/docker": { "date": "2026-11-27", "commit": "def" } },
        "rows": [
            row("5.10.0-46-amd64", "systemd, runc 1.1.15", ok()), row("5.10.0-46-amd64", "cgroupfs, runc 1.1.15", ok()),
            row("6.1.0-2", "cgroupfs, runc 1.1.15", ok()), row("6.1.0-2", "systemd, runc 1.1.15", ok()),
            row("7.2.3+deb14", "systemd, runc 1.1.15", failed),
        ],
        "tests": [{ "kernel": "6.1.0-2", "root": "trixie", "job": "tests", "failed": null, "passed": 12 }],
    });
    let table = table(&kept.to_string());
    let run = "Of the run of all jobs of 2026-11-26 at commit abc; 1 of these jobs again on 2026-11-27 at commit def.";
    assert_eq!(table.lines().next(), Some(run));
    let body: Vec<&str> = table.lines().skip(4).collect();
    assert_eq!(
        body,
        [
            "| 7.2 | v2 | containerd 1.7.24 (systemd, runc 1.1.15) | ok | ok | ok | FAILED (2) | ok | no (1) |",
            "| 5.10, 6.1 | v2 | containerd 1.7.24 (cgroupfs, runc 1.1.15; systemd, runc 1.1.15) | ok | ok | ok | ok, mount | ok | no (1) |",
            "",
            "1. No disk.",
            "2. it fell",
            "",
            "- tests on 6.1, with Debian trixie: all 12 pass.",
        ]
    );
}
