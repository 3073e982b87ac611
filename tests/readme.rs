//! The README's tables and docs/metrics.md are made from the sources and must be what these say, and the README's
//! configurations must load. `UPDATE_README=1 cargo test -p parachute --test readme` writes them.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

#[path = "readme/kernels.rs"]
mod kernels;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use parachute::config::Probe;
use parachute::config::parse::{KeyMatch, MetricDef, Parse, RegexTake};
use parachute::{config, http, metrics, model, privileges};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

#[test]
fn tables_are_what_the_sources_say() {
    let readme = fs::read_to_string(README).unwrap();
    let made = with(&readme, "metrics", &metrics::docs::readme_table());
    let made = with(&made, "capabilities", &capabilities());
    let made = with(&made, "roles", &http::roles::readme_table());
    let kept = fs::read_to_string(Path::new(README).with_file_name("docs/kernels.json")).unwrap();
    let made = with(&made, "kernels", &kernels::table(&kept));
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(README, made).unwrap();
    } else {
        assert!(made == readme, "a table of README.md is old: UPDATE_README=1 cargo test --test readme");
    }
}

#[test]
fn the_table_of_the_kernel_is_what_is_tried() {
    let path = Path::new(README).with_file_name("docs/security.md");
    let there = fs::read_to_string(&path).unwrap();
    let made = with(&there, "kernel", &model::capability_table());
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(&path, made).unwrap();
    } else {
        assert!(
            made == there,
            "the table of docs/security.md is old: UPDATE_README=1 cargo test --test readme"
        );
    }
}

#[test]
fn the_page_of_metrics_is_what_the_sources_say() {
    let path = Path::new(README).with_file_name("docs/metrics.md");
    let made = metrics_page();
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == made, "docs/metrics.md is old: UPDATE_README=1 cargo test --test readme");
}

/// The agent's own metrics, and those of all files of probes/.
fn metrics_page() -> String {
    let files = fs::read_dir(Path::new(README).with_file_name("probes")).unwrap();
    let mut names: Vec<_> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    let shipped =
        config::from_str(&format!("include: [{}]", names.join(", ")), Path::new("all.yml")).unwrap();
    let mut page = format!("{PREFACE}{}", metrics::docs::readme_table());
    page += SHIPPED;
    for included in &shipped.included {
        let mut rows = String::new();
        for name in &included.probes {
            for (def, labels) in declared(&shipped.probes[name]) {
                let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
                let (kind, help) = (def.kind.as_str(), def.help.replace('|', "\\|"));
                let _ = writeln!(
                    rows,
                    "| `{}` | {kind} | {labels} | [`{name}`](probes.md#{name}) | {help} |",
                    def.name
                );
            }
        }
        let _ = writeln!(page, "\n### `{}`\n", included.name);
        page += if rows.is_empty() { "No metrics: captures only.\n" } else { HEAD };
        page += &rows;
    }
    page
}

/// Each metric of a probe once, with the labels of all its parts.
fn declared(probe: &Probe) -> Vec<(&MetricDef, BTreeSet<String>)> {
    let mut all: Vec<(&MetricDef, BTreeSet<String>)> = Vec::new();
    let mut add = |def, labels: Vec<&str>| {
        let def: &MetricDef = def;
        let fixed = def.const_labels.iter().map(|(name, _)| &**name);
        let labels: BTreeSet<_> = labels.into_iter().chain(fixed).map(str::to_owned).collect();
        match all.iter_mut().find(|(known, _)| known.name == def.name) {
            Some((_, known)) => known.extend(labels),
            None => all.push((def, labels)),
        }
    };
    match &probe.parse {
        Parse::None | Parse::Prometheus(_) => {}
        Parse::Regex(metrics) => metrics.iter().for_each(|metric| {
            let groups = metric.pattern.capture_names().flatten();
            let labels = match &metric.take {
                RegexTake::GroupLabel(label) => vec![&**label],
                RegexTake::Value(value) => groups.filter(|group| group != value).collect(),
                RegexTake::Count => groups.collect(),
            };
            add(&metric.def, labels);
        }),
        Parse::Json(metrics) => metrics
            .iter()
            .for_each(|metric| add(&metric.def, metric.labels.iter().map(|(name, _)| &**name).collect())),
        Parse::Keyvalue(metrics) => metrics.iter().for_each(|metric| {
            let label = if let KeyMatch::Glob { label, .. } = &metric.keys { Some(&**label) } else { None };
            add(&metric.def, label.into_iter().collect());
        }),
        Parse::Table(table) => table
            .metrics
            .iter()
            .for_each(|metric| add(&metric.def, metric.labels.iter().map(|(name, _)| &**name).collect())),
    }
    all
}

