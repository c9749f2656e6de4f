//! PostgreSQL as a source, by logical replication.

pub mod copy;
pub mod pgoutput;
pub mod preflight;
pub mod publication;
pub mod relation;
pub mod selection;
pub mod slot;
pub mod transport;
