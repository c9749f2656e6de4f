//! Records beside the tables' own, as Debezium writes them: logical messages, the bounds of transactions, heartbeats.
//!
//! Schemas as `LogicalDecodingMessageMonitor`, `TransactionStructMaker` and `HeartbeatImpl` register them through
//! Confluent's AvroConverter.

use super::encode::{ConnectorInfo, frame, replace};
use super::schema::{SOURCE_BLOCK, TRANSACTION_BLOCK};
use super::source::{SourceBlock, SourceInfo, TransactionBlock};
use super::{base64, write};
use crate::handling::BinaryHandling;
use crate::json::write::JsonParts;

/// The frames of one kind of records: the ids of their schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frames {
    key: [u8; 5],
    value: [u8; 5],
}

impl Frames {
    /// For records with keys and values of these registered schemas.
    #[must_use]
    pub fn new(key_schema_id: u32, value_schema_id: u32) -> Self {
        Self { key: frame(key_schema_id), value: frame(value_schema_id) }
    }
}

/// A record's two parts, with their frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

impl Encoded {
    /// The same as JSON.
    #[must_use]
    pub fn into_json(mut self, parts: &JsonParts) -> Self {
        replace(0, &parts.key, &mut self.key);
        replace(0, &parts.value, &mut self.value);
        self
    }
}

/// `io.debezium.connector.common.ServerNameKey`.
pub const HEARTBEAT_KEY: &str = concat!(
    r#"{"type":"record","name":"ServerNameKey","namespace":"io.debezium.connector.common","fields":["#,
    r#"{"name":"serverName","type":"string"}],"#,
    r#""connect.version":1,"connect.name":"io.debezium.connector.common.ServerNameKey"}"#,
);

/// `io.debezium.connector.common.Heartbeat`.
pub const HEARTBEAT_VALUE: &str = concat!(
    r#"{"type":"record","name":"Heartbeat","namespace":"io.debezium.connector.common","fields":["#,
    r#"{"name":"ts_ms","type":"long"}],"#,
    r#""connect.version":1,"connect.name":"io.debezium.connector.common.Heartbeat"}"#,
);

/// A heartbeat of the producer with this topic prefix.
#[must_use]
pub fn heartbeat(frames: Frames, topic_prefix: &str, now_ms: i64) -> Encoded {
    let (mut key, mut value) = (frames.key.to_vec(), frames.value.to_vec());
    write::bytes(&mut key, topic_prefix.as_bytes());
    write::long(&mut value, now_ms);
    Encoded { key, value }
}

/// `io.debezium.connector.common.TransactionMetadataKey`.
pub const TRANSACTION_KEY: &str = concat!(
    r#"{"type":"record","name":"TransactionMetadataKey","namespace":"io.debezium.connector.common","fields":["#,
    r#"{"name":"id","type":"string"}],"#,
    r#""connect.version":1,"connect.name":"io.debezium.connector.common.TransactionMetadataKey"}"#,
);

/// `io.debezium.connector.common.TransactionMetadataValue`.
pub const TRANSACTION_VALUE: &str = concat!(
    r#"{"type":"record","name":"TransactionMetadataValue","namespace":"io.debezium.connector.common","fields":["#,
    r#"{"name":"status","type":"string"},{"name":"id","type":"string"},"#,
    r#"{"name":"event_count","type":["null","long"],"default":null},"#,
    r#"{"name":"data_collections","type":["null",{"type":"array","items":["null","#,
    r#"{"type":"record","name":"collection","namespace":"event","fields":["#,
    r#"{"name":"data_collection","type":"string"},{"name":"event_count","type":"long"}],"#,
    r#""connect.version":1,"connect.name":"event.collection"}]}],"default":null},"#,
    r#"{"name":"ts_ms","type":"long"}],"#,
    r#""connect.version":1,"connect.name":"io.debezium.connector.common.TransactionMetadataValue"}"#,
);

/// A bound of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound<'a> {
    /// Debezium's id of the transaction at this bound.
    pub id: String,
    /// Commit time, milliseconds since 1970.
    pub ts_ms: i64,
    /// At the end: the tables, `schema.table`, with the number of their events.
    pub ended: Option<&'a [(String, u64)]>,
}

