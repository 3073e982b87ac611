//! Running commands so that a person sees that something happens, and sees all of it when it fails.

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How often the line on a terminal moves.
const TICK: Duration = Duration::from_millis(200);

/// Runs a command whose output is only of interest if it fails. On a terminal one line counts the seconds; elsewhere one
/// line says that it starts, and one that it is done.
pub(crate) fn quietly(what: &str, command: &mut Command) -> anyhow::Result<()> {
    let output = tempfile::NamedTempFile::new().context("making a file for a command's output")?;
    let start = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    if !terminal {
        eprintln!("{what} ...");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.reopen()?)
        .stderr(output.reopen()?)
        .spawn()
        .with_context(|| starting(command))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if terminal {
            eprint!("\r{what} ... {} s", start.elapsed().as_secs());
            // A lost tick of a progress line is no failure.
            let _ = std::io::stderr().flush();
        }
        std::thread::sleep(TICK);
    };
    let lead = if terminal { "\r" } else { "" };
    if status.success() {
        eprintln!("{lead}{what}: done in {:.0?}", start.elapsed());
        return Ok(());
    }
    eprintln!("{lead}{what}: failed with {status}; its output:\n{}", fs::read_to_string(output.path())?);
    bail!("{what}: {} failed", command.get_program().display())
}

/// Runs a command that shows its own progress, as cargo does.
pub(crate) fn openly(what: &str, command: &mut Command) -> anyhow::Result<()> {
    eprintln!("{what} ...");
    let status = command.status().with_context(|| starting(command))?;
    if !status.success() {
        bail!("{what}: {} ended with {status}", command.get_program().display());
    }
    Ok(())
}

pub(crate) fn starting(command: &Command) -> String {
    format!("starting {}", command.get_program().display())
}

/// The cargo that runs this task, hence the toolchain that the project pins.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    cargo
}
