//! `parachute exec CONTAINER CMD…`: the seed. Finds the container, connects the person's terminal or streams, and ends as
//! the command ended.

mod args;
mod command;
mod many;
mod target;

use std::ffi::{CString, OsString};
use std::io::IsTerminal as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};

use rustix::termios::Termios;

pub(super) use self::args::Args;
use self::command::NotExecutable;
use self::target::{Found, Where};
use crate::enter::session::{Namespace, Session, SessionPlan, Stdio, Stream, User};
use crate::exec::relay::{self, Signals};
use crate::exec::status::{self, FAILED};
use crate::exec::terminal::Terminal;

/// Exit status: see `parachute exec --help`.
pub(super) fn run(args: Args) -> ExitCode {
    let raw: Vec<OsString> = std::env::args_os().collect();
    let args = match args.settled(&raw) {
        Ok(args) => args,
        Err(error) => return super::usage_error(&error),
    };
    match exec(&args) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            super::say(&super::told(&error));
            ExitCode::from(FAILED)
        }
    }
}

fn exec(args: &Args) -> anyhow::Result<u8> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "entering containers is for root alone: run this with sudo"
    );
    let what = match What::of(args) {
        Ok(what) => what,
        Err(Cannot::Execute(error)) => {
            super::say(&error.message);
            return Ok(error.status);
        }
        Err(Cannot::Other(error)) => return Err(error),
    };
    let place = Where { run_directory: &args.run_directory, config: args.config.config_file.as_deref() };
    if args.all {
        return many::run(args, &what, &place);
    }
    let found = match (&args.container, args.pid) {
        (_, Some(pid)) => target::by_pid(pid)?,
        (Some(container), None) => target::one(container, &place)?,
        (None, None) => bail!("name a container"),
    };
    let terminal = (!args.no_tty && std::io::stdin().is_terminal() && std::io::stdout().is_terminal())
        .then(Terminal::open)
        .transpose()
        .context("reading the terminal's settings")?;
    let stdio = match &terminal {
        Some(terminal) => {
            let stderr = std::io::stderr();
            let elsewhere =
                (!stderr.is_terminal()).then(|| stderr.as_fd().try_clone_to_owned()).transpose()?;
            Stdio::Terminal(terminal.size().context("reading the terminal's size")?, elsewhere)
        }
        None => streams()?,
    };
    let direct = match &stdio {
        Stdio::Terminal(..) => [false; 2],
        Stdio::Streams([stdin, stdout, _]) => [stdin, stdout].map(|one| matches!(one, Stream::Direct(_))),
    };
    let restore = terminal.as_ref().map(Terminal::backup).transpose()?;
    let signals = Signals::block().context("taking signals")?;
    let session = Session::start(what.plan(args, found, stdio, restore))?;
    let [stdin, stdout] = direct;
    let_go(stdin, stdout)?;
    let end = relay::run(session, &signals, terminal.as_ref())?;
    drop(terminal);
    if let Some(told) =
        status::told(&end, &what.argv.first().map(|name| name.to_string_lossy()).unwrap_or_default())
    {
        super::say(&told);
    }
    Ok(status::exit_status(&end))
}

/// A stream that is no terminal goes to the command as it is; a terminal is relayed.
fn streams() -> anyhow::Result<Stdio> {
    fn one(stream: &(impl AsFd + std::io::IsTerminal)) -> std::io::Result<Stream> {
        if stream.is_terminal() {
            return Ok(Stream::Relayed);
        }
        stream.as_fd().try_clone_to_owned().map(Stream::Direct)
    }
    Ok(Stdio::Streams([one(&std::io::stdin())?, one(&std::io::stdout())?, one(&std::io::stderr())?]))
}

/// What the command alone reads and writes is closed here, so that both ends of a pipe see when it does.
fn let_go(stdin: bool, stdout: bool) -> anyhow::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").context("/dev/null")?;
    if stdin {
        rustix::stdio::dup2_stdin(&null)?;
    }
    if stdout {
        rustix::stdio::dup2_stdout(&null)?;
    }
    Ok(())
}

/// Why there is nothing to start.
enum Cannot {
    Execute(NotExecutable),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Cannot {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// What is to be run, the same in every container.
#[derive(Debug)]
struct What {
    programs: Vec<CString>,
    argv: Vec<CString>,
    environment: Vec<CString>,
    workdir: PathBuf,
    user: Option<User>,
    namespaces: Vec<Namespace>,
}

impl What {
    fn of(args: &Args) -> Result<Self, Cannot> {
        let namespaces: Vec<Namespace> = args.namespaces.iter().copied().map(Namespace::from).collect();
        let in_container = namespaces.contains(&Namespace::Mnt);
        // A folder that was removed while a shell stands in it has no name.
        let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let name = args.words.first().context("no command")?;
        let programs = if in_container {
            command::candidates(name)
        } else {
            vec![command::program(name, std::env::var_os("PATH").as_deref(), &cwd).map_err(Cannot::Execute)?]
        };
        let workdir = match &args.workdir {
            Some(folder) if in_container => PathBuf::from("/").join(folder),
            Some(folder) => {
                let folder = cwd.join(folder);
                if !folder.is_dir() {
                    return Err(anyhow::anyhow!(
                        "--workdir {}: no such folder on this host",
                        folder.display()
                    )
                    .into());
                }
                folder
            }
            None if in_container => PathBuf::from("/"),
            None => cwd,
        };
        let (user, home) = args.user.as_deref().map(command::user).transpose()?.unzip();
        let environment = command::environment(std::env::vars_os(), &args.env, home.flatten().as_ref())?;
        let text = |text: OsString| CString::new(text.into_vec()).context("a NUL byte cannot be passed on");
        Ok(Self {
            programs: programs.into_iter().map(|path| text(path.into())).collect::<Result<_, _>>()?,
            argv: args.words.iter().cloned().map(text).collect::<Result<_, _>>()?,
            environment,
            workdir,
            user,
            namespaces,
        })
    }

    fn plan(
        &self,
        args: &Args,
        found: Found,
        stdio: Stdio,
        restore: Option<(OwnedFd, Termios)>,
    ) -> SessionPlan {
        SessionPlan {
            of_host: found.is_of_host(),
            target: found.pidfd,
            namespaces: self.namespaces.clone(),
            programs: self.programs.clone(),
            argv: self.argv.clone(),
            environment: self.environment.clone(),
            workdir: self.workdir.clone(),
            user: self.user.clone(),
            fresh_sys: !args.no_sys,
            timeout: args.timeout,
            allow_unsafe_target: args.allow_unsafe_target,
            run_directory: args.run_directory.path().to_owned(),
            stdio,
            restore,
        }
    }
}
