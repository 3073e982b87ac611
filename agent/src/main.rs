//! The program: reads the command line, does it, and turns an error into one line and an exit status (1; clap's own is 2).

use std::process::ExitCode;

use parachute::cli;

fn main() -> ExitCode {
    cli::complete::answer();
    let cli = match cli::Cli::read() {
        Ok(cli) => cli,
        Err(error) => return cli::usage_error(&error),
    };
    match cli.run() {
        Ok(code) => code,
        // Whoever read the output has had enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            cli::say(&cli::told(&error));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.into_iter().any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
