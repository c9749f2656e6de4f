//! What a lane has to fetch before a record can be decoded.

use syncline_event::avro::frame::SchemaId;

/// Something a lane has to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// A schema of the registry.
    Schema(SchemaId),
    /// A table definition; [`NEWEST`](crate::definitions::NEWEST) for the newest.
    Definition {
        /// The lane's index of the topic.
        topic: usize,
        /// Its number.
        number: u32,
    },
    /// The newest schema of a topic's values: for a tombstone that comes before any of them.
    ValueSchema {
        /// The lane's index of the topic.
        topic: usize,
    },
    /// What the target has for the topic's table: for records that do not tell its columns.
    Described {
        /// The lane's index of the topic.
        topic: usize,
    },
    /// How the target writes rows of a definition that is known.
    Plan {
        /// The lane's index of the topic.
        topic: usize,
        /// The definition's number.
        definition: u32,
        /// Which of its ways into target tables.
        route: usize,
    },
}
