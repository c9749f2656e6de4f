//! Source database to Kafka: capture, encode, publish, confirm.

pub mod adopted;
mod beside;
pub mod captured;
pub mod check;
pub mod checkpoint;
mod clock;
pub mod columns;
pub mod config;
pub mod context;
pub mod emit;
pub mod error;
pub mod incremental;
mod life;
pub mod place;
pub mod publish;
mod reselect;
pub mod resync;
pub mod rows;
pub mod run;
pub mod signals;
pub mod snapshot;
pub mod sources;
pub mod start;
pub mod stats;
mod stream;
pub mod takeover;
pub mod tracker;
