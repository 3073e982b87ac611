//! The pages of docs/ are true: each command on them is run by this test or, where it wants a container, by the whole-agent test
//! `docs_live`, or its block says in a comment why not; and each configuration is held to the program that reads it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of a test fails by panicking, as the test does"
)]

#[path = "common/pages.rs"]
mod pages;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use pages::{Page, Step, fits, steps};
use parachute::config;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Which marks a block may have, by language. `console` besides: none, which is to be run.
const MARKS: &[(&str, &[&str])] = &[
    ("console", &["", "not run: ", "run by: "]),
    // Without a mark it is a configuration of parachute's.
    ("yaml", &["", "file: ", "values", "object", "not checked: "]),
    ("yml", &["file: "]),
    ("json", &["file: "]),
    ("text", &["", "file: "]),
    ("ini", &[""]),
    ("", &[""]),
];

#[test]
fn every_block_is_checked_or_says_why_not() {
    let mut wrong = String::new();
    for page in pages::all() {
        for block in page.blocks() {
            let marks = MARKS.iter().find(|(language, _)| *language == block.language);
            let mark = marks.and_then(|(_, marks)| {
                marks.iter().find(|mark| {
                    if mark.is_empty() { block.mark.is_empty() } else { block.mark.starts_with(**mark) }
                })
            });
            let Some(mark) = mark else {
                let _ = writeln!(
                    wrong,
                    "{}: no test knows a {:?} block with the mark {:?}",
                    page.name, block.language, block.mark
                );
                continue;
            };
            let said = block.mark.strip_prefix(mark).unwrap();
            if mark.starts_with("not ") && said.len() < 20 {
                let _ = writeln!(wrong, "{}: {said:?} is no reason", page.name);
            }
            if *mark == "run by: " {
                run_elsewhere(&page, said, block.text, &mut wrong);
            }
            if block.language == "console" {
                steps(block.text);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The file has the beginning of each command, or reads the page itself.
fn run_elsewhere(page: &Page, file: &str, block: &str, wrong: &mut String) {
    let text = fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_default();
    for step in steps(block) {
        let words: Vec<_> = step.command.trim_start_matches("sudo ").split_whitespace().take(2).collect();
        if !text.contains(&words.join(" ")) && !text.contains(&format!("docs/{}", page.name)) {
            let _ = writeln!(wrong, "{}: {file} does not run: {}", page.name, step.command);
        }
    }
}

#[test]
fn commands_that_need_no_container_do_what_is_shown() {
    let (mut wrong, mut count) = (String::new(), 0);
    for page in pages::all() {
        let folder = tempfile::tempdir().unwrap();
        page.write_files(folder.path());
        for step in page.steps(false) {
            let came = pages::run(&step.command, folder.path(), &[]);
            if !fits(&step, &came) {
                let _ = writeln!(
                    wrong,
                    "{}: $ {}\n{}it printed\n{}",
                    page.name, step.command, step.shown, came.1
                );
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count >= 10, "{count} commands");
}

#[test]
fn every_configuration_is_right() {
    let (mut ours, mut charts) = (0, 0);
    for page in pages::all() {
        for block in page.blocks().into_iter().filter(|block| block.language == "yaml") {
            if ["", "file: parachute.yml", "file: patterns.yml"].contains(&block.mark) {
                let mistakes = config::from_str(block.text, Path::new(&page.name)).err();
                assert_eq!(mistakes.map(|all| all.to_string()), None, "{}: {}", page.name, block.text);
                ours += 1;
            } else {
                // The file of another program: it is checked by a command on its page, or by deploy/helm/check.py.
                let read: Result<serde_json::Value, _> = serde_saphyr::from_str(block.text);
                assert!(read.is_ok(), "{}: {read:?}\n{}", page.name, block.text);
                charts += usize::from(["values", "object"].contains(&block.mark));
                if let Some(name) = block.mark.strip_prefix("file: ") {
                    let checks = ["check-config", "check rules"].map(|check| format!("{check} {name}"));
                    let all = page.steps(false);
                    let checked = all
                        .iter()
                        .any(|step| checks.iter().any(|check| step.command.ends_with(check.as_str())));
                    assert!(checked, "{}: no command checks {name}", page.name);
                }
            }
        }
    }
    assert!(ours >= 6 && charts == 3, "{ours} {charts}");
}

/// A test of pages that cannot fail would be worth nothing.
#[test]
fn what_is_wrong_on_a_page_is_seen() {
    let all = steps("$ echo a \\\n  b\na b\n# true\n");
    let step = |root, command: &str, shown: &str| Step {
        root,
        command: command.to_owned(),
        shown: shown.to_owned(),
    };
    assert_eq!(all, [step(false, "echo a \\\n  b", "a b\n"), step(true, "true", "")]);
    let folder = Path::new("/");
    let fine = |step: &Step| fits(step, &pages::run(&step.command, folder, &[]));
    assert!(all.iter().all(fine));
    assert!(
        fine(&step(false, "echo one two three", "one...three\n"))
            && fine(&step(false, "printf 'a\\nb\\n'", "a\n...\n"))
    );
    assert!(!fine(&step(false, "echo one", "two\n")) && !fine(&step(false, "echo one two", "one\n")));
    assert!(!fine(&step(false, "false", "")) && !fine(&step(false, "nosuchprogram", "")));
    assert!(std::panic::catch_unwind(|| steps("neither\n")).is_err());
}
