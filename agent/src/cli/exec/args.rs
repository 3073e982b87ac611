//! The words of `parachute exec`: clap's structs, and where CONTAINER ends and CMD begins.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser as _, ValueEnum};

use crate::cli::complete;
use crate::cli::run_directory::RunDirectory;
use crate::cli::{Cli, ConfigFile, Verb};
use crate::enter::session::Namespace;
use clap_complete::ArgValueCompleter;

const EXAMPLES: &str = "\
Examples:
  parachute exec web bash
  parachute exec web ss -tanp
  parachute exec cart-0/web ps -ef
  parachute exec shop/cart-0/web bash -c 'ss -s; nstat -az | head -n 5'
  parachute exec --timeout 10s web -- ip -s link
  parachute exec --user nobody --env LC_ALL=C web id
  parachute exec --namespaces net web ip -4 addr
  parachute exec --all --selector namespace=shop ss -s
  parachute exec --all --selector namespace=shop,container=cart -o json nstat -az
  parachute exec --pid $$ uptime

Exit status: the command's own; 128 + n if signal n ended it; 124 after --timeout; 125 if parachute itself failed; 126 if
the command cannot be executed; 127 if it is not there. With --all: 0 if every command ended with 0, else 1.

On SIGTERM and SIGHUP the command gets the signal, and what has not ended 2 s later is killed. Killing parachute exec in any
way ends the command with all that it started.";

/// Run a command of this host in a container: it sees the container's processes and network, and this host's files.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(after_help = EXAMPLES)]
#[command(override_usage = "parachute exec [OPTIONS] CONTAINER CMD [ARGS]...\n       \
                            parachute exec [OPTIONS] --pid PID CMD [ARGS]...\n       \
                            parachute exec [OPTIONS] --all [--selector KEY=VALUE,...] CMD [ARGS]...")]
pub(in crate::cli) struct Args {
    /// Join the namespaces of this process, whatever it is, in place of a container's.
    #[arg(long, value_name = "PID", conflicts_with_all = ["all", "container"])]
    pub(super) pid: Option<u32>,
    /// What the command joins; without mnt it sees this host's files.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "pid,net")]
    pub(super) namespaces: Vec<NamespaceName>,
    /// Set a variable, or pass on the one of this name; may be given several times.
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(super) env: Vec<OsString>,
    /// Folder to start in; without this the one that parachute was started in.
    #[arg(short, long, value_name = "DIR")]
    pub(super) workdir: Option<PathBuf>,
    /// End the command after this time, such as 500ms, 10s, 2m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) timeout: Option<Duration>,
    /// Run as this user of this host, by name or number.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<String>,
    /// Keep this host's /sys in place of a fresh one that shows the container's network.
    #[arg(long)]
    pub(super) no_sys: bool,
    /// Also join a container that could take over the command (SYS_PTRACE, SYS_ADMIN, PERFMON, privileged), or that
    /// runs its own programs (mnt).
    #[arg(long)]
    pub(super) allow_unsafe_target: bool,
    /// Use no terminal of its own even if there is one.
    #[arg(short = 'T', long)]
    pub(super) no_tty: bool,
    /// Run in all containers, or all that --selector matches, side by side and without a terminal.
    #[arg(short, long)]
    pub(super) all: bool,
    /// Which containers, by namespace, pod and container; patterns such as pod=cart-* do.
    #[arg(short = 'l', long, value_name = "KEY=VALUE,...", requires = "all")]
    pub(super) selector: Option<String>,
    /// With --all: each line with its container's name before it, or one JSON document at the end.
    #[arg(short, long, value_name = "FORMAT", requires = "all")]
    pub(super) output: Option<Format>,
    #[command(flatten)]
    pub(super) run_directory: RunDirectory,
    #[command(flatten)]
    pub(super) config: ConfigFile,
    /// A terminal is used where there is one: these are here for the fingers' sake.
    #[arg(short = 'i', long = "interactive", hide = true)]
    pub(super) _interactive: bool,
    #[arg(short = 't', long = "tty", hide = true)]
    pub(super) _tty: bool,
    /// CONTAINER as the first word is the same; see [`Args::settled`].
    #[arg(long, hide = true)]
    pub(super) container: Option<String>,
    /// CONTAINER is a name, POD/NAME, NAMESPACE/POD/NAME, or the first six or more characters of an id; what follows CMD
    /// belongs to CMD.
    #[arg(add = ArgValueCompleter::new(complete::words))]
    #[arg(value_name = "CONTAINER CMD ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) words: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Lines,
    Json,
}

/// The values of `--namespaces`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum NamespaceName {
    Pid,
    Net,
    Ipc,
    Uts,
    Cgroup,
    User,
    Mnt,
}

impl From<NamespaceName> for Namespace {
    fn from(name: NamespaceName) -> Self {
        match name {
            NamespaceName::Pid => Self::Pid,
            NamespaceName::Net => Self::Net,
            NamespaceName::Ipc => Self::Ipc,
            NamespaceName::Uts => Self::Uts,
            NamespaceName::Cgroup => Self::Cgroup,
            NamespaceName::User => Self::User,
            NamespaceName::Mnt => Self::Mnt,
        }
    }
}

impl Args {
    /// Whether the next word is CONTAINER.
    pub(in crate::cli) fn wants_container(&self) -> bool {
        self.words.is_empty() && self.pid.is_none() && !self.all && self.container.is_none()
    }

