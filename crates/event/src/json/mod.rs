//! Debezium's JSON form, as Kafka Connect's `JsonConverter` writes it: told apart, and turned into the Avro form, which
//! one decoder reads, or made of it.

pub mod frame;
pub mod schema;
pub mod transcode;
pub mod write;

/// What Confluent's Avro converter calls a pair of a map whose keys are no texts (`AvroData.MAP_ENTRY_TYPE_NAME`). In
/// JSON it is an array of two.
const MAP_ENTRY: &str = "io.confluent.connect.avro.MapEntry";
