//! The project's own tasks, one file per verb.

mod arm64;
mod bench;
mod chart;
mod codegen;
mod dashboards;
mod deb;
mod demo;
mod dist;
mod fuzz;
mod image;
mod picture;
mod progress;
mod setup;
mod simulate;
mod test;
mod vm;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's own tasks")]
enum Task {
    /// Show the agent at work on real pods of a private containerd; needs root, sets everything up by itself
    Demo {
        /// End by itself after the first complete round of probes
        #[arg(long)]
        once: bool,
    },
    /// Set up and run every test; needs root
    Test,
    /// Measure what everything costs, and write docs/benchmarks.md; needs root
    Bench {
        /// Flags of the program that measures: --quick, --only SECTION, --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// A node of many fake pods with the real agent, and what many such nodes make; see docs/scaling.md; needs root
    Simulate {
        /// Pods on the node
        #[arg(long, default_value_t = 1000)]
        pods: usize,
        /// Probes that run in each, 1 to 4
        #[arg(long, default_value_t = 3)]
        probes: usize,
        /// Pods of the node that are replaced in an hour
        #[arg(long, default_value_t = 100)]
        churn: usize,
        /// Alerts in a day that each name one pod of the node
        #[arg(long, default_value_t = 50)]
        alerts: usize,
        /// limits.queued_runs of the agent
        #[arg(long, default_value_t = 10_000)]
        queue: usize,
        /// Nodes like it
        #[arg(long, default_value_t = 10_000)]
        nodes: usize,
    },
    /// Build dist/parachute, the program as it is shipped: static, stripped
    Dist,
    /// Build dist/parachute_VERSION_amd64.deb, the Debian package
    Deb {
        /// Of the dist/parachute that is there
        #[arg(long)]
        no_build: bool,
    },
    /// Build dist/parachute-image.tar and dist/parachute-image-tools.tar, the container images
    Image {
        /// Of the dist/parachute that is there
        #[arg(long)]
        no_build: bool,
    },
    /// Lint, render and validate the Helm chart, and compare deploy/kubernetes/parachute.yaml with it
    Chart {
        /// Write that file
        #[arg(long)]
        write: bool,
    },
    /// Feed what reads a container's bytes with what libFuzzer makes; see CONTRIBUTING.md
    Fuzz {
        /// One of the files in fuzz/targets; all of them if it is left out
        target: Option<String>,
        /// Executions of each target
        #[arg(long, default_value_t = 100_000)]
        runs: u64,
        /// For so long instead, each target in turn for a minute
        #[arg(long)]
        minutes: Option<u64>,
        /// Then ask promtool about the pages of what was found worth keeping
        #[arg(long)]
        promtool: bool,
    },
    /// Build the agent for 64-bit Arm, and run the unit tests in an emulator; see docs/arm64.md
    Arm64 {
        /// Also start it on an Arm kernel in a virtual machine, which takes some minutes
        #[arg(long)]
        vm: bool,
    },
    /// Run whole-agent tests on other kernels with other container runtimes, in QEMU; needs root
    Vm(vm::Args),
    /// Install what the demo and the tests need
    Setup {
        /// Only tell what is missing, and fail if anything is
        #[arg(long)]
        check: bool,
        /// Install what `cargo xtask arm64` needs, too
        #[arg(long)]
        arm64: bool,
    },
    /// Turn a terminal's text on standard input into an SVG, as docs/demo.svg
    Picture,
    /// Make what is committed and made: gRPC code from the .proto files, Grafana's dashboards
    Codegen {
        /// Only tell whether it is up to date, and check the dashboards
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Demo { once } => demo::run(once),
        Task::Test => test::run(),
        Task::Bench { words } => bench::run(&words),
        Task::Simulate { pods, probes, churn, alerts, queue, nodes } => {
            simulate::run(testbed::Simulated { pods, probes, churn, alerts, queue }, nodes)
        }
        Task::Dist => dist::run(),
        Task::Deb { no_build } => deb::run(no_build),
        Task::Image { no_build } => image::run(no_build),
        Task::Chart { write } => chart::run(write),
        Task::Fuzz { target, runs, minutes, promtool } => {
            fuzz::run(&fuzz::Asked { target, runs, minutes, promtool })
        }
        Task::Vm(args) => vm::run(&args),
        Task::Arm64 { vm } => arm64::run(vm),
        Task::Setup { check, arm64 } => setup::run(check, arm64),
        Task::Picture => picture::run(),
        Task::Codegen { check } => codegen::run(check),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, also where RUST_BACKTRACE is set: what is wrong is the machine's or the change's, not the task's.
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
