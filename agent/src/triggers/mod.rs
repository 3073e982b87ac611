//! skeleton.
pub const CLI: &str = "cli";
