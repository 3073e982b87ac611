//! One command in many containers, side by side: so many at once, one thread, one `poll`. What is printed of it, and how,
//! is `report`'s matter.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::relay::{DRAIN, GRACE, Signals, asks_to_end, is_stuck};
use super::report::Report;
use crate::enter::EnterError;
use crate::enter::session::Session;
use crate::model::End;

/// Commands at the same time: what they wait for is mostly the kernel, and a node has few processors.
pub const AT_ONCE: usize = 16;
/// How one of them went.
#[derive(Debug)]
pub enum Outcome {
    Ended(End),
    /// It could not be started, for this reason.
    Failed(String),
    /// A signal came first.
    NotRun,
}

/// Starts a command. The person's streams are none of its: input is empty, output is relayed.
pub type Start<'a> = Box<dyn FnOnce() -> Result<Session, EnterError> + 'a>;

struct Running {
    number: usize,
    session: Session,
    /// Output and error, until their ends.
    streams: [Option<OwnedFd>; 2],
    started: Instant,
    /// How it ended, and when.
    end: Option<(Outcome, Instant)>,
}

/// Runs all of them, in the order of the report's labels; true if every one ended with 0.
pub fn run(jobs: Vec<Start<'_>>, signals: &Signals, report: &mut Report) -> bool {
    let mut waiting = jobs.into_iter().enumerate();
    let mut running: Vec<Running> = Vec::new();
    let mut stopping = false;
    let mut kill_at: Option<Instant> = None;
    let mut ended_by_force = false;
    loop {
        while running.len() < AT_ONCE {
            let Some((number, start)) = waiting.next() else { break };
            if stopping {
                report.done(number, &Outcome::NotRun, Duration::ZERO);
                continue;
            }
            let started = Instant::now();
            match start() {
                Ok(mut session) => {
                    let streams = [session.stdout.take(), session.stderr.take()];
                    running.push(Running { number, session, streams, started, end: None });
                }
                Err(error) => report.done(number, &Outcome::Failed(error.to_string()), started.elapsed()),
            }
        }
        if running.is_empty() && (report.is_written() || ended_by_force) {
            break;
        }
        report.progress(running.iter().map(|one| one.number));
        wait(&mut running, signals, report, kill_at);
        for signal in signals.read() {
            if matches!(signal, Signal::WINCH) {
                continue;
            }
            for one in &running {
                one.session.signal(signal);
            }
            if matches!(signal, Signal::TERM | Signal::HUP) || (stopping && signal == Signal::INT) {
                kill_at.get_or_insert(Instant::now() + GRACE);
            }
            stopping |= asks_to_end(signal);
        }
        if kill_at.is_some_and(|at| at <= Instant::now()) {
            for one in &mut running {
                one.session.cancel();
            }
            kill_at = None;
            ended_by_force = true;
        }
        running.retain_mut(|one| {
            if one.end.is_none() {
                one.end = match one.session.end() {
                    Ok(None) => None,
                    Ok(Some(end)) => Some((Outcome::Ended(end), Instant::now())),
                    Err(error) => Some((Outcome::Failed(error.to_string()), Instant::now())),
                };
            }
            let Some((outcome, at)) = &one.end else { return true };
            // Every stream comes to its end as soon as it is read, unless something of it is stuck in the kernel. A reader
            // of ours that is slow is waited for, but not by who wants an end.
            let is_read = one.streams.iter().all(Option::is_none);
            let given_up = (is_held(outcome) && at.elapsed() >= DRAIN) || ended_by_force;
            if !is_read && !given_up {
                return true;
            }
            report.done(one.number, outcome, at.duration_since(one.started));
            false
        });
    }
    report.finish()
}

/// Whether something may hold its streams open though it has ended.
fn is_held(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Ended(end) if !is_stuck(end))
}

/// Until something can be done; reads what there is to read and writes what can be written.
fn wait(running: &mut [Running], signals: &Signals, report: &mut Report, kill_at: Option<Instant>) {
    let held = running.iter().filter_map(|one| one.end.as_ref()).filter(|(outcome, _)| is_held(outcome));
    let drained = held.map(|(_, at)| *at + DRAIN);
    let timeout = drained
        .chain(kill_at)
        .min()
        .map(|at| at.saturating_duration_since(Instant::now()))
        .and_then(|left| Timespec::try_from(left).ok());
    let room = report.has_room();
    let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    for one in running.iter() {
        let session = one.end.is_none().then(|| one.session.watched());
        let streams = one.streams.iter().flatten().map(|fd| fd.as_fd()).filter(|_| room);
        fds.extend(session.into_iter().chain(streams).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    }
    let outlets = report.watched();
    fds.extend(outlets.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::OUT)));
    // EINTR is as good as nothing having happened.
    let _ = poll(&mut fds, timeout.as_ref());
    drop((fds, outlets));
    report.write();
    if room {
        for one in running.iter_mut() {
            for stream in 0..one.streams.len() {
                read(one, stream, report);
            }
        }
    }
}

/// Reads once what a stream has; its end takes it away.
fn read(one: &mut Running, stream: usize, report: &mut Report) {
    let Some(slot) = one.streams.get_mut(stream) else { return };
    let Some(fd) = slot else { return };
    let mut fds = [PollFd::new(&*fd, PollFlags::IN)];
    if !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..)) {
        return;
    }
    let mut piece = [0; 16 * 1024];
    match rustix::io::read(fd, &mut piece) {
        Ok(0) | Err(rustix::io::Errno::IO) => *slot = None,
        Ok(got) => report.output(one.number, stream, piece.get(..got).unwrap_or_default()),
        Err(_) => {}
    }
}
