//! skeleton.
