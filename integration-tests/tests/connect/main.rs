//! `syncline connectors` against a real Kafka Connect worker, and against one that misbehaves.

mod cli;
mod configs;
mod faults;
mod files;
mod life;
mod mock;
mod refusals;
mod tls;
