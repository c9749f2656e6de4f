//! What a change is: the vocabulary every room of Syncline shares, and its Debezium form in Avro.
//!
//! Nothing here does I/O, reads a clock or knows a driver: bytes and facts in, bytes and facts out.

pub mod avro;
pub mod handling;
pub mod header;
pub mod horizon;
pub mod json;
pub mod mask;
pub mod name;
pub mod operation;
pub mod partition;
pub mod position;
pub mod stamp;
pub mod table;
pub mod tuple;
