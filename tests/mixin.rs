//! The rules beside the dashboards: promtool reads them and runs their tests, no alert lacks a test that fires, one that does
//! not, and a runbook, and jsonnet builds the mixin of them. Whether they see anything real is the test `dashboards`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of a test fails by panicking, as the test does"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rules_folder() -> PathBuf {
    root().join("dashboards/rules")
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn rules(file: &str) -> Vec<Value> {
    let all = yaml(&rules_folder().join(file));
    let groups = all["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).cloned().collect()
}

fn test_files() -> Vec<PathBuf> {
    let found: Vec<_> =
        fs::read_dir(rules_folder().join("tests")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(found.len() >= 4, "{found:?}");
    found
}

fn name(rule: &Value, kind: &str) -> String {
    rule[kind].as_str().unwrap_or_else(|| panic!("{rule} is no {kind}")).to_owned()
}

fn said(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("cargo xtask setup installs it");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

#[test]
fn promtool_reads_the_rules() {
    let files = ["alerts.yml", "recording.yml"].map(|file| rules_folder().join(file));
    let (fine, said) = said(Command::new("promtool").args(["check", "rules"]).args(files));
    let count = rules("alerts.yml").len();
    assert!(fine && said.contains(&format!("SUCCESS: {count} rules found")), "{said}");
}

#[test]
fn rules_do_what_their_tests_say() {
    let (fine, said) = said(Command::new("promtool").args(["test", "rules"]).args(test_files()));
    assert!(fine && said.matches("SUCCESS").count() == test_files().len(), "{said}");
}

#[test]
fn no_alert_lacks_a_test_or_a_runbook() {
    let mut tested: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for file in test_files() {
        for test in yaml(&file)["tests"].as_array().unwrap() {
            for check in test["alert_rule_test"].as_array().into_iter().flatten() {
                let fires = !check["exp_alerts"].as_array().unwrap().is_empty();
                let counts = tested.entry(name(check, "alertname")).or_default();
                if fires { counts.0 += 1 } else { counts.1 += 1 }
            }
        }
    }
    let alerts = rules("alerts.yml");
    let names: BTreeSet<String> = alerts.iter().map(|rule| name(rule, "alert")).collect();
    assert_eq!(names.len(), alerts.len(), "an alert stands twice");
    assert_eq!(names, tested.keys().cloned().collect(), "alerts, and alerts that are tested");
    for (alert, (fires, quiet)) in &tested {
        assert!(*fires > 0 && *quiet > 0, "{alert} is tested to fire {fires} times and not to fire {quiet} times");
    }
    let pages = fs::read_dir(root().join("docs/runbooks")).unwrap();
    let pages: BTreeSet<String> =
        pages.map(|page| page.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, pages, "alerts, and runbooks");
    for rule in &alerts {
        let alert = name(rule, "alert");
        let annotations = &rule["annotations"];
        assert_eq!(annotations["runbook_url"], format!("docs/runbooks/{alert}.md"));
        let summary = annotations["summary"].as_str().unwrap();
        assert!(summary.ends_with('.') && !summary.contains("{{"), "{alert}: {summary}");
        assert!(annotations["description"].as_str().unwrap().len() > 40, "{alert}");
        assert!(["critical", "warning", "info"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{alert}");
        assert!(alert.starts_with("Parachute"), "{alert}");
        let page = fs::read_to_string(root().join(format!("docs/runbooks/{alert}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {alert}\n\n{summary} Severity: ")), "{alert}");
        for part in ["What it says", "What it costs", "Where to look", "What to do"] {
            assert!(page.contains(&format!("\n## {part}\n\n")), "{alert} has no part {part:?}");
        }
        for link in page.split("](").skip(1).map(|rest| rest.split(".md)").next().unwrap()) {
            assert!(names.contains(link), "{alert} leads to {link}");
        }
    }
}

#[test]
fn every_recording_rule_is_tested() {
    let recorded: BTreeSet<String> = rules("recording.yml").iter().map(|rule| name(rule, "record")).collect();
    let tests = yaml(&rules_folder().join("tests/recording.yml"));
    let tests = tests["tests"].as_array().unwrap();
    let checks = tests.iter().flat_map(|test| test["promql_expr_test"].as_array().unwrap());
    let tested: BTreeSet<String> = checks
        .inspect(|check| assert!(!check["exp_samples"].as_array().unwrap().is_empty(), "{check}"))
        .map(|check| name(check, "expr"))
        .collect();
    assert_eq!(recorded, tested);
}

#[test]
fn jsonnet_builds_the_mixin() {
    let text = "local mixin = (import 'mixin.libsonnet') + { _config+:: { runbookUrlPrefix: 'https://wiki.test/' } }; \
                { dashboards: mixin.grafanaDashboards, alerts: mixin.prometheusAlerts, rules: mixin.prometheusRules }";
    let mut jsonnet = Command::new("jsonnet");
    let (fine, said) = said(jsonnet.args(["--exec", text]).current_dir(root().join("dashboards")));
    assert!(fine, "{said}");
    let made: Value = serde_json::from_str(&said).unwrap();
    for dashboard in ["agent", "container", "fleet", "network"] {
        let file = fs::read_to_string(root().join(format!("dashboards/{dashboard}.json"))).unwrap();
        let file: Value = serde_json::from_str(&file).unwrap();
        assert_eq!(made["dashboards"][format!("parachute-{dashboard}.json")], file, "{dashboard}");
    }
    assert_eq!(made["rules"], yaml(&rules_folder().join("recording.yml")));
    let mut alerts = yaml(&rules_folder().join("alerts.yml"));
    for group in alerts["groups"].as_array_mut().unwrap() {
        for rule in group["rules"].as_array_mut().unwrap() {
            let url = &mut rule["annotations"]["runbook_url"];
            *url = format!("https://wiki.test/{}", url.as_str().unwrap()).into();
        }
    }
    assert_eq!(made["alerts"], alerts);
}
