//! The connections that there are, in three rows, each with a bound of its own: those whose request is not here yet, those that
//! are worked on, and those that take their answer. Who comes is let in at once; where a row is full, the one in it that has been
//! waited for the longest goes. So no number of slow clients keeps another one waiting, and no row can fill another one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::{IntCounterVec, IntGauge};
use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Why a connection was ended by the agent, the values of `reason` in `parachute_http_connections_closed_total`.
pub const CLOSED: [&str; 5] = ["no_request", "unread_answer", "deadline", "handshake", "client_error"];

/// How many connections of each row; a descriptor each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) arriving: usize,
    pub(super) working: usize,
    pub(super) taking: usize,
    /// Bytes of answers that are held for those who take them. The last one to come may be larger by itself.
    pub(super) held: usize,
}

impl Bounds {
    /// Less than half of the files that this process may have open: containers need the others.
    pub(super) fn of_this_process() -> Self {
        Self::within(getrlimit(Resource::Nofile).current)
    }

    fn within(open_files: Option<u64>) -> Self {
        let files = open_files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
        let part = |of: usize, most: usize| (files / of).clamp(8, most);
        Self { arriving: part(8, 512), working: part(4, 1024), taking: part(16, 128), held: 64 << 20 }
    }
}

/// The counters that move here.
#[derive(Clone, Debug)]
pub struct Connections {
    /// `parachute_http_connections`.
    pub open: IntGauge,
    /// `parachute_http_connections_closed_total`, by one of [`CLOSED`].
    pub closed: IntCounterVec,
}

#[derive(Debug)]
pub(super) struct Table {
    bounds: Bounds,
    counters: Connections,
    rows: Mutex<Rows>,
}

/// Numbers are given in the order of arrival.
#[derive(Debug, Default)]
struct Rows {
    next: u64,
    cuts: HashMap<u64, CancellationToken>,
    arriving: BTreeSet<u64>,
    working: BTreeSet<u64>,
    taking: BTreeMap<u64, Taking>,
}

#[derive(Clone, Copy, Debug)]
struct Taking {
    /// The last time that some of the answer was taken.
    since: Instant,
    held: usize,
}

/// One connection's place; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    table: Arc<Table>,
    /// Cancelled when it has to go.
    pub(super) cut: CancellationToken,
}

impl Table {
    pub(super) fn new(bounds: Bounds, counters: Connections) -> Arc<Self> {
        Arc::new(Self { bounds, counters, rows: Mutex::default() })
    }

    /// A place for who has just come.
    pub(super) fn arrive(self: &Arc<Self>) -> Arc<Seat> {
        let mut rows = self.rows();
        if rows.arriving.len() >= self.bounds.arriving {
            let oldest = rows.arriving.first().copied();
            self.cut(&mut rows, oldest, "no_request");
        }
        let number = rows.next;
        rows.next += 1;
        rows.arriving.insert(number);
        let cut = CancellationToken::new();
        rows.cuts.insert(number, cut.clone());
        self.counters.open.inc();
        Arc::new(Seat { number, table: Arc::clone(self), cut })
    }

    pub(super) fn closed(&self, reason: &str) {
        self.counters.closed.with_label_values(&[reason]).inc();
    }

    /// A lock is poisoned by a panic, and none happens while it is held.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self, rows: &mut Rows, number: Option<u64>, reason: &str) {
        let Some(number) = number else { return };
        rows.leave(number);
        if let Some(cut) = rows.cuts.get(&number) {
            cut.cancel();
            self.closed(reason);
        }
    }
}

impl Rows {
    fn leave(&mut self, number: u64) {
        self.arriving.remove(&number);
        self.working.remove(&number);
        self.taking.remove(&number);
    }

    /// The one whose answer has been held the longest without any of it being taken.
    fn stalest(&self, but: u64) -> Option<u64> {
        let others = self.taking.iter().filter(|(number, _)| **number != but);
        others.min_by_key(|(_, taking)| taking.since).map(|(number, _)| *number)
    }
}

impl Seat {
    /// Its request is complete, or as good as. False if too many are worked on.
    pub(super) fn may_work(&self) -> bool {
        let rows = self.table.rows();
        rows.working.contains(&self.number) || rows.working.len() < self.table.bounds.working
    }

    /// From now on it waits for us.
    pub(super) fn works(&self) {
        let mut rows = self.table.rows();
        if !self.cut.is_cancelled() {
            rows.leave(self.number);
            rows.working.insert(self.number);
        }
    }

