//! The same as JSON.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syncline_integration_tests::records::Record;

use crate::capture::Pair;
use crate::compare::{by_place, records_of};

/// Fails unless keys and values are the same texts, but for clocks and the places of a snapshot.
pub(crate) fn check(pairs: &[Pair]) -> Result<()> {
    for pair in pairs {
        let (debezium, ours) = (by_place(pair.debezium.iter()), by_place(records_of(pair)?.into_iter()));
        ensure!(!debezium.is_empty(), "Debezium wrote nothing for {}", pair.about);
        let shown = |records: &[&Record]| records.iter().map(|record| text(record)).collect::<Result<Vec<_>>>();
        for (place, debezium) in &debezium {
            let ours = shown(ours.get(place).map_or(&[], Vec::as_slice))?;
            let debezium = shown(debezium)?;
            ensure!(debezium == ours, "{}, {place:?}:\n{debezium:#?}\nand ours\n{ours:#?}", pair.about);
        }
        let count = |places: &std::collections::BTreeMap<_, Vec<&Record>>| places.values().map(Vec::len).sum::<usize>();
        ensure!(count(&debezium) == count(&ours), "{}: we wrote more than Debezium", pair.about);
    }
    Ok(())
}

/// A record's key and value. Members keep their order, and numbers their digits.
fn text(record: &Record) -> Result<String> {
    let key = record.key.as_deref().map_or(Ok("none".into()), |key| String::from_utf8(key.to_vec()))?;
    let Some(value) = &record.value else { return Ok(format!("{key}: none")) };
    let mut value: Value = serde_json::from_slice(value)?;
    let is_read = value["op"] == "r";
    let source = value["source"].as_object_mut().context("no source")?;
    for name in ["ts_ms", "ts_us", "ts_ns", "lsn", "txId", "sequence", "snapshot"] {
        if is_read && source[name] != Value::Null {
            source[name] = Value::Null;
        }
    }
    for name in ["ts_ms", "ts_us", "ts_ns"] {
        ensure!(value[name].is_i64(), "no {name}");
        value[name] = 0.into();
    }
    Ok(format!("{key}: {value}"))
}
