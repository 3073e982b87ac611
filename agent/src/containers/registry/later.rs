//! What is to be done later: one more look at a cgroup, and a scan once there is a launcher. It only keeps the time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::detect::Cgroup;
use crate::enter::Launcher;

/// A runtime starts what it has made, and takes away what has ended, within this.
const LOOK_AFTER: Duration = Duration::from_secs(5);
/// Cgroups that wait for it. What is over this is looked at by a scan of all.
const MAX_LOOKS: usize = 1024;
/// Between a failed look and the scan. The longer one is for a launcher that is there and fails each time.
const SCAN_AFTER: Duration = Duration::from_secs(1);
const MAX_SCAN_AFTER: Duration = Duration::from_mins(1);

pub(super) enum Due {
    Look(Cgroup),
    Scan,
}

#[derive(Default)]
pub(super) struct Later {
    /// All wait equally long, so the first has the earliest time.
    looks: VecDeque<(Instant, Cgroup)>,
    scan: Option<Instant>,
    /// How often it was to be done in succession.
    scans: u32,
}

impl Later {
    pub(super) fn look(&mut self, cgroup: Cgroup) {
        if self.looks.iter().any(|(_, waiting)| waiting.dir == cgroup.dir) {
            return;
        }
        if self.looks.len() >= MAX_LOOKS {
            return self.scan();
        }
        self.looks.push_back((Instant::now() + LOOK_AFTER, cgroup));
    }

    pub(super) fn scan(&mut self) {
        let pause = SCAN_AFTER.saturating_mul(2_u32.saturating_pow(self.scans)).min(MAX_SCAN_AFTER);
        self.scan.get_or_insert_with(|| Instant::now() + pause);
    }

    /// Whether everything is looked at again anyway.
    pub(super) fn has_scan(&self) -> bool {
        self.scan.is_some()
    }

    /// All that is there has been looked at, but for what another scan is to be done for.
    pub(super) fn scanned(&mut self) {
        if self.scan.is_none() {
            self.scans = 0;
        }
    }

    /// The next thing when its time has come. Dropping the future loses nothing.
    pub(super) async fn due(&mut self, launcher: &Launcher) -> Due {
        let connected = async |at| {
            until(at).await;
            launcher.connected().await;
        };
        tokio::select! {
            () = until(self.looks.front().map(|(at, _)| *at)) => {}
            () = connected(self.scan) => {
                self.scan = None;
                self.scans = self.scans.saturating_add(1);
                return Due::Scan;
            }
        }
        match self.looks.pop_front() {
            Some((_, cgroup)) => Due::Look(cgroup),
            None => std::future::pending().await,
        }
    }
}

/// For ever where there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
