//! A private containerd with real pods, a private Docker, a private Podman, for the demo and the whole-agent tests.
//!
//! Everything of a [`Containerd`] carries a name of its own (folder, socket, bridge, pod uids), so that several run at
//! once beside whatever containers the machine already has, and so that dropping it can find and remove all of it.

pub use agent::Agent;
pub use alertmanager::{Alertmanager, AlertmanagerVersion, newest_alertmanager};
pub use chromium::{Chromium, Page, View};
pub use cleanup::alone;
pub use containerd::{Containerd, CriClient};
pub use crio::{CgroupDriver, CrioContainer, FakeCrio};
pub use crowd::Crowd;
pub use docker::Docker;
pub use driver::{Cgroups, Driver, patience};
pub use engine::{Engine, Traces};
pub use image::{HOST_IMAGE, ImageSpec, WORKLOAD, WORKLOAD_IMAGE, attacker, write_image};
pub use kind::{CGROUPS, Kind};
pub use leftovers::Snapshot;
pub use node_pod::{NodeContainer, NodeMount};
pub use pod::{Pod, PodBuilder, PodContainer};
pub use podman::Podman;
pub use prometheus::Prometheus;
pub use recorder::{Recorded, Recorder};
pub use rootless::Rootless;
pub use scrape::{Answer, Sample, exchange, request, samples};
pub use served::free_address;
pub use simulation::{Asked as Simulated, Fleet, Node, simulate};
pub use subordinate::SubordinateIds;
pub use tmux::Tmux;
pub use userns::UserContainer;

mod agent;
mod alertmanager;
mod chromium;
mod cleanup;
mod containerd;
mod crio;
mod crowd;
mod docker;
mod driver;
mod engine;
mod image;
mod kind;
mod leftovers;
mod node_pod;
mod pod;
mod podman;
mod prometheus;
mod recorder;
mod rootless;
mod scrape;
mod served;
mod settings;
mod simulation;
mod subordinate;
mod tmux;
mod userns;

/// The CRI client, made by `cargo xtask codegen`.
#[allow(
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
pub mod cri {
    include!("generated/runtime.v1.rs");
}
