//! `cargo xtask test`: sets up, builds the agent and runs every test of the workspace; ends with how many there were.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, bail};

use crate::{progress, setup};

pub(crate) fn run() -> anyhow::Result<()> {
    setup::ensure("test")?;
    progress::openly(
        "building the agent",
        progress::cargo().args(["build", "--locked", "--package", "parachute"]),
    )?;
    eprintln!("running every test ...");
    let mut counts = Counts::default();
    let everything = run_counted(&["--workspace"], &mut counts);
    // Last, as it puts another build of the agent in the place of the usual one.
    let feature = ["--package", "parachute", "--features", "object-store"];
    let with_store = [&feature[..], &["--test", "object_store"]].concat();
    let config = [&feature[..], &["--lib", "--", "config::", "upload::"]].concat();
    let uploads = run_counted(&with_store, &mut counts).and(run_counted(&config, &mut counts));
    let Counts { programs, passed, failed, ignored } = counts;
    println!("\n{passed} tests passed, {failed} failed, {ignored} ignored, in {programs} test programs");
    everything.and(uploads)
}

fn run_counted(what: &[&str], counts: &mut Counts) -> anyhow::Result<()> {
    let mut cargo = progress::cargo();
    cargo.args(["test", "--locked", "--no-fail-fast"]).args(what).stdout(Stdio::piped());
    let mut child = cargo.spawn().with_context(|| progress::starting(&cargo))?;
    let output = child.stdout.take().context("the tests' output is piped")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        counts.add(&line);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo test {} ended with {status}", what.join(" "));
    }
    Ok(())
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    programs: u32,
    passed: u32,
    failed: u32,
    ignored: u32,
}

impl Counts {
    /// Adds up libtest's last lines: `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        self.programs += 1;
        let words: Vec<&str> = result.split([' ', ';']).collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<u32>() else { continue };
            match pair[1] {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_programs_add_up() {
        let mut counts = Counts::default();
        for line in [
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test something ... ok",
            "test result: FAILED. 40 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 3.10s",
        ] {
            counts.add(line);
        }
        assert_eq!(counts, Counts { programs: 2, passed: 43, failed: 2, ignored: 1 });
    }
}
