//! Readers of PostgreSQL's text output: bytes in, numbers out, nothing allocated for ordinary values.

pub(super) mod array;
pub(crate) mod decimal;
pub(super) mod hstore;
pub(super) mod interval;
pub(super) mod number;
pub(super) mod temporal;

/// The bytes are not what PostgreSQL prints for the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;
