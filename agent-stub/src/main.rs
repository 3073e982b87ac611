//! `parachute-stub`: the program that enters containers. It is carried by the agent, started by a launcher with its socket
//! as standard input, and for nobody else.

use std::process::ExitCode;

fn main() -> ExitCode {
    if agent_stub::serve().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
