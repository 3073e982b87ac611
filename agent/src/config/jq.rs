//! A compiled jq expression, with the two traps of the library closed: no `env`, no unbounded recursion.

/// A compiled expression; cheap to clone.
#[derive(Clone, Debug)]
pub struct Filter;
