//! The command line: clap's structs, then one file per verb. Errors get their context here and are printed by `main`.

mod agent;
mod ask;
mod captures;
mod check_config;
pub mod complete;
mod doctor;
mod exec;
mod explain;
mod launcher;
mod logging;
mod man;
mod own_folder;
mod ps;
mod rows;
mod run;
mod run_directory;
mod storage;
mod survey;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Runs host commands inside containers at the moment of the alert, and turns their output into Prometheus metrics.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Watch for containers, run the configured probes, serve /metrics.
    Agent(agent::Args),
    /// List the containers that the running agent knows; without an agent, look for them.
    #[command(visible_alias = "containers")]
    Ps(ps::Args),
    Exec(exec::Args),
    Captures(captures::Args),
    /// Run one configured probe in one container, by the running agent if it has the same configuration.
    Run(run::Args),
    /// Check a configuration file and show every mistake with its line.
    CheckConfig(check_config::Args),
    /// Say what this host offers, and run each configured command once in a container of its own.
    Doctor(doctor::Args),
    /// Print the JSON schema of the configuration file, for editors.
    Schema,
    /// Print a script that completes verbs, options and containers' names in a shell.
    Completions(complete::Args),
    /// Print a man page.
    Man(man::Args),
    /// The privileged helper that the agent starts; not for people.
    #[command(hide = true)]
    Launcher(launcher::Args),
    /// The container of the doctor's; not for people.
    #[command(hide = true)]
    Scratch(doctor::ScratchArgs),
}

/// Which configuration is read.
#[derive(Clone, Debug, clap::Args)]
struct ConfigFile {
    /// Configuration file; without it /etc/parachute/parachute.yml if that exists, else a built-in one.
    #[arg(long = "config.file", value_name = "FILE")]
    config_file: Option<PathBuf>,
}

/// What logs look like; they go to standard error.
#[derive(Clone, Debug, clap::Args)]
struct Logging {
    /// error, warn, info, debug or trace; per module as in `info,parachute::probes=debug`.
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    level: String,
    /// Pairs of key=value, or a JSON object, per line.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Logfmt,
    Json,
}

impl LogFormat {
    /// As the flag has it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Logfmt => "logfmt",
            Self::Json => "json",
        }
    }
}

impl Cli {
    /// The command line as it is.
    ///
    /// # Errors
    /// clap's, for help as well.
    pub fn read() -> Result<Self, clap::Error> {
        let words: Vec<OsString> = std::env::args_os().collect();
        // To build the grammar of all verbs takes as long as to start a small program. Scripts start these two by the hundred;
        // what is wrong with their words, or asks for help, is left to the whole.
        let verb = match words.get(1).and_then(|verb| verb.to_str()) {
            Some("exec") => alone(&words).map(Verb::Exec),
            Some("run") => alone(&words).map(Verb::Run),
            _ => None,
        };
        verb.map_or_else(|| Self::try_parse_from(words), |verb| Ok(Self { verb }))
    }

    /// Runs the verb to its end.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        crate::enter::see_all_cgroups();
        match self.verb {
            Verb::Agent(args) => agent::run(args),
            Verb::Ps(args) => ps::run(&args),
            Verb::Exec(args) => Ok(exec::run(args)),
            Verb::Captures(args) => captures::run(args),
            Verb::Run(args) => run::run(&args),
            Verb::CheckConfig(args) => check_config::run(args),
            Verb::Schema => {
                print(&crate::config::json_schema())?;
                Ok(ExitCode::SUCCESS)
            }
            Verb::Completions(args) => complete::run(&args),
            Verb::Man(args) => man::run(&args),
            Verb::Doctor(args) => doctor::run(args),
            Verb::Launcher(args) => launcher::run(args),
            Verb::Scratch(args) => doctor::scratch(&args),
        }
    }
}

/// One verb's options, by that verb's grammar.
fn alone<Verb: clap::Args>(words: &[OsString]) -> Option<Verb> {
    let grammar = Verb::augment_args(clap::Command::new("parachute"));
    let found = grammar.try_get_matches_from(words.iter().skip(1)).ok()?;
    Verb::from_arg_matches(&found).ok()
}

/// clap's message, and the exit status that it has; `exec` has its own for all that is not the command's.
pub fn usage_error(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let is_exec = std::env::args_os().nth(1).is_some_and(|verb| verb == "exec");
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_exec => ExitCode::from(crate::exec::status::FAILED),
        code => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

/// The error and its causes on one line. The rooms' messages hold their causes' text already: it is not said twice.
pub fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| {
        if told.is_empty() {
            cause
        } else if told.ends_with(&cause) {
            told
        } else {
            format!("{told}: {cause}")
        }
    })
}

/// A line on standard error for the person. One who does not read it has no use for a panic either.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "parachute: {text}");
}

/// To standard output; a reader that has left (`| head`) is an error of its own kind, which `main` says nothing about.
fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
