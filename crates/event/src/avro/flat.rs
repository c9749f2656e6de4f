//! A flattened change: the row alone, with what Debezium's `ExtractNewRecordState` adds to it.
//!
//! Source: `io.debezium.transforms.ExtractNewRecordState`: a delete is a record without a value, or the old row with
//! `__deleted` (`delete.tombstone.handling.mode=rewrite`); `add.fields` puts parts of the envelope in front of which
//! stands `__`, and, for parts of its blocks, `__source_` or `__transaction_`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::operation::Operation;

use super::envelope::Envelope;
use super::plan::{RowPlan, Unsupported};
use super::reader::{Problem, Reader};
use super::skip::SkipTable;
use super::value::Value;
use super::writer_schema::WriterSchema;

/// The field that tells deletes.
const DELETED: &str = "__deleted";
const OPERATION: &str = "__op";
/// Fields with the time of the source's commit, the most exact first, and what makes microseconds of them.
const TIMES: [(&str, i64, i64); 4] =
    [("__source_ts_us", 1, 1), ("__source_ts_ns", 1, 1_000), ("__source_ts_ms", 1_000, 1), ("__ts_ms", 1_000, 1)];

/// Parts of an envelope that `add.fields` may name alone.
const PARTS: &[&str] = &[
    "op",
    "deleted",
    "ts_ms",
    "ts_us",
    "ts_ns",
    "version",
    "connector",
    "name",
    "snapshot",
    "db",
    "sequence",
    "schema",
    "table",
    "collection",
    "txId",
    "lsn",
    "xmin",
    "origin",
    "origin_lsn",
    "server_id",
    "gtid",
    "file",
    "pos",
    "row",
    "thread",
    "query",
    "change_lsn",
    "commit_lsn",
    "event_serial_no",
    "id",
    "total_order",
    "data_collection_order",
];

/// Whether a field of a flattened row was added by the transformation.
pub(super) fn is_added(field: &str) -> bool {
    field
        .strip_prefix("__")
        .is_some_and(|name| PARTS.contains(&name) || name.starts_with("source_") || name.starts_with("transaction_"))
}

/// Reads flattened rows.
#[derive(Debug)]
pub(super) struct FlatPlan {
    row: RowPlan,
    /// Number of columns; the added fields that are read follow in the slots behind them.
    width: usize,
    deleted: Option<usize>,
    operation: Option<usize>,
    time: Option<(usize, i64, i64)>,
}

impl FlatPlan {
    pub(super) fn compile(
        schema: &WriterSchema,
        columns: &HashMap<&str, usize>,
        width: usize,
        skips: &Arc<SkipTable>,
    ) -> Result<Self, Unsupported> {
        let (_, fields) = schema.record(schema.root).unwrap_or_default();
        let mut slots = columns.clone();
        let mut next = width;
        let mut slot = |name: &'static str| {
            let there = fields.iter().any(|field| field.name == name);
            there.then(|| {
                *slots.entry(name).or_insert_with(|| {
                    next += 1;
                    next - 1
                })
            })
        };
        let (deleted, operation) = (slot(DELETED), slot(OPERATION));
        let time = TIMES.iter().find_map(|(name, times, parts)| slot(name).map(|slot| (slot, *times, *parts)));
        let row = RowPlan::compile(schema, schema.root, &slots, next, skips)?;
        Ok(Self { row, width, deleted, operation, time })
    }

    pub(super) fn read<'a>(
        &'a self,
        reader: &mut Reader<'a>,
        out: &mut Envelope<'a>,
    ) -> Result<(), (&'a str, Problem)> {
        let values = &mut out.after.values;
        self.row.read(reader, values).map_err(|fault| (self.row.field(fault), fault.problem))?;
        let value = |slot: Option<usize>| slot.and_then(|slot| values.get(slot)).copied();
        let deleted = matches!(value(self.deleted), Some(Value::Text("true") | Value::Boolean(true)));
        let operation = match value(self.operation) {
            Some(Value::Text(code)) => Operation::from_code(code).ok_or((OPERATION, Problem::Operation))?,
            // What may lack columns may only be an update.
            _ => Operation::Update,
        };
        out.source_ts_us = self.time.map_or(0, |(slot, times, parts)| match value(Some(slot)) {
            Some(Value::Integer(time)) => time.saturating_mul(times) / parts,
            _ => 0,
        });
        values.truncate(self.width);
        if deleted || operation == Operation::Delete {
            out.operation = Operation::Delete;
            std::mem::swap(&mut out.before.values, &mut out.after.values);
            out.before.present = true;
        } else {
            out.operation = operation;
            out.after.present = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avro::decode::EnvelopeDecoder;
    use crate::avro::{infer, write};

    const KEY: &str = r#"{"type":"record","name":"p.s.t.Key","fields":[{"name":"id","type":"int"}]}"#;

    fn schema(added: &str) -> String {
        format!(
            r#"{{"type":"record","name":"p.s.t.Value","fields":[{{"name":"id","type":"int"}},
               {{"name":"__note","type":["null","string"]}}{added}]}}"#
        )
    }

    fn datum(parts: &[&str]) -> Vec<u8> {
        let mut out = vec![2, 2];
        write::bytes(&mut out, b"n");
        for part in parts {
            write::bytes(&mut out, part.as_bytes());
        }
        out
    }

    #[test]
    fn every_delete_mode_is_told_apart_and_added_fields_are_no_columns() {
        let text = |name: &str| format!(r#",{{"name":"{name}","type":"string"}}"#);
        for (added, values, expected) in [
            (String::new(), &[][..], Operation::Update),
            (text("__deleted"), &["false"], Operation::Update),
            (text("__deleted"), &["true"], Operation::Delete),
            (text("__op"), &["c"], Operation::Create),
            (text("__op"), &["d"], Operation::Delete),
            (format!("{}{}", text("__op"), text("__deleted")), &["d", "true"], Operation::Delete),
            (format!("{}{}", text("__table"), text("__source_db")), &["t", "d"], Operation::Update),
        ] {
            let schema = schema(&added);
            let definition = infer::definition("p.s.t", Some(KEY), &schema).unwrap();
            let names: Vec<&str> = definition.columns.iter().map(|column| column.name.as_str()).collect();
            assert_eq!(names, ["id", "__note"], "a column may begin with underscores");
            let decoder = EnvelopeDecoder::compile(&schema, &definition).unwrap();
            let (bytes, mut out) = (datum(values), Envelope::new());
            decoder.decode(&bytes, &mut out).unwrap();
            assert_eq!(out.operation, expected, "{added}");
            let image = if expected == Operation::Delete { &out.before } else { &out.after };
            assert!(image.present);
            assert_eq!(image.values, [Value::Integer(1), Value::Text("n")]);
        }
    }

    #[test]
    fn the_commits_time_is_taken_from_the_most_exact_field() {
        let schema = schema(r#",{"name":"__source_ts_ms","type":["null","long"]}"#);
        let definition = infer::definition("p.s.t", Some(KEY), &schema).unwrap();
        let decoder = EnvelopeDecoder::compile(&schema, &definition).unwrap();
        let mut bytes = datum(&[]);
        bytes.push(2);
        write::long(&mut bytes, 1_700_000_000_123);
        let mut out = Envelope::new();
        decoder.decode(&bytes, &mut out).unwrap();
        assert_eq!(out.source_ts_us, 1_700_000_000_123_000);
    }
}
