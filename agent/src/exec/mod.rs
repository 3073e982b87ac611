//! `parachute exec`, the seed: a person's own command in a container. Connects the person's terminal or streams, and says
//! how it ended. How a container is entered is `enter`'s matter, which one is meant the command line's.

pub mod filter;
pub mod many;
pub mod relay;
pub mod report;
pub mod status;
pub mod terminal;
