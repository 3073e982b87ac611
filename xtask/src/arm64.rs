//! `cargo xtask arm64`: builds the agent with its eBPF objects and its stub for 64-bit Arm, and runs the unit tests in qemu-user.
//! It installs nothing: `cargo xtask setup --arm64` does.
//!
//! An emulator of programs has this machine's kernel below it, but not all of its system calls, so some tests cannot pass
//! there. They are listed here with the reason, each run says so, and `cargo xtask arm64 --vm` runs those that need a call on an
//! Arm kernel.

mod vm;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use crate::{progress, setup};

pub(crate) const TARGET: &str = "aarch64-unknown-linux-gnu";
pub(crate) const LINKER: &str = "aarch64-linux-gnu-gcc";
/// Where Debian's cross compiler has the C library of the other machine.
pub(crate) const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// Crates with unit tests that are part of what is shipped.
const PACKAGES: [&str; 3] = ["parachute", "agent-stub", "agent-ebpf"];
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// proptest's cases of each property: an emulated machine takes minutes for the usual 256.
const CASES: &str = "16";

const NO_CLONE3: &str = "clone3(2) is not emulated";
const NO_BPF: &str = "bpf(2) is not emulated";
const NO_OPENAT2: &str = "openat2(2) is not emulated";
const NO_MOUNT_API: &str = "open_tree(2) and move_mount(2) are not emulated";
const NO_SECCOMP: &str = "seccomp(2) is not emulated";
const NO_HANDLER: &str = "it starts itself again, and the kernel below starts no Arm programs";
const NO_PAGES: &str = "which pages of a program are resident is the emulator's";
/// Not for the virtual machine either: both are some twenty times slower than the machine below them.
const TOO_SLOW: &str = "it has a deadline, or a bound of work, that an emulated machine does not keep";

/// Tests that cannot pass in qemu-user, and why.
const NOT_EMULATED: &[(&str, &str)] = &[
    ("calls::tests::a_process_in_this_ones_memory_ends_before_this_one_goes_on", NO_CLONE3),
    ("config::root::tests::a_look_below_another_root_follows_its_links_and_not_ours", NO_OPENAT2),
    ("config::root::tests::the_first_process_of_another_pid_namespace_is_not_the_hosts", NO_HANDLER),
    ("containers::registry::tests::a_container_goes_on_when_what_was_no_init_ends", NO_BPF),
    ("containers::registry::tests::a_program_that_is_called_like_runcs_stage_is_found_all_the_same", NO_BPF),
    ("containers::registry::tests::a_services_life_is_not_ended_by_a_helper_that_comes_and_goes", NO_BPF),
    ("containers::registry::tests::a_users_cgroup_holds_no_id_against_a_runtimes", NO_BPF),
    ("containers::registry::tests::the_init_is_found_among_many_processes_that_came_before_it", NO_BPF),
    ("containers::registry::tests::what_could_not_be_looked_at_is_found_once_there_is_a_launcher", NO_BPF),
    ("containers::registry::tests::what_follows_a_process_that_nobody_has_seen_is_found", NO_BPF),
    ("detect::hierarchy::tests::a_start_is_seen_where_there_is_cgroup_v1_only", NO_BPF),
    ("enter::capabilities::tests::options_that_a_kernel_does_not_know_are_lacking", NO_SECCOMP),
    ("enter::capabilities::tests::what_a_kernel_does_not_know_is_lacking_and_nothing_else_is", NO_SECCOMP),
    (
        "enter::launcher::spawner::tests::a_kernel_that_does_not_know_of_executable_files_in_memory_has_them_all_the_same",
        NO_SECCOMP,
    ),
    (
        "enter::launcher::template::tests::building_it_changes_neither_the_hosts_mounts_nor_the_working_directory",
        NO_MOUNT_API,
    ),
    ("enter::resident::tests::this_program_goes_on_after_it", NO_PAGES),
    ("captures::tests::many::a_hundred_thousand_are_listed_in_order_and_in_little_memory", TOO_SLOW),
    ("http::tests::slow::who_dribbles_his_body_keeps_nobody_waiting", TOO_SLOW),
    ("http::tests::slow::who_dribbles_his_head_keeps_nobody_waiting", TOO_SLOW),
    ("http::tests::slow::who_says_nothing_keeps_nobody_waiting", TOO_SLOW),
    ("parse::tests::hostile::twenty_thousand_rows_are_cut_and_counted", TOO_SLOW),
    ("peers::tests::a_redirection_is_refused_and_the_token_goes_nowhere_else", TOO_SLOW),
    ("peers::tests::over_tls_only_who_has_the_services_name_is_shown_the_token", TOO_SLOW),
];

