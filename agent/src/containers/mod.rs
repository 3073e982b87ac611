//! skeleton.
pub mod metadata;
