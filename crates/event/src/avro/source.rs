//! The source block and what stands behind it in an envelope (Debezium's `PostgresSourceInfoStructMaker`).

use super::encode::ConnectorInfo;
use super::write;
use crate::table::TableDefinition;

/// Debezium's `source.snapshot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotMarker {
    /// `false`: not from a snapshot.
    False,
    /// `true`: in the middle of a snapshot.
    True,
    /// `first`: the snapshot's first row.
    First,
    /// `first_in_data_collection`: a table's first row.
    FirstInDataCollection,
    /// `last_in_data_collection`: a table's last row.
    LastInDataCollection,
    /// `last`: the snapshot's last row.
    Last,
    /// `incremental`: read while the log is followed. Such a row has no transaction and no place in the log.
    Incremental,
}

impl SnapshotMarker {
    fn code(self) -> &'static str {
        match self {
            Self::False => "false",
            Self::True => "true",
            Self::First => "first",
            Self::FirstInDataCollection => "first_in_data_collection",
            Self::LastInDataCollection => "last_in_data_collection",
            Self::Last => "last",
            Self::Incremental => "incremental",
        }
    }
}

/// Where a change comes from: the parts of the source block that differ between records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceInfo<'a> {
    /// The transaction's commit time, or the snapshot's time: microseconds since 1970.
    pub ts_us: i64,
    /// The snapshot marker.
    pub snapshot: SnapshotMarker,
    /// Where the last transaction before this one ends, and the event's own LSN.
    pub sequence: (Option<u64>, u64),
    /// The transaction's id.
    pub tx_id: Option<i64>,
    /// The event's LSN.
    pub lsn: u64,
    /// The replication origin's name.
    pub origin: Option<&'a str>,
    /// The commit's LSN at the origin.
    pub origin_lsn: Option<u64>,
}

/// Debezium's transaction block (`event.block`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionBlock {
    /// The transaction's id.
    pub transaction: u32,
    /// The event's LSN, which Debezium makes part of the id.
    pub lsn: u64,
    /// The event's number in the transaction, from 1.
    pub total_order: u64,
    /// Its number among those of its table, from 1.
    pub data_collection_order: u64,
}

impl TransactionBlock {
    /// Debezium's id (`PostgresTransactionMonitor`): `transaction:lsn`.
    #[must_use]
    pub fn id(transaction: u32, lsn: u64) -> String {
        format!("{transaction}:{lsn}")
    }

    /// The place behind this one, of an event of the same table.
    #[must_use]
    pub fn following(self) -> Self {
        let (total_order, data_collection_order) = (self.total_order + 1, self.data_collection_order + 1);
        Self { total_order, data_collection_order, ..self }
    }

    pub(super) fn write(block: Option<Self>, out: &mut Vec<u8>) {
        let Some(block) = block else { return out.push(0) };
        out.push(2);
        write::bytes(out, Self::id(block.transaction, block.lsn).as_bytes());
        write::long(out, block.total_order.cast_signed());
        write::long(out, block.data_collection_order.cast_signed());
    }
}

/// The parts of the source block that are the same for every row of a table, encoded once.
#[derive(Debug)]
pub(super) struct SourceBlock {
    connector: Box<[u8]>,
    database: Box<[u8]>,
    table: Box<[u8]>,
}

impl SourceBlock {
    pub(super) fn new(connector: &ConnectorInfo, definition: &TableDefinition) -> Self {
        Self::of_table(connector, &definition.schema, &definition.table)
    }

    pub(super) fn of_table(connector: &ConnectorInfo, schema: &str, table: &str) -> Self {
        Self {
            connector: write::built(|out| {
                write::bytes(out, connector.version.as_bytes());
                write::bytes(out, b"postgresql");
                write::bytes(out, connector.name.as_bytes());
            }),
            database: write::built(|out| write::bytes(out, connector.db.as_bytes())),
            table: write::built(|out| {
                write::bytes(out, schema.as_bytes());
                write::bytes(out, table.as_bytes());
            }),
        }
    }

    /// Appends the source block.
    pub(super) fn write(&self, source: &SourceInfo<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.connector);
        write::long(out, source.ts_us.div_euclid(1_000));
        // This union has its null last.
        out.push(0);
        write::bytes(out, source.snapshot.code().as_bytes());
        out.extend_from_slice(&self.database);
        let placed = source.snapshot != SnapshotMarker::Incremental;
        if placed {
            sequence(source.sequence, out);
        } else {
            out.push(2);
            write::bytes(out, b"[null,null]");
        }
        some_long(out, source.ts_us);
        some_long(out, source.ts_us.wrapping_mul(1_000));
        out.extend_from_slice(&self.table);
        optional_long(out, source.tx_id);
        optional_long(out, placed.then_some(source.lsn.cast_signed()));
        // xmin is for Debezium's own use.
        out.push(0);
        match source.origin {
            Some(origin) => {
                out.push(2);
                write::bytes(out, origin.as_bytes());
            }
            None => out.push(0),
        }
        optional_long(out, source.origin_lsn.map(u64::cast_signed));
    }
}

/// The three clocks that end an envelope: milliseconds, microseconds and nanoseconds.
pub(super) fn write_clocks(now_ns: i64, out: &mut Vec<u8>) {
    some_long(out, now_ns.div_euclid(1_000_000));
    some_long(out, now_ns.div_euclid(1_000));
    some_long(out, now_ns);
}

/// `["<last commit>","<event>"]`, or `[null,"<event>"]`.
fn sequence((last_commit, event): (Option<u64>, u64), out: &mut Vec<u8>) {
    // Longest: two numbers of 20 digits and 7 characters around them.
    let mut text = [0_u8; 48];
    let mut length = 0;
    let mut push = |bytes: &[u8]| {
        text[length..length + bytes.len()].copy_from_slice(bytes);
        length += bytes.len();
    };
    let mut digits = [0; 20];
    match last_commit {
        Some(lsn) => {
            push(b"[\"");
            push(decimal(lsn, &mut digits));
            push(b"\",\"");
        }
        None => push(b"[null,\""),
    }
    push(decimal(event, &mut digits));
    push(b"\"]");
    out.push(2);
    write::bytes(out, &text[..length]);
}

fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[start..];
        }
    }
}

fn some_long(out: &mut Vec<u8>, value: i64) {
    out.push(2);
    write::long(out, value);
}

fn optional_long(out: &mut Vec<u8>, value: Option<i64>) {
    match value {
        Some(value) => some_long(out, value),
        None => out.push(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sequences_are_json(last_commit in any::<Option<u64>>(), event in any::<u64>()) {
            let mut out = Vec::new();
            sequence((last_commit, event), &mut out);
            let expected = match last_commit {
                Some(lsn) => format!("[\"{lsn}\",\"{event}\"]"),
                None => format!("[null,\"{event}\"]"),
            };
            prop_assert_eq!(&out[2..], expected.as_bytes());
        }
    }
}
