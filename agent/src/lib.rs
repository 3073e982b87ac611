//! parachute lands a host command beside a running container and brings back numbers.
//!
//! skeleton: the map is drawn here when the rooms stand.

pub mod app;
pub mod cli;
pub mod config;
pub mod containers;
pub mod detect;
pub mod enter;
pub mod http;
pub mod metrics;
pub mod model;
pub mod parse;
pub mod privileges;
pub mod probes;
pub mod triggers;
