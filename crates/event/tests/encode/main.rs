//! The encoder: against Debezium's own schemas and records, byte for byte, and for everything that those do not hold.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, as tests may")]

mod definitions;
mod extensions;
mod extras;
mod golden_records;
mod golden_schemas;
mod lossless;
mod material;
mod render;