const PREFACE: &str = "# Metrics

All that `GET /metrics` can have. This page is made from the sources. Series of probes also have the labels `namespace`, `pod` and
`container` of what was looked into; scrape with `honor_labels: true`. They are there from the first run of their probe on, and a run
that fails takes them away.

## Of the agent itself

";
const SHIPPED: &str = "
`GET /probe` answers `probe_success` and `probe_duration_seconds` besides, of its one run.

## Of the shipped probes, by file

What `include: [NAME]` adds; none is there without a trigger that runs its probe.
";
const HEAD: &str = "| metric | type | labels | probe | meaning |\n| --- | --- | --- | --- | --- |\n";

#[test]
fn configurations_are_right() {
    let readme = fs::read_to_string(README).unwrap();
    let blocks: Vec<&str> =
        readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let (ours, theirs): (Vec<_>, Vec<_>) =
        blocks.into_iter().partition(|block| !block.starts_with("scrape_configs:"));
    assert_eq!((ours.len(), theirs.len()), (5, 1), "README.md has other blocks of YAML than this test knows");
    for block in ours {
        let mistakes = config::from_str(block, Path::new("README.md")).err().map(|all| all.to_string());
        assert_eq!(mistakes, None, "{block}");
    }
}

/// What Prometheus itself says of the configuration for it. The files of secrets are another machine's.
#[test]
fn the_scrape_configuration_is_right_and_short() {
    let readme = fs::read_to_string(README).unwrap();
    let (_, after) = readme.split_once("<!-- scrape-config -->\n```yaml\n").unwrap();
    let (block, _) = after.split_once("```").unwrap();
    assert_eq!(block.lines().count(), 10, "{block}");
    let folder = tempfile::tempdir().unwrap();
    let (token, file) = (folder.path().join("token"), folder.path().join("prometheus.yml"));
    fs::write(&token, "secret").unwrap();
    fs::write(&file, block.replace("/etc/prometheus/parachute.token", token.to_str().unwrap())).unwrap();
    let checked =
        std::process::Command::new("promtool").arg("check").arg("config").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert!(
        checked.status.success() && said.contains("is valid prometheus config file syntax"),
        "{said}\n{block}"
    );
}

/// The text with `table` between its marks `<!-- NAME -->` and `<!-- /NAME -->`.
fn with(text: &str, name: &str, table: &str) -> String {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&open).unwrap_or_else(|| panic!("README.md has no {open}"));
    let (_, after) = rest.split_once(&close).unwrap_or_else(|| panic!("README.md has no {close}"));
    format!("{before}{open}{table}{close}{after}")
}

fn capabilities() -> String {
    let mut table = String::from("| process | capability | what for |\n| --- | --- | --- |\n");
    let agent = privileges::KEPT.iter().map(|(name, _, why)| ("agent", name, why));
    let launcher = privileges::LAUNCHER.iter().map(|(name, why)| ("launcher", name, why));
    let rows = agent.chain(launcher);
    table.extend(rows.map(|(process, name, why)| format!("| {process} | {name} | {why} |\n")));
    table
}
