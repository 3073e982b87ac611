//! The part of parachute that containers can see: a static program of its own, which has nothing of the agent's or the
//! launcher's in its memory, and whose fork copies next to nothing. A launcher keeps one of it, the *spawner*, and sends it
//! an [`Order`] for each run; the spawner forks the *stub*, which enters the container and becomes the *command*'s parent.
//!
//! From a fork to an exec there are system calls only: no allocation, no lock, no logging, no panic; a failure goes home as
//! `[step, errno]` and the process ends with `_exit`.
//!
//! The library half is what the launcher needs: the order, the names of the steps, and a few calls that both make. What may
//! run where is not decided here.

mod calls;
mod command;
mod frame;
mod limits;
mod neighbours;
mod observer;
mod order;
mod own_pid;
mod passing;
mod serve;
mod steps;
mod stub;
mod way;

pub use calls::{close_all_but, forbid_core, install_filter, no_new_privileges};
pub use neighbours::TAKEOVER;
pub use order::{LIMITING, Order};
pub use passing::MOST_FDS;
pub use serve::serve;
pub use steps::{ENDED, ENDED_BY_KILL, ENDED_TAMPERED, RECORD, STEPS, Step};
pub use way::{Credentials, Fds, Observer, Way};
