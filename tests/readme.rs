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
    assert_eq!(blocks.len(), 2, "README.md has other blocks of YAML than this test knows");
    for block in blocks {
        let mistakes = config::from_str(block, Path::new("README.md")).err().map(|all| all.to_string());
        assert_eq!(mistakes, None, "{block}");
    }
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