    /// Whether the next word is CMD.
    pub(in crate::cli) fn wants_command(&self) -> bool {
        let container = usize::from(self.pid.is_none() && !self.all && self.container.is_none());
        self.words.iter().filter(|word| *word != "--").count() == container
    }

    /// Takes CONTAINER and what stands between it and CMD out of the words, so that `words` is CMD with its arguments.
    /// `raw` are the words of the whole command line.
    ///
    /// # Errors
    /// clap's, for an option that there is not, or words that are missing.
    pub(super) fn settled(mut self, raw: &[OsString]) -> Result<Self, clap::Error> {
        let no_option = |word: &OsString| {
            let word = word.to_string_lossy();
            usage(&format!("there is no option {word}; what belongs to a command stands after it"))
        };
        let is_option = |word: &OsString| {
            let bytes = word.as_encoded_bytes();
            bytes.len() > 1 && bytes.starts_with(b"-") && bytes != b"--"
        };
        if self.pid.is_none() && !self.all && self.container.is_none() {
            if self.words.is_empty() {
                return Err(usage("name a container, or a process by --pid, and a command"));
            }
            let first = self.words.remove(0);
            if is_option(&first) {
                return Err(no_option(&first));
            }
            let Ok(container) = first.into_string() else {
                return Err(usage("the container's name is not UTF-8"));
            };
            // Options between CONTAINER and CMD, as kubectl's users write them: once more, with CONTAINER as an option.
            if self.words.first().is_some_and(is_option) {
                let own = raw.len() - self.words.len() - 1;
                let mut again: Vec<OsString> = raw.get(..own).unwrap_or_default().to_vec();
                again.extend(["--container".into(), container.into()]);
                again.extend(self.words);
                return match Cli::try_parse_from(&again)?.verb {
                    Verb::Exec(args) => args.settled(&again),
                    _ => Err(usage("these words make no sense")),
                };
            }
            self.container = Some(container);
        }
        if self.words.first().is_some_and(|word| word == "--") {
            self.words.remove(0);
        }
        match self.words.first() {
            None => Err(usage("name a command of this host to run")),
            Some(word) if is_option(word) && !raw.contains(&"--".into()) => Err(no_option(word)),
            Some(_) => Ok(self),
        }
    }
}

fn usage(message: &str) -> clap::Error {
    use clap::CommandFactory as _;
    let mut command = Cli::command();
    command.build();
    let exec = command.find_subcommand_mut("exec").map(|exec| exec.clone());
    exec.unwrap_or(command).error(clap::error::ErrorKind::ValueValidation, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Option<String>, Vec<String>, Args), String> {
        let raw: Vec<OsString> =
            ["parachute", "exec"].into_iter().chain(line.split_whitespace()).map(Into::into).collect();
        let Verb::Exec(args) = Cli::try_parse_from(&raw).map_err(|e| e.to_string())?.verb else {
            unreachable!()
        };
        let args = args.settled(&raw).map_err(|e| e.to_string())?;
        let words = args.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        Ok((args.container.clone(), words, args))
    }

    #[test]
    fn what_follows_the_command_belongs_to_it() {
        for (line, container, words) in [
            ("web ls", Some("web"), "ls"),
            ("web ls -l --all --pid 3 -- x", Some("web"), "ls -l --all --pid 3 -- x"),
            ("web -- ls -l", Some("web"), "ls -l"),
            ("-- web ls", Some("web"), "ls"),
            ("-it web bash", Some("web"), "bash"),
            ("web -it -- bash", Some("web"), "bash"),
            ("web --user nobody id -u", Some("web"), "id -u"),
            ("--user nobody web --env A=b --timeout 3s env --help", Some("web"), "env --help"),
            ("--pid 7 ls --all", None, "ls --all"),
            ("--pid 7 -- ls", None, "ls"),
            ("--all -l namespace=shop ss -s", None, "ss -s"),
            ("shop/cart-0/web ps -ef", Some("shop/cart-0/web"), "ps -ef"),
            ("web ./-odd", Some("web"), "./-odd"),
        ] {
            let (got, command, _) = parsed(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!((got.as_deref(), command.join(" ").as_str()), (container, words), "{line}");
        }
        let (_, _, args) = parsed("web --user nobody --namespaces pid,net,uts id").unwrap();
        assert_eq!(args.user.as_deref(), Some("nobody"));
        assert_eq!(args.namespaces, [NamespaceName::Pid, NamespaceName::Net, NamespaceName::Uts]);
    }

    #[test]
    fn wrong_words_are_told() {
        for (line, part) in [
            ("", "name a container"),
            ("web", "name a command"),
            ("web --", "name a command"),
            ("--pid 7", "name a command"),
            ("--pid x ls", "invalid value 'x'"),
            ("--bogus web ls", "no option --bogus"),
            ("web --bogus ls", "no option --bogus"),
            ("--namespaces pid,time web ls", "invalid value 'time'"),
            ("--timeout soon web ls", "--timeout"),
            ("--selector a=b web ls", "--all"),
            ("-o json web ls", "--all"),
            ("--pid 3 --all ls", "cannot be used with"),
        ] {
            let error = parsed(line).err().unwrap_or_else(|| panic!("{line} was taken"));
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
