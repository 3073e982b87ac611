//! The verbs on a folder that the room itself has written.
