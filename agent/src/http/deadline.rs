//! When a connection is cut off. A slow reader must not hold one for as long as a run may be waited for, so the
//! deadline is short, and is put off only while a run is waited for.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The deadline of one connection; clones are of the same one.
#[derive(Clone, Debug)]
pub(super) struct Deadline(Arc<watch::Sender<Instant>>);

impl Deadline {
    pub(super) fn after(time: Duration) -> Self {
        Self(Arc::new(watch::Sender::new(Instant::now() + time)))
    }

    /// Sets it anew, counted from now.
    pub(super) fn reset(&self, time: Duration) {
        self.0.send_replace(Instant::now() + time);
    }

    /// The output of `future`; None if it met the deadline.
    pub(super) async fn bound<F: Future>(self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut times = self.0.subscribe();
        loop {
            let until = *times.borrow_and_update();
            tokio::select! {
                output = &mut future => return Some(output),
                // The sender lives in `self`, so this is always a new deadline.
                _ = times.changed() => {}
                () = sleep_until(until) => return None,
            }
        }
    }
}
