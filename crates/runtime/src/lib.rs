//! What any Syncline process needs, ignorant of changes: configuration loading, secrets, Kafka, registry, HTTP,
//! telemetry, metrics, retry, shutdown.

pub mod config;
pub mod http;
pub mod kafka;
pub mod metrics;
pub mod registry;
pub mod retry;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
