//! What becomes of a change where several nodes write the same rows: it is compared with what its row has been through.
//!
//! Pure: the same changes give the same row on every node, in whatever order they arrive.

pub mod row;
pub mod rules;
