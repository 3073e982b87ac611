//! `cargo xtask test`: sets up, builds the program as it is shipped and runs every test of the workspace; ends with how many
//! there were, and with what those that failed said.
//!
//! Tests on real containers, browsers and servers wait for things with deadlines, and a machine that stands still for a while
//! lets one of them go by. So a few that fail are run a second time, alone; what then passes is told as unsteady, with what
//! it said, and does not fail the whole.

mod heard;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, bail};

use self::heard::Heard;
use crate::{deb, dist, image, progress, setup};

/// More than this many failures are no accident.
const MOST_REPEATED: usize = 5;

/// What cargo is asked for, and which of its tests; all if none is named.
struct Asked<'a> {
    packages: &'a [&'a str],
    tests: &'a [&'a str],
}

pub(crate) fn run() -> anyhow::Result<()> {
    setup::ensure("test")?;
    // Of the program as it is shipped, as are the tests of image and package.
    dist::run()?;
    image::make()?;
    deb::for_tests()?;
    eprintln!("running every test ...");
    let mut heard = Heard::default();
    let feature = ["--package", "parachute", "--features", "object-store"];
    let done = [
        Asked { packages: &["--workspace"], tests: &[] },
        // Last, as it puts another build of the agent in the place of the usual one.
        Asked { packages: &[&feature[..], &["--test", "object_store"]].concat(), tests: &[] },
        Asked { packages: &[&feature[..], &["--lib"]].concat(), tests: &["config::", "upload::"] },
    ]
    .map(|asked| run_twice(&asked, &mut heard));
    println!("\n{heard}");
    done.into_iter().collect()
}

/// What failed, if it is little, a second time.
fn run_twice(asked: &Asked, heard: &mut Heard) -> anyhow::Result<()> {
    let before = heard.failed.len();
    let first = run_once(asked, heard);
    let failed = heard.failed.split_off(before);
    if first.is_ok() || failed.is_empty() || failed.len() > MOST_REPEATED {
        heard.failed.extend(failed);
        return first;
    }
    println!("\nonce more, alone: {}", failed.join(" "));
    let words: Vec<&str> = ["--exact"].into_iter().chain(failed.iter().map(String::as_str)).collect();
    let mut again = Heard::default();
    let second = run_once(&Asked { packages: asked.packages, tests: &words }, &mut again);
    heard.repeated(failed, again);
    second
}

fn run_once(asked: &Asked, heard: &mut Heard) -> anyhow::Result<()> {
    let mut cargo = progress::cargo();
    cargo.args(["test", "--locked", "--no-fail-fast"]).args(asked.packages).arg("--").args(asked.tests);
    // What a test says is shown at the end, where there is no room for the way to it.
    cargo.env("RUST_BACKTRACE", "0").stdout(Stdio::piped());
    let mut child = cargo.spawn().with_context(|| progress::starting(&cargo))?;
    let output = child.stdout.take().context("the tests' output is piped")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        heard.add(&line);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo test {} ended with {status}", asked.packages.join(" "));
    }
    Ok(())
}
