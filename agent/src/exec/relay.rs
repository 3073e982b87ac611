//! The foreground of one command: moves bytes between the person's terminal and the command's, passes signals on, and
//! waits for the end. One thread, one `poll`. Streams that are no terminal are the command's own and are not seen here.

mod pump;
mod signals;

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use rustix::termios::tcsetwinsize;

use self::pump::Pump;
pub use self::signals::Signals;
use super::terminal::Terminal;
use crate::enter::EnterError;
use crate::enter::session::Session;
use crate::model::End;

/// What a command may take to end by itself after SIGTERM or SIGHUP, or after its terminal has gone.
pub const GRACE: Duration = Duration::from_secs(2);
/// For a stream that a process which is stuck in the kernel still holds open.
pub(super) const DRAIN: Duration = Duration::from_secs(1);

/// Relays until the command has ended. `terminal` is the person's, if the command has a pseudo-terminal.
pub fn run(mut session: Session, signals: &Signals, terminal: Option<&Terminal>) -> Result<End, EnterError> {
    let system = |call| move |source: io::Error| EnterError::System { call, source };
    let master = session.terminal.take();
    let mut pumps = pumps(&mut session, master.as_ref()).map_err(system("preparing the streams"))?;
    if let Some(terminal) = terminal {
        terminal.make_raw().map_err(system("setting the terminal"))?;
    }
    let mut kill_at = None;
    let end = loop {
        wait(Some(&session), signals, &mut pumps, kill_at);
        for pump in &mut pumps {
            pump.turn();
        }
        if let Some(end) = session.end()? {
            break end;
        }
        for signal in signals.read() {
            match (signal, terminal, &master) {
                (Signal::WINCH, Some(terminal), Some(master)) => {
                    // A size that cannot be read is the one that it was.
                    let _ = terminal.size().map(|size| tcsetwinsize(master, size));
                }
                (Signal::WINCH, ..) => {}
                (Signal::CONT, Some(terminal), _) => {
                    // Who stopped this process has set the terminal for the shell.
                    let _ = terminal.make_raw();
                }
                (signal, ..) => {
                    session.signal(signal);
                    if matches!(signal, Signal::TERM | Signal::HUP) {
                        kill_at.get_or_insert(Instant::now() + GRACE);
                    }
                }
            }
        }
        let hung_up = terminal.is_some() && pumps.iter().any(|pump| pump.is_over() && !pump.from_command);
        if hung_up && kill_at.is_none() {
            session.signal(Signal::HUP);
            kill_at = Some(Instant::now() + GRACE);
        }
        if kill_at.is_some_and(|at| at <= Instant::now()) {
            session.cancel();
            // What is stuck in the kernel is told by the guard.
            kill_at = None;
        }
    };
    pumps.retain(|pump| pump.from_command);
    // Nobody writes any more, so that every stream comes to its end as soon as it is read: a slow reader loses nothing.
    let until = is_stuck(&end).then(|| Instant::now() + DRAIN);
    while pumps.iter().any(|pump| !pump.is_over()) && until.is_none_or(|until| Instant::now() < until) {
        wait(None, signals, &mut pumps, until);
        for pump in &mut pumps {
            pump.turn();
        }
        if signals.read().iter().any(|signal| asks_to_end(*signal)) {
            break;
        }
    }
    for pump in &mut pumps {
        pump.finish();
    }
    Ok(end)
}

/// Something of the command is still there.
pub(super) fn is_stuck(end: &End) -> bool {
    matches!(end, End::TimedOut { stuck: true } | End::Cancelled { stuck: true })
}

/// What ends a program that only writes what it still has.
pub(super) fn asks_to_end(signal: Signal) -> bool {
    matches!(signal, Signal::TERM | Signal::HUP | Signal::INT | Signal::QUIT)
}

/// Which streams are moved: those that are in the session.
fn pumps(session: &mut Session, master: Option<&OwnedFd>) -> io::Result<Vec<Pump>> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let mut pumps = Vec::new();
    if let Some(master) = master {
        rustix::io::ioctl_fionbio(master, true)?;
        pumps.push(Pump::new(stdin.as_fd().try_clone_to_owned()?, master.try_clone()?, false, false));
        pumps.push(Pump::new(master.try_clone()?, stdout.as_fd().try_clone_to_owned()?, true, true));
    }
    if let Some(to) = session.stdin.take() {
        rustix::io::ioctl_fionbio(&to, true)?;
        pumps.push(Pump::new(stdin.as_fd().try_clone_to_owned()?, to, false, false));
    }
    if let Some(from) = session.stdout.take() {
        pumps.push(Pump::new(from, stdout.as_fd().try_clone_to_owned()?, true, stdout.is_terminal()));
    }
    if let Some(from) = session.stderr.take() {
        pumps.push(Pump::new(from, stderr.as_fd().try_clone_to_owned()?, true, stderr.is_terminal()));
    }
    Ok(pumps)
}

/// Until something can be done, or until `deadline`.
fn wait(session: Option<&Session>, signals: &Signals, pumps: &mut [Pump], deadline: Option<Instant>) {
    let timeout = deadline
        .map(|at| at.saturating_duration_since(Instant::now()))
        .and_then(|left| Timespec::try_from(left).ok());
    let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    fds.extend(session.map(|session| PollFd::from_borrowed_fd(session.watched(), PollFlags::IN)));
    let first = fds.len();
    let watched: Vec<_> = pumps.iter().map(Pump::watched).collect();
    fds.extend(watched.iter().flatten().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
    // EINTR is as good as nothing having happened.
    let _ = poll(&mut fds, timeout.as_ref());
    let mut events = fds.iter().skip(first).map(PollFd::revents);
    let events: Vec<Vec<PollFlags>> =
        watched.iter().map(|one| one.iter().filter_map(|_| events.next()).collect()).collect();
    drop((fds, watched));
    for (pump, events) in pumps.iter_mut().zip(events) {
        pump.note(&events);
    }
}