pub(crate) fn run(with_vm: bool) -> anyhow::Result<()> {
    setup::check_arm64()?;
    let start = Instant::now();
    // With a test of whole programs, as that has the program itself built with the same features as the tests.
    progress::openly("building for arm64", &mut tests(&["--no-run", "--lib", "--test", "house"]))?;
    let built = start.elapsed();
    all_exist()?;
    eprintln!("running the unit tests in qemu-aarch64; not these, which cannot pass there:");
    for (name, why) in NOT_EMULATED {
        eprintln!("  {name}: {why}");
    }
    let skipped = NOT_EMULATED.iter().flat_map(|(name, _)| ["--skip", name]);
    let words: Vec<_> = ["--no-fail-fast", "--lib", "--", "--exact"].into_iter().chain(skipped).collect();
    let tested = progress::openly("unit tests", &mut tests(&words));
    eprintln!(
        "arm64: built in {built:.0?}, all in {:.0?}; {} tests were left out, for the reasons above",
        start.elapsed(),
        NOT_EMULATED.len()
    );
    tested?;
    if !with_vm {
        return Ok(());
    }
    // The machine has no cgroup v1, which one of them is about, and no program but busybox, which cannot be called otherwise.
    let lacks = ["_cgroup_v1_only", "_called_like_runcs_stage_is_found_all_the_same"];
    let for_kernel = NOT_EMULATED
        .iter()
        .filter(|(name, why)| *why != TOO_SLOW && !lacks.iter().any(|end| name.ends_with(end)));
    let names: Vec<_> = for_kernel.map(|(name, _)| *name).collect();
    vm::run(&executables()?, &names)
}

/// A list of exceptions that names what is not there would hide what it is meant for.
fn all_exist() -> anyhow::Result<()> {
    let text = said(&mut tests(&["--lib", "--", "--list"]))?.0;
    let known: Vec<_> = text.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    for (name, _) in NOT_EMULATED {
        if !known.contains(name) {
            bail!("xtask/src/arm64.rs leaves out {name}, which is no test");
        }
    }
    Ok(())
}

/// The program and the binaries of the unit tests.
fn executables() -> anyhow::Result<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    // As cargo tells people: `Executable unittests src/lib.rs (PATH)`.
    let text = said(&mut tests(&["--no-run", "--lib"]))?.1;
    let found = text.lines().filter_map(|line| Some(line.trim().strip_suffix(')')?.rsplit_once('(')?.1));
    let program = root.join("target").join(TARGET).join("debug/parachute");
    Ok(std::iter::once(program).chain(found.map(|path| root.join(path))).collect())
}

fn said(command: &mut Command) -> anyhow::Result<(String, String)> {
    let output = command.output().with_context(|| progress::starting(command))?;
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(output.status.success(), "{}: {}\n{stderr}", progress::starting(command), output.status);
    Ok((stdout, stderr))
}

/// `cargo test` for the other machine: without debug information, which takes three quarters of the disk.
fn tests(words: &[&str]) -> Command {
    let mut cargo = progress::cargo();
    let variable = format!("CARGO_TARGET_{}", TARGET.to_uppercase().replace('-', "_"));
    cargo
        .args(["test", "--locked", "--target", TARGET])
        .args(PACKAGES.iter().flat_map(|package| ["--package", package]))
        .args(words)
        .env(format!("{variable}_LINKER"), LINKER)
        .env(format!("{variable}_RUNNER"), format!("qemu-aarch64 -L {LIBRARIES}"))
        .env("CARGO_PROFILE_DEV_DEBUG", "none")
        .env("CARGO_TERM_COLOR", "never")
        .env("PROPTEST_CASES", CASES);
    cargo
}
