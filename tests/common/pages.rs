//! The pages of docs/ as their blocks and commands, for the two tests that run them: `docs` and the whole-agent one `docs_live`.
//! In a block of the language `console` a command begins with `$` or, where it is for root and a running agent, `#`; what
//! follows up to the next one is what it prints, in which `...` stands for anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::Regex;

pub(crate) struct Page {
    /// Below docs/.
    pub(crate) name: String,
    text: String,
}

pub(crate) struct Block<'a> {
    pub(crate) language: &'a str,
    /// The comment `<!-- … -->` right before the block.
    pub(crate) mark: &'a str,
    pub(crate) text: &'a str,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) root: bool,
    pub(crate) command: String,
    pub(crate) shown: String,
}

/// All of them, by name.
pub(crate) fn all() -> Vec<Page> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut paths = Vec::new();
    find(&folder, &mut paths);
    paths.sort();
    let page = |path: PathBuf| Page {
        name: path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    paths.into_iter().map(page).collect()
}

fn find(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            into.push(path);
        }
    }
}

impl Page {
    pub(crate) fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut rest = self.text.as_str();
        while let Some((before, after)) = rest.split_once("```") {
            let (language, after) = after.split_once('\n').unwrap();
            let (text, next) = after
                .split_once("```")
                .unwrap_or_else(|| panic!("{}: a block has no end: {language}", self.name));
            let last = before.trim_end().lines().last().unwrap_or_default();
            let mark = last.strip_prefix("<!-- ").and_then(|mark| mark.strip_suffix(" -->"));
            blocks.push(Block { language, mark: mark.unwrap_or_default(), text });
            rest = next;
        }
        blocks
    }

    /// The steps that a test is to run: those of blocks that do not say otherwise.
    pub(crate) fn steps(&self, root: bool) -> Vec<Step> {
        let blocks = self.blocks();
        let run = blocks.iter().filter(|block| block.language == "console" && block.mark.is_empty());
        run.flat_map(|block| steps(block.text)).filter(|step| step.root == root).collect()
    }

    /// The blocks with a name, `<!-- file: NAME -->`, as they stand there.
    pub(crate) fn write_files(&self, folder: &Path) {
        for block in self.blocks() {
            if let Some(name) = block.mark.strip_prefix("file: ") {
                fs::write(folder.join(name), block.text).unwrap();
            }
        }
    }
}

/// Panics where the block begins with no command.
pub(crate) fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let command =
            line.strip_prefix("$ ").map(|it| (false, it)).or(line.strip_prefix("# ").map(|it| (true, it)));
        if open {
            let step = steps.last_mut().unwrap();
            step.command = format!("{}\n{line}", step.command);
        } else if let Some((root, command)) = command {
            steps.push(Step { root, command: command.to_owned(), shown: String::new() });
        } else {
            let step =
                steps.last_mut().unwrap_or_else(|| panic!("a block begins with neither $ nor #:\n{text}"));
            step.shown += line;
            step.shown.push('\n');
            continue;
        }
        open = line.ends_with('\\');
    }
    assert!(!steps.is_empty() && !open, "a block has no command, or half of one:\n{text}");
    steps
}

/// What the command says on both its outputs, and whether it ended well.
pub(crate) fn run(command: &str, folder: &Path, environment: &[(&str, &Path)]) -> (bool, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_parachute")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("timeout");
    shell.args(["60", "sh", "-c", &format!("exec 2>&1\n{command}")]).current_dir(folder).env("PATH", path);
    shell.envs(environment.iter().copied()).stdin(Stdio::null());
    let output = shell.output().unwrap();
    // Some programs name a file by its whole path.
    let here = format!("{}/", folder.canonicalize().unwrap().display());
    (output.status.success(), String::from_utf8_lossy(&output.stdout).replace(&here, ""))
}

/// A command that shows nothing need only end well. Where the output is shown, that is what counts, as mistakes are shown too.
pub(crate) fn fits(step: &Step, (fine, said): &(bool, String)) -> bool {
    if step.shown.is_empty() {
        return *fine;
    }
    let pattern = regex::escape(step.shown.trim()).replace(r"\.\.\.", "(?s:.*)");
    Regex::new(&format!("^{pattern}$")).unwrap().is_match(said.trim())
}
