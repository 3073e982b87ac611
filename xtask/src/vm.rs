//! `cargo xtask vm`: the whole-agent tests on other kernels and with other container runtimes, in QEMU's software CPU. Each
//! machine is one of Debian's kernels with one of Debian's suites as its root, with systemd and pure cgroup v2; what is
//! downloaded and made is kept, what a test failed is told and never tried again.

mod cpio;
mod image;
mod jobs;
mod kernel;
mod machine;
mod report;
mod root;

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use std::{env, fs, thread};

use anyhow::{Context as _, bail, ensure};

use self::jobs::Machine;
use self::machine::Progress;
use self::report::Report;
use crate::setup;

/// The repository, and in the machines the same.
const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct Args {
    /// One job on each kernel, with containerd, Podman, Docker and containerd under systemd's driver
    #[arg(long)]
    quick: bool,
    /// Only machines and jobs whose name, such as `6.12/trixie/podman crun`, has this in it; all of them, if several are given
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Not those whose name has this in it
    #[arg(long, value_name = "TEXT")]
    skip: Vec<String>,
    /// Machines that run at once, one processor each
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    machines: u8,
    /// Download kernels and roots again: Debian may have newer ones
    #[arg(long)]
    fresh: bool,
    /// Only make what is kept, for a run without a network
    #[arg(long)]
    prepare: bool,
    /// Write what came of it to docs/kernels.json and the README's table, in the place of the same jobs' older results; a whole
    /// run does that by itself, and forgets all older ones
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    setup::ensure("vm")?;
    let cache = cache()?;
    // Two checkouts, or two terminals, would remove each other's files.
    let _alone = alone(&cache)?;
    for begin in ["new-", "parachute-vm-"] {
        // Of one that was interrupted.
        forget(&cache, begin)?;
    }
    let begun = Instant::now();
    let machines = jobs::machines(args.quick, &args.only, &args.skip);
    let native = if args.quick { Vec::new() } else { report::native(&args.only, &args.skip) };
    ensure!(!machines.is_empty() || !native.is_empty(), "no job has {} in its name", args.only.join(" and "));
    for kernel in kernel::KERNELS.into_iter().filter(|kernel| machines.iter().any(|m| m.kernel == *kernel)) {
        kernel::ready(&cache, kernel, args.fresh)?;
    }
    for root in root::ROOTS.into_iter().filter(|root| machines.iter().any(|m| m.root == *root)) {
        root::ready(&cache, root, args.fresh)?;
    }
    if args.prepare {
        return Ok(());
    }
    let work = tempfile::Builder::new().prefix("parachute-vm-").tempdir_in(&cache)?;
    let project = image::of_project(work.path())?;
    let mut report = Report::begin()?;
    println!("{} machines, {} at a time", machines.len(), args.machines);
    let logs = fs::canonicalize(PROJECT)?.join("target/vm");
    fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
    report.add_native(&native, &logs)?;
    let whole = !args.quick && args.only.is_empty() && args.skip.is_empty();
    let keeps = whole || args.keep;
    let jobs = Progress::new(machines.iter().map(|machine| machine.jobs.len()).sum());
    let waiting = Mutex::new(machines.into_iter().collect::<VecDeque<Machine>>());
    let done = Mutex::new(&mut report);
    thread::scope(|scope| {
        for _ in 0..args.machines {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(machine) = next else { return };
                    let outcome = machine::run(&machine, &cache, &project, work.path(), &logs, &jobs);
                    let mut report = done.lock().unwrap_or_else(PoisonError::into_inner);
                    report.add(machine, outcome);
                    // At once: it is an hour's work, and may be interrupted.
                    if let Err(error) = keeps.then(|| report.keep(false)).transpose() {
                        eprintln!("{error:#}");
                    }
                }
            });
        }
    });
    println!("{}\n{} s in all; logs: {}", report, begun.elapsed().as_secs(), logs.display());
    if keeps {
        report.keep(whole)?;
        Report::tell()?;
    }
    match report.failures() {
        0 => Ok(()),
        failed => bail!("{failed} jobs failed"),
    }
}

/// Where kernels and roots are kept, for all checkouts of this user's.
fn cache() -> anyhow::Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let cache = base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("parachute/vm");
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    Ok(cache)
}

/// Waits for another run of this user's.
fn alone(cache: &Path) -> anyhow::Result<File> {
    let path = cache.join("lock");
    let lock = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    if lock.try_lock().is_err() {
        println!("another run of cargo xtask vm is under way; waiting for its end ...");
        lock.lock()?;
    }
    Ok(lock)
}

/// Removes what is kept under names that begin so.
fn forget(cache: &Path, begin: &str) -> anyhow::Result<()> {
    for entry in fs::read_dir(cache)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(begin) {
            let path = entry.path();
            let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone.with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// A name for what these texts make: other texts, another name.
fn key(texts: &[&str]) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    texts.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