    /// From now on we wait for it to take an answer of so many bytes.
    pub(super) fn takes(&self, held: usize) {
        let mut rows = self.table.rows();
        if self.cut.is_cancelled() {
            return;
        }
        rows.leave(self.number);
        let all = |rows: &Rows| rows.taking.values().map(|taking| taking.held).sum::<usize>();
        let bounds = self.table.bounds;
        while rows.taking.len() >= bounds.taking
            || (all(&rows) + held > bounds.held && !rows.taking.is_empty())
        {
            let stalest = rows.stalest(self.number);
            self.table.cut(&mut rows, stalest, "unread_answer");
        }
        rows.taking.insert(self.number, Taking { since: Instant::now(), held });
    }

    /// Some of its answer was taken.
    pub(super) fn took(&self) {
        if let Some(taking) = self.table.rows().taking.get_mut(&self.number) {
            taking.since = Instant::now();
        }
    }

    pub(super) fn closed(&self, reason: &str) {
        self.table.closed(reason);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut rows = self.table.rows();
        rows.leave(self.number);
        rows.cuts.remove(&self.number);
        self.table.counters.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::AgentMetrics;

    fn table() -> Arc<Table> {
        let agent = AgentMetrics::new().unwrap();
        let bounds = Bounds { arriving: 3, working: 2, taking: 2, held: 100 };
        let counters = Connections {
            open: agent.http_connections.clone(),
            closed: agent.http_connections_closed.clone(),
        };
        Table::new(bounds, counters)
    }

    fn count(table: &Table, reason: &str) -> u64 {
        table.counters.closed.with_label_values(&[reason]).get()
    }

    #[test]
    fn who_has_waited_longest_for_a_request_goes_first() {
        let table = table();
        let seats: Vec<_> = (0..5).map(|_| table.arrive()).collect();
        let cut: Vec<_> = seats.iter().map(|seat| seat.cut.is_cancelled()).collect();
        assert_eq!(cut, [true, true, false, false, false]);
        assert_eq!((count(&table, "no_request"), table.counters.open.get()), (2, 5));
        // Whose request is here is no more among them.
        seats[2].works();
        let more: Vec<_> = (0..3).map(|_| table.arrive()).collect();
        assert!(!seats[2].cut.is_cancelled() && seats[3].cut.is_cancelled() && seats[4].cut.is_cancelled());
        drop((seats, more));
        assert_eq!(table.counters.open.get(), 0);
        let rows = table.rows();
        assert!(rows.cuts.is_empty() && rows.arriving.is_empty() && rows.working.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_goes_and_who_takes_some_stays() {
        let table = table();
        let seats: Vec<_> = (0..3).map(|_| table.arrive()).collect();
        let next = async || tokio::time::advance(std::time::Duration::from_millis(1)).await;
        seats[0].takes(10);
        next().await;
        seats[1].takes(10);
        next().await;
        seats[0].took();
        next().await;
        seats[2].takes(10);
        let cut: Vec<_> = seats.iter().map(|seat| seat.cut.is_cancelled()).collect();
        assert_eq!((cut, count(&table, "unread_answer")), (vec![false, true, false], 1));
        // Bytes are bounded, too; one answer that is larger by itself is held alone.
        next().await;
        let large = table.arrive();
        large.takes(1000);
        assert!(seats.iter().all(|seat| seat.cut.is_cancelled()) && !large.cut.is_cancelled());
        // Who was cut takes no place again.
        seats[0].takes(1);
        seats[0].works();
        let rows = table.rows();
        assert_eq!((rows.taking.len(), rows.working.len()), (1, 0));
        drop(rows);
    }

    #[test]
    fn work_is_bounded_and_never_cut() {
        let table = table();
        let seats: Vec<_> = (0..3).map(|_| table.arrive()).collect();
        for (seat, may) in seats.iter().zip([true, true, false]) {
            assert_eq!(seat.may_work(), may);
            if may {
                seat.works();
            }
        }
        assert!(seats[0].may_work(), "the next request of the same connection");
        let _more: Vec<_> = (0..10).map(|_| table.arrive()).collect();
        assert!(!seats[0].cut.is_cancelled() && !seats[1].cut.is_cancelled());
    }

    #[test]
    fn the_bounds_fit_the_files_that_may_be_open() {
        for (files, all) in [(Some(1024), 448), (Some(1 << 20), 1664), (None, 1664), (Some(64), 32)] {
            let bounds = Bounds::within(files);
            assert_eq!(bounds.arriving + bounds.working + bounds.taking, all, "{files:?}");
            assert!(files.is_none_or(|files| all as u64 <= files / 2));
        }
    }
}
