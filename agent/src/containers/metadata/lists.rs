//! Who can be asked, and the lists that they are asked for at the start and after a failure, each by a task of its own: who
//! does not answer keeps nobody from asking the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Counters;
use super::cri::Described;
use super::source::{AskError, Source};

/// Between tries after a failure: doubled from the first to the second.
pub(super) const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Until a socket is asked again that speaks no CRI.
const LASTING_BACKOFF: Duration = Duration::from_mins(10);
/// A list is two calls, each with a deadline of 2 s; it has come or failed after this.
const LONGEST: Duration = Duration::from_secs(5);

/// What can be asked of one.
enum State {
    /// Nothing: one of the usual places, with no socket there yet.
    Absent,
    /// Nothing until then; and then a list first. So it is at the start, and after a failure.
    Failing(Instant),
    /// Nothing until its list has come, which it has or has failed by then.
    Listing(Instant),
    /// For a container.
    Answering,
}

pub(super) struct Asked {
    pub(super) source: Arc<Source>,
    state: State,
    backoff: Duration,
}

impl Asked {
    pub(super) fn fail(&mut self, error: &AskError) {
        if self.backoff == BACKOFF.0 {
            tracing::warn!(%error, "its containers are known by id only for now");
        }
        let pause = if error.is_lasting() { LASTING_BACKOFF } else { self.backoff };
        self.state = State::Failing(Instant::now() + pause);
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }

    fn is_answering(&self) -> bool {
        matches!(self.state, State::Answering)
    }
}

pub(super) struct Lists {
    sources: Vec<Asked>,
    running: JoinSet<(usize, Result<Vec<Described>, AskError>)>,
    /// The last of those that run has come or failed by then.
    pub(super) over_by: Instant,
    counters: Counters,
}

impl Lists {
    /// `usual`: whether they are those of the usual places, of which most are not there, and one may come later.
    pub(super) fn new(sources: Vec<Source>, usual: bool, counters: Counters) -> Self {
        let now = Instant::now();
        let asked = |source: Source| {
            let state = if usual {
                State::Absent
            } else {
                source.declare(&counters);
                State::Failing(now)
            };
            Asked { source: Arc::new(source), state, backoff: BACKOFF.0 }
        };
        let sources = sources.into_iter().map(asked).collect();
        let mut all = Self { sources, running: JoinSet::new(), over_by: now, counters };
        all.look_for_absent();
        all
    }

    /// Whether there is nobody who could be asked, unless a socket comes.
    pub(super) fn is_empty(&self) -> bool {
        self.sources.iter().all(|asked| matches!(asked.state, State::Absent))
    }

    /// Those that can be asked for a container.
    pub(super) fn answering(&mut self) -> impl Iterator<Item = &mut Asked> {
        self.sources.iter_mut().filter(|asked| asked.is_answering())
    }

    pub(super) fn is_one_answering(&self) -> bool {
        self.sources.iter().any(Asked::is_answering)
    }

    /// When the next of those that fail is tried, or its try is over.
    pub(super) fn failing(&self) -> Option<Instant> {
        let next = |asked: &Asked| match asked.state {
            State::Failing(at) | State::Listing(at) => Some(at),
            State::Absent | State::Answering => None,
        };
        self.sources.iter().filter_map(next).min()
    }

    /// A socket may have come with its runtime, or been switched on.
    pub(super) fn look_for_absent(&mut self) {
        for asked in &mut self.sources {
            if matches!(asked.state, State::Absent) && asked.source.socket().exists() {
                asked.source.declare(&self.counters);
                asked.state = State::Failing(Instant::now());
            }
        }
    }

    /// Asks whoever is to be asked for a list.
    pub(super) fn start(&mut self) {
        let now = Instant::now();
        let over_by = now + LONGEST;
        for (index, asked) in self.sources.iter_mut().enumerate() {
            match asked.state {
                State::Failing(at) | State::Listing(at) if at <= now => {
                    let (source, counters) = (Arc::clone(&asked.source), self.counters.clone());
                    self.running.spawn(async move { (index, source.list(&counters).await) });
                    (asked.state, self.over_by) = (State::Listing(over_by), over_by);
                }
                _ => {}
            }
        }
    }

    /// The next list, empty where it has failed. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Vec<Described> {
        let (index, answer) = match self.running.join_next().await {
            Some(Ok(listed)) => listed,
            // A mistake of this program's own; whose list it was is asked for another one.
            Some(Err(_)) => return Vec::new(),
            None => return std::future::pending().await,
        };
        let Some(asked) = self.sources.get_mut(index) else { return Vec::new() };
        match answer {
            Ok(all) => {
                (asked.state, asked.backoff) = (State::Answering, BACKOFF.0);
                tracing::debug!(socket = %asked.source.socket().display(), containers = all.len(), "listed");
                all
            }
            Err(error) => {
                asked.fail(&error);
                Vec::new()
            }
        }
    }

    /// Whether none is waited for.
    pub(super) fn are_over(&self) -> bool {
        self.running.is_empty()
    }
}
