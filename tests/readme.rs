//! The README's tables are made from the sources and must be what these say, and its configurations must load.
//! `UPDATE_README=1 cargo test -p parachute --test readme` writes the tables.

use std::fs;
use std::path::Path;

use parachute::{config, http, metrics, privileges};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

#[test]
fn tables_are_what_the_sources_say() {
    let readme = fs::read_to_string(README).unwrap();
    let made = with(&readme, "metrics", &metrics::docs::readme_table());
    let made = with(&made, "capabilities", &capabilities());
    let made = with(&made, "roles", &http::roles::readme_table());
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(README, made).unwrap();
    } else {
        assert!(made == readme, "a table of README.md is old: UPDATE_README=1 cargo test --test readme");
    }
}

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
