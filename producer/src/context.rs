//! What every part of one producer's life works with.

use std::sync::Arc;

use sqlx::PgConnection;
use syncline_event::avro::encode::ConnectorInfo;
use syncline_runtime::registry::Registry;

use crate::captured::Definitions;
use crate::config::ProducerConfig;
use crate::publish::Publisher;
use crate::stats::Stats;

/// The Debezium release whose contract the events follow; stands in `source.version`.
pub const DEBEZIUM_VERSION: &str = "3.6.3.Final";

/// One life's connections and settings.
pub struct Context {
    /// The settings.
    pub config: Arc<ProducerConfig>,
    /// Into Kafka.
    pub publisher: Publisher,
    /// The schema registry.
    pub registry: Registry,
    /// A session for the catalog, apart from the replication session.
    pub control: PgConnection,
    /// The numbered definitions.
    pub definitions: Definitions,
    /// What the source block says of the connector.
    pub connector: ConnectorInfo,
    /// Counters.
    pub stats: Arc<Stats>,
}