/// The record of a transaction's begin or end.
#[must_use]
pub fn bound(frames: Frames, bound: &Bound<'_>) -> Encoded {
    let (mut key, mut value) = (frames.key.to_vec(), frames.value.to_vec());
    write::bytes(&mut key, bound.id.as_bytes());
    write::bytes(&mut value, if bound.ended.is_some() { b"END" } else { b"BEGIN" });
    write::bytes(&mut value, bound.id.as_bytes());
    match bound.ended {
        Some(tables) => {
            value.push(2);
            count(&mut value, tables.iter().map(|(_, events)| events).sum());
            value.push(2);
            if !tables.is_empty() {
                write::length(&mut value, tables.len());
                for (table, events) in tables {
                    value.push(2);
                    write::bytes(&mut value, table.as_bytes());
                    count(&mut value, *events);
                }
            }
            value.push(0);
        }
        None => value.extend_from_slice(&[0, 0]),
    }
    write::long(&mut value, bound.ts_ms);
    Encoded { key, value }
}

fn count(out: &mut Vec<u8>, events: u64) {
    write::long(out, events.cast_signed());
}

/// `io.debezium.connector.postgresql.MessageKey`.
pub const MESSAGE_KEY: &str = concat!(
    r#"{"type":"record","name":"MessageKey","namespace":"io.debezium.connector.postgresql","fields":["#,
    r#"{"name":"prefix","type":["null","string"],"default":null}],"#,
    r#""connect.version":1,"connect.name":"io.debezium.connector.postgresql.MessageKey"}"#,
);

/// `io.debezium.connector.postgresql.MessageValue`, with the content in the form of `binary.handling.mode`.
#[must_use]
pub fn message_value_schema(binary: BinaryHandling) -> String {
    let content = if binary == BinaryHandling::Bytes { "bytes" } else { "string" };
    [
        r#"{"type":"record","name":"MessageValue","namespace":"io.debezium.connector.postgresql","fields":["#,
        r#"{"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"],"default":null},"#,
        // A namespace is left out where it is that of the record around.
        &SOURCE_BLOCK.replacen(r#","namespace":"io.debezium.connector.postgresql""#, "", 1),
        ",",
        TRANSACTION_BLOCK,
        r#",{"name":"message","type":{"type":"record","name":"Message","fields":["#,
        r#"{"name":"prefix","type":["null","string"],"default":null},{"name":"content","type":["null",""#,
        content,
        r#""],"default":null}],"#,
        r#""connect.version":1,"connect.name":"io.debezium.connector.postgresql.Message"}}],"#,
        r#""connect.version":1,"connect.name":"io.debezium.connector.postgresql.MessageValue"}"#,
    ]
    .concat()
}

/// A logical message (`pg_logical_emit_message`).
#[derive(Debug, Clone, Copy)]
pub struct LogicalMessage<'a> {
    /// The prefix.
    pub prefix: &'a str,
    /// The content.
    pub content: &'a [u8],
    /// Where it comes from; it has no table.
    pub source: SourceInfo<'a>,
    /// Its place in its transaction, where that is told.
    pub transaction: Option<TransactionBlock>,
    /// The producer's clock, milliseconds since 1970.
    pub now_ms: i64,
}

/// Encodes logical messages.
#[derive(Debug)]
pub struct MessageEncoder {
    frames: Frames,
    source: SourceBlock,
    binary: BinaryHandling,
}

impl MessageEncoder {
    /// For one producer.
    #[must_use]
    pub fn new(frames: Frames, connector: &ConnectorInfo, binary: BinaryHandling) -> Self {
        Self { frames, source: SourceBlock::of_table(connector, "", ""), binary }
    }

    /// A message's record.
    #[must_use]
    pub fn encode(&self, message: &LogicalMessage<'_>) -> Encoded {
        let (mut key, mut value) = (self.frames.key.to_vec(), self.frames.value.to_vec());
        key.push(2);
        write::bytes(&mut key, message.prefix.as_bytes());
        write::bytes(&mut value, b"m");
        value.push(2);
        write::long(&mut value, message.now_ms);
        self.source.write(&message.source, &mut value);
        TransactionBlock::write(message.transaction, &mut value);
        value.push(2);
        write::bytes(&mut value, message.prefix.as_bytes());
        value.push(2);
        write::bytes(&mut value, &self.content(message.content));
        Encoded { key, value }
    }

    fn content(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match self.binary {
            BinaryHandling::Bytes => out.extend_from_slice(bytes),
            BinaryHandling::Base64 => base64::encode(bytes, false, |digit| out.push(digit)),
            BinaryHandling::Base64UrlSafe => base64::encode(bytes, true, |digit| out.push(digit)),
            BinaryHandling::Hex => out.extend(bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes())),
        }
        out
    }
}
