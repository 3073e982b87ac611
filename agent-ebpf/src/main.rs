//! The exec tracepoint.
fn main() {}
