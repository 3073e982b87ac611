//! The part of parachute that containers can see: a static program of its own, which has nothing of the agent's or the
//! launcher's in its memory. A launcher keeps some of it, the *spawners*, and sends one of them an [`Order`] for each run; that
//! one makes the *stub*, which enters the container and becomes the *command*'s parent. For an observer whose procfs the launcher
//! has made, in a container that does not see the spawner, that one is the parent itself: such a command, the first of a pid namespace
//! of its own, leaves no children behind, and joins by itself what there is to join.
//!
//! Spawner, stub and command are processes of their own in one memory, until the command executes its program: a copy of even
//! this small one would cost as much as all else that a run adds to a spawn. At each moment one of the three uses it, as after
//! vfork(2): the spawner sleeps until the stub has gone, the command's parent until that has its own. So each run that goes on has a
//! spawner to itself. A container that kills the stub in between breaks that for the moment until the kernel has killed the
//! command, too; the launcher gives up a spawner whose stub left no record.
//!
//! From a fork to an exec there are system calls only: no allocation, no lock, no logging, no panic; a failure goes home as
//! `[step, errno]` and the process ends with `_exit`.
//!
//! The library half is what the launcher needs: the order, the names of the steps, and a few calls that both make. What may
//! run where is not decided here.
#![cfg_attr(not(feature = "std"), no_std)]

mod calls;
mod command;
mod cpus;
mod frame;
mod layout;
mod limits;
mod neighbours;
mod observer;
#[cfg(feature = "std")]
mod order;
mod own_pid;
mod passing;
mod serve;
mod steps;
mod stub;
#[cfg(feature = "std")]
mod tries;
mod way;

pub use calls::{close_all_but, forbid_core, install_filter, no_new_privileges};
pub use layout::{LIMITING, MOST_INLINE};
pub use neighbours::TAKEOVER;
#[cfg(feature = "std")]
pub use order::Order;
pub use passing::MOST_FDS;
pub use serve::serve;
pub use steps::{
    ALIVE, ASKS, END, ENDED, ENDED_BY_KILL, ENDED_TAMPERED, GONE, OURS, PING, RECORD, STEPS, Step,
};
#[cfg(feature = "std")]
pub use tries::{
    has_clone_into_cgroup, has_clone3, has_close_range, has_move_mount, has_pidfd_setns, has_seccomp_listener,
};
pub use way::{Credentials, Fds, Observer, Way};
