//! parachute lands a host command beside a running container and brings back numbers. This page is the map.
//!
//! ```text
//!  kernel: sched_process_exec              Alertmanager    schedule    HTTP    container start    CLI
//!         │ one record per NEW cgroup           └──────────────────────┬───────────────────────┘
//!         ▼                                                            ▼
//!    ┌────────┐ ExecSeen ┌────────────┐ ContainerEvent ┌──────────┐ RunRequest ┌────────┐  run  ┌───────┐
//!    │ detect ├─────────►│ containers ├───────────────►│ triggers ├───────────►│ probes ├──────►│ enter │ launcher
//!    └────────┘          └────────────┘                └──────────┘            └───┬────┘◄──────┴───────┘ process
//!                          ▲ metadata/: the bundle on disk, CRI             Output │  stdout, stderr, end
//!                                                              ┌─────────┐         ▼
//!                                                 /metrics  ◄──┤ metrics │◄────  parse ────► captures (raw output, kept)
//!                                                              └─────────┘
//! ```
//!
//! # The rooms
//!
//! - [`detect`]: a first exec in a new cgroup, as the kernel tells it; what already runs; cgroup path to container id.
//! - [`containers`]: the live set, each container held by the pidfd of its init; names from its runtime, asked once.
//! - [`triggers`]: an alert, a start, a schedule or a request becomes runs of probes in containers. It runs nothing.
//! - [`probes`]: runs them: so many at once, so many waiting, each to one of a closed set of outcomes.
//! - [`enter`]: the one room that may be unsafe, and the process that has the privileges. Its page is the contract.
//! - [`parse`]: bytes that a command printed to samples; one file per format.
//! - [`metrics`]: the agent's own numbers, the probes' results, and the text of a scrape.
//! - [`captures`]: what runs printed, on disk, with the reason, the place and the outcome: whole, or not at all.
//! - [`peers`]: hands alerts for containers of other nodes to the agents there, one hop and no further.
//! - `upload`: copies captures to an object store; only in builds with the feature `object-store`.
//! - [`http`]: the front door. It reads, knows who may ask what, asks the others, and decides nothing else.
//! - [`config`]: the YAML, every mistake in it, and the checked form that the other rooms see.
//! - [`model`]: the nouns that all rooms share.
//! - [`exec`]: `parachute exec`: a person's own command in a container, its target and its terminal. Not part of the agent.
//! - [`privileges`]: what the agent keeps of root's capabilities, and why.
//! - [`app`]: the only wiring, the order of start, and the one way down.
//! - [`cli`]: the command line, one file per verb.
//!
//! `agent-ebpf/` is the kernel half of `detect`, with the layout of what passes between the two, and the rule on observers'
//! devices. `agent-stub/` is the half of `enter` that containers can see, a static program of its own.
//!
//! # The laws
//!
//! A room imports only rooms to its right, and `config` and `model`. What is handed over is the thing and not its id: a
//! [`RunRequest`](model::RunRequest) holds the container, and that holds the pidfd. Counters are handed in. Whatever
//! comes from inside a container is hostile: bounded in length and in number. `tests/house.rs` holds the sources to
//! this page: who imports whom, where `unsafe` stands, how long a file is.
//!
//! # Where the drawing is not the whole truth
//!
//! - `containers` and `detect` import `enter`, which stands to the right of them. The agent has no right to look at other
//!   users' processes (`/proc/PID/ns`), the launcher has, and is asked; opening a cgroup by its id and awaiting a pidfd
//!   are calls that only `enter` may make.
//! - `parse` and `enter` import `config`: a parser works from a checked specification, and the launcher reads the
//!   configuration file by itself, so that whoever takes over the agent cannot choose what it runs. That is also why
//!   `config` has a `source`: both processes must mean the same file, and compare its digest. It is no wall around the node:
//!   the agent asks the container runtime, which would also start a container for it.
//! - `agent-stub` is unsafe as `enter` is, and is not a folder of it because it is another program: what is forked into a
//!   container's sight must have nothing of the agent's, and a copy of the agent's own program has all of it.
//! - `probes` runs one command at a time in each container. A joined command is a process of its container, and two at
//!   once would count each other.
//! - `privileges` is a file of its own and not a part of `enter`, because it is the agent that gives its privileges up.
//! - A command's output goes to `captures` as `enter` reads it, beside `parse` and not after it: what is kept must not go
//!   through memory. What is parsed is in memory as well, up to the probe's cap.

pub mod app;
pub mod captures;
pub mod cli;
pub mod config;
pub mod containers;
pub mod detect;
pub mod enter;
pub mod exec;
pub mod http;
pub mod metrics;
pub mod model;
pub mod parse;
pub mod peers;
pub mod privileges;
pub mod probes;
pub mod triggers;
#[cfg(feature = "object-store")]
pub mod upload;
