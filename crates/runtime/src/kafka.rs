//! Kafka as every process of ours meets it: client settings, topics and their identity, compacted topics.

mod admin;
mod client;
mod compacted;
mod error;
mod topic_id;

pub use admin::{Admin, EnsuredTopic, TopicInfo, Watermarks};
pub use client::{Mechanisms, check_properties, client_config, log_line, mechanisms, protected_property};
pub use compacted::{CompactedReader, CompactedRecord, read_latest};
pub use error::KafkaError;
