//! The room as a whole, on real folders.
