//! What goes wrong while capturing and publishing, in words that say what to do.

use rdkafka::error::KafkaError as ClientError;
use syncline_catalog::connect::ConnectError;
use syncline_catalog::ident::IdentError;
use syncline_event::avro::encode::EncodeError;
use syncline_event::position::Lsn;
use syncline_runtime::kafka::KafkaError;
use syncline_runtime::registry::RegistryError;
use syncline_runtime::retry::{Classified, ErrorClass};

/// A producer's error.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// The source is not fit to be captured. One finding a line, each with its remedy.
    #[error("the source is not ready:\n{}", .0.join("\n"))]
    Preflight(Vec<String>),
    /// The source cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A name that cannot stand in SQL.
    #[error(transparent)]
    Identifier(#[from] IdentError),
    /// The source refused or broke off something.
    #[error("{what}: {}", describe_sql(.error))]
    Source {
        /// What was under way.
        what: String,
        /// The driver's error.
        error: sqlx::Error,
    },
    /// The replication session ended.
    #[error("the replication session of slot {slot} ended: {reason}")]
    Replication {
        /// The slot.
        slot: String,
        /// What the server or the connection said.
        reason: String,
    },
    /// The server refuses the replication session or a command of it.
    #[error("slot {slot}: the server refuses: {reason}")]
    ReplicationRefused {
        /// The slot.
        slot: String,
        /// What the server said.
        reason: String,
    },
    /// Another producer holds the slot.
    #[error("slot {slot} is in use by {holder}: only one producer may follow a slot; this one waits for it to end")]
    SlotInUse {
        /// The slot.
        slot: String,
        /// Who holds it.
        holder: String,
    },
    /// The place in the log is lost or cannot be trusted.
    #[error(
        "slot {slot}: {what}. Nothing was changed. If the target may be rebuilt from the source, run `syncline resync \
         --source -f <file>`: it says what it will do, then starts over with a new snapshot"
    )]
    Lost {
        /// The slot.
        slot: String,
        /// What was found.
        what: String,
    },
    /// Another producer's work cannot be gone on with.
    #[error("{0}; nothing was changed")]
    Takeover(String),
    /// Topics and checkpoint do not fit.
    #[error("topic {topic}: {what}")]
    Topic {
        /// The topic.
        topic: String,
        /// What was found and what to do.
        what: String,
    },
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// librdkafka refuses something.
    #[error("{what}: {error}")]
    Client {
        /// What was under way.
        what: String,
        /// The client's error.
        error: ClientError,
    },
    /// A record was not delivered; the next life starts from the checkpoint.
    #[error("kafka did not take a record: {0}; going on from the last checkpoint")]
    Delivery(String),
    /// A row is larger than a record may be.
    #[error(
        "a change for topic {topic} is {size} bytes, a record may have {limit}: shorten the row, or leave the table out"
    )]
    RecordTooLarge {
        /// The topic.
        topic: String,
        /// Its bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The schema registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A value without a form in events.
    #[error("table {table}: {reason}")]
    Encode {
        /// The table.
        table: String,
        /// Which column and why.
        reason: String,
    },
    /// The definition is ahead of the log.
    #[error("table {table}: column {column} is NULL in the log but NOT NULL in the catalog")]
    NullInNotNull {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A delete without an old key.
    #[error(
        "table {table}: a delete came without its key; give the table a primary key or REPLICA IDENTITY FULL, then run \
         `syncline resync`"
    )]
    MissingOldRow {
        /// The table.
        table: String,
    },
    /// A message of Syncline's own in the log.
    #[error(
        "the log holds a message with the prefix {prefix} at {at} that cannot be understood: {reason}. Only Syncline writes \
         such messages: if a newer version runs in this topology, upgrade this producer"
    )]
    OwnMessage {
        /// Its prefix.
        prefix: String,
        /// Its place.
        at: Lsn,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that a node of a topology cannot do.
    #[error("node {name}: {what}")]
    Node {
        /// The node.
        name: String,
        /// What was found or asked for, and what to do.
        what: String,
    },
    /// The server sent what the protocol does not allow.
    #[error("the replication stream cannot be understood: {0}")]
    Protocol(String),
    /// A fault of Syncline's own.
    #[error("{0}")]
    Internal(String),
}

impl ProducerError {
    /// An SQL error with what was under way.
    #[must_use]
    pub fn source(what: &str, error: sqlx::Error) -> Self {
        Self::Source { what: what.to_owned(), error }
    }

    /// A client error with what was under way.
    #[must_use]
    pub fn client(what: &str, error: ClientError) -> Self {
        Self::Client { what: what.to_owned(), error }
    }

    /// An encoding error of a table's row.
    #[must_use]
    pub fn encode(table: &str, error: &EncodeError) -> Self {
        match error {
            EncodeError::NullInNotNull { column, .. } => {
                Self::NullInNotNull { table: table.to_owned(), column: column.clone() }
            }
            other => Self::Encode { table: table.to_owned(), reason: other.to_string() },
        }
    }

    /// Our own records always serialise.
    #[must_use]
    pub fn unserializable(error: serde_json::Error) -> Self {
        Self::Internal(format!("a bookkeeping record cannot be written: {error}"))
    }

    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Connect(error) => error.class(),
            Self::Kafka(error) => error.class(),
            Self::Registry(error) => error.class(),
            Self::Source { error, .. } => sql_class(error),
            Self::Replication { .. } | Self::SlotInUse { .. } | Self::Delivery(_) => ErrorClass::Transient,
            Self::Preflight(_)
            | Self::Identifier(_)
            | Self::Lost { .. }
            | Self::ReplicationRefused { .. }
            | Self::Topic { .. }
            | Self::Takeover(_)
            | Self::Client { .. }
            | Self::RecordTooLarge { .. }
            | Self::Encode { .. }
            | Self::NullInNotNull { .. }
            | Self::MissingOldRow { .. }
            | Self::OwnMessage { .. }
            | Self::Node { .. }
            | Self::Protocol(_)
            | Self::Internal(_) => ErrorClass::Fatal,
        }
    }
}

impl Classified for ProducerError {
    fn class(&self) -> ErrorClass {
        self.class()
    }
}

/// A server that is away or going down comes back; what it refuses, it refuses again.
fn sql_class(error: &sqlx::Error) -> ErrorClass {
    let sqlx::Error::Database(database) = error else { return ErrorClass::Transient };
    match database.code().as_deref() {
        Some(code) if ["08", "53", "57", "58", "40"].iter().any(|class| code.starts_with(class)) => {
            ErrorClass::Transient
        }
        _ => ErrorClass::Fatal,
    }
}

/// The server's message without its detail, which may hold values.
fn describe_sql(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => {
            format!("{} ({})", database.message(), database.code().unwrap_or_default())
        }
        other => other.to_string(),
    }
}
