//! The program: reads the command line, does it, and turns an error into one line and an exit status (1; clap's own is 2).

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match parachute::cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("parachute: {error:#}");
            ExitCode::FAILURE
        }
    }
}
