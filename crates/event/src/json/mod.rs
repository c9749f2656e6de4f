//! Debezium's JSON form, as Kafka Connect's `JsonConverter` writes it: told apart, and turned into the Avro form, which
//! one decoder reads, or made of it.

pub mod frame;
pub mod schema;
pub mod transcode;
pub mod write;
