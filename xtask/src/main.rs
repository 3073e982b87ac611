//! The project's own tasks, one file per verb.

mod codegen;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own tasks")]
enum Task {
    /// Make the committed gRPC code from the .proto files
    Codegen {
        /// Only tell whether the committed code is up to date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Codegen { check } => codegen::run(check),
    }
}
