//! `parachute exec`, the seed: a person's own command in a container. Finds the target, connects the person's terminal
//! or streams, and says how it ended. How a container is entered is `enter`'s matter.
