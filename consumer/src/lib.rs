//! Kafka to targets: take, decode, coalesce, write, commit.

mod alarm;
pub mod batch;
pub mod caught_up;
pub mod chunk;
pub mod coalesce;
pub mod commit;
pub mod config;
pub mod decode;
pub mod definitions;
pub mod draft;
pub mod error;
pub mod handover;
pub mod intake;
pub mod lane;
pub mod order;
pub mod outside;
mod own_rows;
pub mod partition;
pub mod resync;
pub mod rows;
pub mod run;
#[cfg(test)]
mod simulation;
pub mod sink_settings;
pub mod start;
pub mod stats;
pub mod table_draft;
pub mod takeover;
pub mod targets;
pub mod topics;
