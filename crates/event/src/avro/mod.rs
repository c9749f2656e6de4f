//! Debezium's Avro form: schemas as Debezium registers them, encoding and decoding through plans compiled once.

pub mod beside;
pub mod decode;
pub mod encode;
pub mod frame;
pub mod infer;
pub mod schema;
pub mod value;

mod array;
pub(crate) mod base64;
mod cell;
mod column;
mod defaults;
mod envelope;
mod extension;
mod flat;
pub(crate) mod item;
pub(crate) mod json;
mod map;
mod plan;
pub(crate) mod reader;
mod record;
mod row_plan;
mod semantic;
pub(crate) mod skip;
mod source;
pub(crate) mod text;
pub(crate) mod write;
pub(crate) mod writer_schema;
