//! What is published beside the tables' changes, and beside their values.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use syncline_event::avro::beside::{HEARTBEAT_KEY, HEARTBEAT_VALUE};
use syncline_integration_tests::records::{self, Record};
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::Sync;

use crate::capture::Options;
use crate::case::Case;
use crate::datum::Field;

pub(crate) const OPTIONS: Options = Options {
    properties: &[
        ("provide.transaction.metadata", "true"),
        ("extended.headers.enabled", "true"),
        ("heartbeat.interval.ms", "300"),
    ],
    topics: &["message", "transaction"],
    is_json: false,
    partitions: 1,
};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "transactions",
        tables: &["first", "second"],
        before: "CREATE TABLE first (id int PRIMARY KEY, v text); CREATE TABLE second (id int PRIMARY KEY, v text);
                 INSERT INTO first VALUES (1, 'a'), (2, 'b')",
        after: &[
            "INSERT INTO first VALUES (3, 'c')",
            "BEGIN; INSERT INTO first VALUES (4, 'd'); INSERT INTO second VALUES (1, 'x'); UPDATE first SET v = 'e' WHERE id = 4; \
             UPDATE first SET id = 5 WHERE id = 4; DELETE FROM first WHERE id = 1; UPDATE second SET v = 'y'; COMMIT",
            "TRUNCATE second",
        ],
        in_step: true,
        deviations: &[],
    },
    Case {
        name: "logical messages",
        tables: &["third"],
        before: "CREATE TABLE third (id int PRIMARY KEY)",
        after: &[
            "BEGIN; SELECT pg_logical_emit_message(true, 'audit', 'in a transaction'); INSERT INTO third VALUES (1); \
             SELECT pg_logical_emit_message(true, 'audit', '\\x00ff'::bytea); COMMIT",
            "SELECT pg_logical_emit_message(false, 'outside', 'one')",
            "BEGIN; SELECT pg_logical_emit_message(true, '', ''); COMMIT",
        ],
        in_step: true,
        deviations: &[],
    },
];

/// A field of a transaction's bound without what the two sides do not have in common: where in the log Debezium saw the
/// begin, the order of its tables, and what it calls logical messages.
pub(crate) fn common(field: Field) -> Field {
    let shown = match field.path.as_str() {
        "id" => field.shown.split(':').next().unwrap_or_default().to_owned(),
        "data_collections" => match serde_json::from_str::<Vec<serde_json::Value>>(&field.shown) {
            Ok(collections) => in_order(&collections),
            Err(_) => return field,
        },
        _ => return field,
    };
    Field { path: field.path, bytes: Vec::new(), shown }
}

fn in_order(collections: &[serde_json::Value]) -> String {
    let mut counts = BTreeMap::new();
    for collection in collections {
        let name = collection["data_collection"].as_str().unwrap_or_default();
        let is_message = name.contains("$LogicalDecodingMessageId@") || name.ends_with(".message");
        *counts.entry(if is_message { "messages" } else { name }).or_insert(0) +=
            collection["event_count"].as_i64().unwrap_or_default();
    }
    format!("{counts:?}")
}

/// Both sides tell that they live in the same way; how often depends on their clocks.
pub(crate) async fn check_heartbeats(sync: &Sync) -> Result<()> {
    let ours = format!("__debezium-heartbeat.{}", sync.name);
    let debezium = format!("{}.debezium.{ours}", sync.name);
    let read = records::read(&[ours.clone(), debezium.clone()]).await?;
    let [our_records, debezium_records] = &read[..] else { anyhow::bail!("two topics were read") };
    for (topic, records, others) in [(&ours, our_records, debezium_records), (&debezium, debezium_records, our_records)]
    {
        let (record, other) = (last(records)?, last(others)?);
        ensure!(record.key == other.key, "the keys of heartbeats differ");
        let length = |record: &Record| record.value.as_ref().map(Vec::len);
        ensure!(length(record) == length(other), "the values of heartbeats differ");
        for (part, schema) in [("key", HEARTBEAT_KEY), ("value", HEARTBEAT_VALUE)] {
            let url = format!("{}/subjects/{topic}-{part}/versions/1", stack::variable("SCHEMA_REGISTRY_URL")?);
            let answer: serde_json::Value = reqwest::get(url).await?.error_for_status()?.json().await?;
            ensure!(answer["schema"].as_str() == Some(schema), "{topic}: {}", answer["schema"]);
        }
    }
    Ok(())
}

fn last(records: &[Record]) -> Result<&Record> {
    records.last().context("no heartbeat")
}
