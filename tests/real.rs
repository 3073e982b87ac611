//! The whole agent on real containers: needs root and what `cargo xtask setup` installs. One file per promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of a test fails by panicking, as the test does"
)]
#![allow(clippy::float_cmp, reason = "counts, which are whole numbers and exact")]

mod common;

mod alert_storm;
mod alerted;
mod alerts_killed;
mod asked;
mod attacks;
mod captured;
mod crio;
mod daemonset;
mod dashboards;
mod disks;
mod docker;
mod docs_live;
mod doctor;
mod exec_complete;
mod exec_killed;
mod exec_streams;
mod exec_targets;
mod exec_terminal;
mod exec_together;
mod fleet;
mod hostile;
mod killed;
mod launcher_restarts;
mod library;
mod losses;
mod package;
mod page;
mod peers;
mod plain;
mod podman;
mod realtime;
mod restarts;
mod runtimes;
mod scrape_config;
mod scraped;
mod simulated;
mod storm;
mod truth;
