//! The live set: every container that runs on this node, held by the pidfd of its init, with what its runtime says of it.
//!
//! `registry` keeps it, `init` finds a container's first process, `metadata` asks for names; `lone` is for who has no need of it.
//! Nothing is polled: the kernel tells of a start (`detect`), and a pidfd turns readable at the end.

mod init;
mod lone;
pub mod metadata;
mod registry;

pub use lone::lone;
pub use registry::{Counters, Hook, Registry, Start};
