//! Checked settings that both processes share: what they hold cannot be wrong any more.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// A password or token. It cannot print itself; [`Secret::expose`] is the only way out.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How to reach Kafka, and how topics are created.
#[derive(Clone)]
pub struct KafkaSettings {
    /// `bootstrap.servers`.
    pub bootstrap_servers: String,
    /// Partitions of topics that Syncline creates.
    pub partitions: i32,
    /// Replicas of topics that Syncline creates.
    pub replication_factor: i32,
    /// Further librdkafka properties, already checked against the ones Syncline's guarantees rest on.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for KafkaSettings {
    /// Properties by name only: some of them are passwords and keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("partitions", &self.partitions)
            .field("replication_factor", &self.replication_factor)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

/// How to reach the schema registry.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Base addresses of the Confluent API, tried in order.
    pub urls: Vec<String>,
    /// Basic authentication.
    pub username: Option<String>,
    /// Basic authentication.
    pub password: Option<Secret>,
}

/// How to reach a database.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role.
    pub username: String,
    /// Password, where the server wants one.
    pub password: Option<Secret>,
    /// Encryption.
    pub ssl: SslMode,
}

/// Encryption of a database connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Plain text.
    Disabled,
    /// Encrypted; the certificate is not checked.
    Required,
}
