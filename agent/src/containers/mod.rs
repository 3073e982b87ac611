//! The live set: every container that runs on this node, held by the pidfd of its init, with what its runtime says of it.
//!
//! `registry` keeps it, `init` finds a container's first process, `metadata` asks for names. Nothing is polled: the kernel
//! tells of a start (`detect`), and a pidfd turns readable at the end.

mod init;
pub mod metadata;
mod registry;

pub use registry::{Counters, Hook, Registry, Start};
