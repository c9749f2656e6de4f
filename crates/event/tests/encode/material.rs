//! The golden records and schemas, read from their files.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use syncline_event::avro::encode::{ConnectorInfo, SnapshotMarker, SourceInfo};
use syncline_event::operation::Operation;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/debezium-pg")
}

/// The registered schema of a subject's version, such as `gold.public.types-value.v1`.
pub(crate) fn schema(version: &str) -> String {
    fs::read_to_string(folder().join(format!("schemas/{version}.avsc"))).unwrap()
}

/// One record of a table's topic.
pub(crate) struct Record(Value);

/// The records of a table's topic in offset order.
pub(crate) fn records(table: &str) -> Vec<Record> {
    let path = folder().join(format!("records/gold.public.{table}.jsonl"));
    fs::read_to_string(path).unwrap().lines().map(|line| Record(serde_json::from_str(line).unwrap())).collect()
}

impl Record {
    pub(crate) fn key(&self) -> Option<Vec<u8>> {
        self.0["key_hex"].as_str().map(unhex)
    }

    pub(crate) fn value(&self) -> Option<Vec<u8>> {
        self.0["value_hex"].as_str().map(unhex)
    }

    pub(crate) fn schema_id(&self, part: &str) -> u32 {
        self.0[format!("{part}_schema_id")].as_u64().map_or(0, |id| u32::try_from(id).unwrap())
    }

    pub(crate) fn operation(&self) -> Operation {
        Operation::from_code(self.0["value"]["op"].as_str().unwrap()).unwrap()
    }

    pub(crate) fn now_ns(&self) -> i64 {
        self.0["value"]["ts_ns"].as_i64().unwrap()
    }

    /// The key of the other half of a key change, from the header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<Vec<u8>> {
        let headers = self.0["headers"].as_array().unwrap();
        headers.iter().find(|header| header[0] == name).map(|header| unhex(header[1].as_str().unwrap()))
    }

    pub(crate) fn connector(&self) -> ConnectorInfo {
        let text = |field: &str| self.source(field).as_str().unwrap().to_owned();
        ConnectorInfo { version: text("version"), name: text("name"), db: text("db") }
    }

    pub(crate) fn source_info(&self) -> SourceInfo<'_> {
        let sequence: Vec<Option<String>> = serde_json::from_str(self.source("sequence").as_str().unwrap()).unwrap();
        let lsn = |text: &Option<String>| text.as_ref().map(|lsn| lsn.parse().unwrap());
        SourceInfo {
            ts_us: self.source("ts_us").as_i64().unwrap(),
            snapshot: match self.source("snapshot").as_str().unwrap() {
                "false" => SnapshotMarker::False,
                "true" => SnapshotMarker::True,
                "first" => SnapshotMarker::First,
                "first_in_data_collection" => SnapshotMarker::FirstInDataCollection,
                "last_in_data_collection" => SnapshotMarker::LastInDataCollection,
                "last" => SnapshotMarker::Last,
                other => panic!("no such marker: {other}"),
            },
            sequence: (lsn(&sequence[0]), lsn(&sequence[1]).unwrap()),
            tx_id: self.source("txId").as_i64(),
            lsn: self.source("lsn").as_u64().unwrap(),
            origin: self.source("origin").as_str(),
            origin_lsn: self.source("origin_lsn").as_u64(),
        }
    }

    fn source(&self, field: &str) -> &Value {
        &self.0["value"]["source"][field]
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2).unwrap(), 16).unwrap()).collect()
}
