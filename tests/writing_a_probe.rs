//! The worked example of docs/writing-a-probe.md: its files are written as they stand there, its commands run in order, and
//! what they print is what the page shows. Those that want a container (`#`) are run by the whole-agent test `library`.

use std::fs;
use std::path::Path;
use std::process::Command;

const PAGE: &str = include_str!("../docs/writing-a-probe.md");

/// The blocks of this language, with the line before each.
fn blocks(language: &str) -> Vec<(&'static str, &'static str)> {
    let open = format!("```{language}\n");
    let mut all = Vec::new();
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once(&open) {
        let (block, next) = after.split_once("```").unwrap();
        all.push((before.lines().last().unwrap_or_default(), block));
        rest = next;
    }
    all
}

#[test]
fn the_page_shows_what_happens() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = 0;
    for (mark, block) in blocks("text").into_iter().chain(blocks("yaml")) {
        if let Some(name) = mark.strip_prefix("<!-- file: ").and_then(|mark| mark.strip_suffix(" -->")) {
            fs::write(folder.path().join(name), block).unwrap();
            files += 1;
        }
    }
    assert_eq!(files, 3, "the page's files");
    let mut commands = 0;
    for (_, block) in blocks("console") {
        let mut parts = block.split("$ ").skip(usize::from(block.starts_with("$ ")));
        if !block.starts_with("$ ") {
            assert!(block.lines().all(|line| line.starts_with("# ")), "neither $ nor #: {block}");
            continue;
        }
        parts.by_ref().for_each(|part| {
            let (command, shown) = part.split_once('\n').unwrap();
            let program = Path::new(env!("CARGO_BIN_EXE_parachute")).parent().unwrap();
            let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
            let output = Command::new("sh")
                .args(["-c", command])
                .current_dir(folder.path())
                .env("PATH", path)
                .output()
                .unwrap();
            // The check names the file by its whole path.
            let here = format!("{}/", folder.path().canonicalize().unwrap().display());
            let said = String::from_utf8(output.stdout).unwrap().replace(&here, "");
            assert_eq!(said, shown, "{command}: {}", String::from_utf8_lossy(&output.stderr));
            commands += 1;
        });
    }
    assert_eq!(commands, 5, "the page's commands");
}

#[test]
fn every_configuration_on_the_page_is_right() {
    for (_, block) in blocks("yaml") {
        let mistakes = parachute::config::from_str(block, Path::new("page.yml")).err();
        assert_eq!(mistakes.map(|all| all.to_string()), None, "{block}");
    }
}
