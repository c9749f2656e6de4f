//! Keys, values and key headers of the golden records: what the source gave is taken from the SQL beside them; ids,
//! LSNs and clocks from the records themselves.

use std::sync::Arc;

use syncline_event::avro::encode::{RowChange, TableEncoder};
use syncline_event::header::{Header, Image, SourceText};
use syncline_event::operation::Operation;
use syncline_event::position::Position;
use syncline_event::table::TableDefinition;
use syncline_event::tuple::TupleCell::{self, Null, Unchanged};

use crate::definitions;
use crate::material::{Record, records};

type Row = Vec<TupleCell<'static>>;

/// A text cell.
fn t(text: &'static str) -> TupleCell<'static> {
    TupleCell::Text(text.as_bytes())
}

/// What made a record.
enum Made {
    /// A snapshot's row or an insert.
    New(Row),
    /// An update that logs no old row.
    Update(Row),
    /// An update or a delete under REPLICA IDENTITY FULL.
    Full(Row, Option<Row>),
    /// A delete that logs the old key.
    Delete(Row),
    /// The tombstone of a row's key.
    Tombstone(Row),
    /// The other half of a key change: the record as above, and the key in its header.
    Moved(Box<Made>, &'static str, Row),
    /// A truncate.
    Truncate,
}

use Made::{Delete, Full, Moved, New, Tombstone, Truncate, Update};

/// Encodes the change as the record was encoded; the header holds what the bytes do not.
fn encode(definition: &TableDefinition, record: &Record, made: &Made) -> (Option<Vec<u8>>, Option<Vec<u8>>, Header) {
    let connector = record.value().map(|_| record.connector());
    let connector = connector.unwrap_or_else(|| records("types")[0].connector());
    let ids = (record.schema_id("key"), record.schema_id("value"));
    let encoder = TableEncoder::new(Arc::new(definition.clone()), &connector, ids.0, ids.1).unwrap();
    let key = |row: &Row| {
        let mut out = Vec::new();
        encoder.key(row, &mut out).unwrap();
        (!definition.key.is_empty()).then_some(out)
    };
    let mut header = Header::new(Position::opening(1), 1);
    let mut envelope = |operation, before: Option<&Row>, before_is_key_only, after: Option<&Row>| {
        let change = RowChange {
            operation,
            before: before.map(Vec::as_slice),
            before_is_key_only,
            after: after.map(Vec::as_slice),
            source: record.source_info(),
            transaction: None,
            now_ns: record.now_ns(),
        };
        let mut out = Vec::new();
        encoder.envelope(&change, &mut out, &mut header).unwrap();
        Some(out)
    };
    let (key, value) = match made {
        New(row) => (key(row), envelope(record.operation(), None, false, Some(row))),
        Update(row) => (key(row), envelope(Operation::Update, None, false, Some(row))),
        Full(before, Some(after)) => (key(after), envelope(Operation::Update, Some(before), false, Some(after))),
        Full(before, None) => (key(before), envelope(Operation::Delete, Some(before), false, None)),
        Delete(before) => (key(before), envelope(Operation::Delete, Some(before), true, None)),
        Tombstone(row) => (key(row), None),
        Moved(made, header, other) => {
            let mut json = Vec::new();
            encoder.key_json(other, &mut json).unwrap();
            assert_eq!(record.header(header), Some(json));
            return encode(definition, record, made);
        }
        Truncate => {
            let mut out = Vec::new();
            encoder.truncate(&record.source_info(), None, record.now_ns(), &mut out);
            (None, Some(out))
        }
    };
    (key, value, header)
}

/// Checks every record of a topic against what made it; the bytes of those without headers to tell more.
fn check(definition: &TableDefinition, made: &[Made]) -> Vec<Header> {
    let records = records(&definition.table);
    assert_eq!(records.len(), made.len());
    let pairs = records.iter().zip(made).enumerate();
    pairs
        .map(|(offset, (record, made))| {
            let (key, value, header) = encode(definition, record, made);
            assert_eq!(key, record.key(), "key of {} at offset {offset}", definition.table);
            assert!(value == record.value(), "value of {} at offset {offset}", definition.table);
            header
        })
        .collect()
}

/// Only the key of the old row.
fn key_of(cells: &[TupleCell<'static>], key: &[usize]) -> Row {
    cells.iter().enumerate().map(|(index, cell)| if key.contains(&index) { *cell } else { Null }).collect()
}

#[test]
fn pkmove() {
    let id = |id| vec![t(id), Null];
    let row = |id, v| vec![t(id), t(v)];
    let headers = check(
        &definitions::pkmove(),
        &[
            New(row("1", "one")),
            Moved(Box::new(Delete(id("1"))), "__debezium.newkey", id("10")),
            Moved(Box::new(Tombstone(id("1"))), "__debezium.newkey", id("10")),
            Moved(Box::new(New(row("10", "ten"))), "__debezium.oldkey", id("1")),
            New(row("20", "t1")),
            Update(row("20", "t2")),
            Delete(id("20")),
            Tombstone(id("20")),
        ],
    );
    assert!(headers.iter().all(|header| header.texts.is_empty() && header.unchanged.is_empty()));
}

#[test]
fn compkey() {
    let row = |a, b, c, v| vec![t(a), t(b), t(c), t(v)];
    let id = |a, b, c| vec![t(a), t(b), t(c), Null];
    check(
        &definitions::compkey(),
        &[
            New(row("1", "k", "5", "v")),
            New(row("2", "k", "6", "w")),
            Update(row("2", "k", "6", "w2")),
            Moved(Box::new(Delete(id("2", "k", "6"))), "__debezium.newkey", id("2", "k", "7")),
            Moved(Box::new(Tombstone(id("2", "k", "6"))), "__debezium.newkey", id("2", "k", "7")),
            Moved(Box::new(New(row("2", "k", "7", "w2"))), "__debezium.oldkey", id("2", "k", "6")),
            Delete(id("1", "k", "5")),
            Tombstone(id("1", "k", "5")),
            New(row("20", "t", "1", "t1")),
        ],
    );
}

fn repeated(text: &str) -> &'static str {
    text.repeat(3_000).leak()
}

#[test]
fn toasted() {
    let x = repeated("x");
    let doc = format!("{{\"k\": \"{}\"}}", repeated("y")).leak();
    let bin = format!("\\x{}", repeated("ab")).leak();
    let headers = check(
        &definitions::toasted(),
        &[
            New(vec![t("1"), t("1"), t(x), t(doc), t(bin)]),
            Update(vec![t("1"), t("2"), Unchanged, Unchanged, Unchanged]),
            Update(vec![t("1"), t("2"), t(repeated("z")), Unchanged, Unchanged]),
            Delete(vec![t("1"), Null, Null, Null, Null]),
            Tombstone(vec![t("1"), Null, Null, Null, Null]),
        ],
    );
    let unchanged: Vec<_> = headers.into_iter().map(|header| header.unchanged).collect();
    assert_eq!(unchanged, [vec![], vec![2, 3, 4], vec![3, 4], vec![], vec![]]);
}

/// The new row lacks the unchanged value, the old row has it.
#[test]
fn toastfull() {
    let x = repeated("x");
    let headers = check(
        &definitions::toastfull(),
        &[
            New(vec![t("1"), t("1"), t(x)]),
            Full(vec![t("1"), t("1"), t(x)], Some(vec![t("1"), t("2"), Unchanged])),
            Full(vec![t("1"), t("2"), t(x)], None),
            Tombstone(vec![t("1"), Null, Null]),
        ],
    );
    assert!(headers.iter().all(|header| header.unchanged.is_empty()));
}

#[test]
fn truncated() {
    let row = |id, v| vec![t(id), t(v)];
    let made = [New(row("1", "a")), New(row("2", "b")), Truncate, New(row("3", "after"))];
    check(&definitions::truncated(), &made);
}

#[test]
fn nokey() {
    let row = |a, v| vec![t(a), t(v)];
    check(
        &definitions::nokey(),
        &[
            New(row("1", "v")),
            New(row("2", "w")),
            Full(row("2", "w"), Some(row("2", "w2"))),
            Full(row("1", "v"), None),
            Tombstone(row("1", "v")),
        ],
    );
}

/// All but the two records for which Debezium met the catalog after a later change.
#[test]
fn evolving() {
    let records = records("evolving");
    for (offset, version, row) in [
        (0, 1, vec![t("1"), t("before")]),
        (1, 1, vec![t("2"), t("two")]),
        (2, 2, vec![t("3"), t("three"), t("33")]),
        (5, 5, vec![t("5"), t("66"), t("zz")]),
        (6, 6, vec![t("6"), t("77"), t("aa")]),
    ] {
        let record: &Record = &records[offset];
        let (key, value, _) = encode(&definitions::evolving(version), record, &New(row));
        assert_eq!(key, record.key());
        assert_eq!(value, record.value());
    }
}

const ORDINARY: [&str; 45] = [
    "1",
    "12",
    "123456",
    "1234567890123",
    "1234.50",
    "98765.4321",
    "t",
    "text é ☃ 😀",
    "varchar",
    "ab   ",
    "6f1c2b1e-3f0a-4c57-9d0e-0a1b2c3d4e5f",
    "2024-02-29",
    "12:34:56.789012",
    "12:34:56.789",
    "12:34:56.789012+02:30",
    "2024-02-29 12:34:56.789012",
    "2024-02-29 12:34:56.789",
    "2024-02-29 11:34:56.789012+00",
    "1 year 2 mons 3 days 04:05:06.789012",
    "\\x00ff10",
    "{\"a\": 1,  \"b\":[true,null]}",
    "{\"a\": \"x\", \"b\": [1, 2.50]}",
    "{1,NULL,3}",
    "{a,\"b c\",NULL,\"quote\\\"d\"}",
    "192.168.1.5/24",
    "10.0.0.0/8",
    "08:00:2b:01:02:03",
    "happy",
    "(1.5,-2.25)",
    "1.25",
    "3.141592653589793",
    "101",
    "1",
    "10110",
    "$12.34",
    "<a>1</a>",
    "[1,10)",
    "'cat' 'fat' 'sat'",
    "{1.10,-2.20}",
    "{6f1c2b1e-3f0a-4c57-9d0e-0a1b2c3d4e5f}",
    "nn",
    "7",
    "42",
    "dflt",
    "2020-01-01 00:00:00+00",
];

const EXTREME: [&str; 45] = [
    "3",
    "-32768",
    "-2147483648",
    "-9223372036854775808",
    "-9999999999.99",
    "0.000000000000000000001",
    "f",
    "",
    "",
    "     ",
    "00000000-0000-0000-0000-000000000000",
    "0001-01-01",
    "00:00:00",
    "23:59:59.999",
    "23:59:59.999999-11",
    "1969-12-31 23:59:59.999999",
    "1900-01-01 00:00:00",
    "1582-10-04 00:00:00+00",
    "-1 years -2 mons +3 days -04:05:06",
    "\\x",
    "null",
    "{}",
    "{}",
    "{}",
    "::1",
    "2001:db8::/32",
    "ff:ff:ff:ff:ff:ff",
    "sad",
    "(0,0)",
    "NaN",
    "-Infinity",
    "000",
    "0",
    "",
    "-$0.01",
    "NULL",
    "empty",
    "",
    "{}",
    "{}",
    "",
    "-99999",
    "0",
    "",
    "1970-01-01 00:00:00+00",
];

/// A row of `types`: the given columns, and NULL or the default in the others.
fn types_row(cells: &[(&str, &'static str)]) -> Row {
    let definition = definitions::types();
    let cell = |name: &str, default: Option<&String>| {
        let given = cells.iter().find(|(column, _)| *column == name).map(|(_, text)| *text);
        given.or_else(|| Some(default?.clone().leak())).map_or(Null, t)
    };
    definition.columns.iter().map(|column| cell(&column.name, column.default_value.as_ref())).collect()
}

fn all_null(id: &'static str) -> Row {
    types_row(&[("id", id), ("c_nn_text", "all null"), ("c_nn_num", "0")])
}

/// The records of `types`, with the default where the database holds NULL in a column with a default.
fn types_made() -> Vec<Made> {
    let ordinary = |id| {
        let mut row: Row = ORDINARY.into_iter().map(t).collect();
        row[0] = t(id);
        row
    };
    let extreme = |id| {
        let mut row: Row = EXTREME.into_iter().map(|text| if text == "NULL" { Null } else { t(text) }).collect();
        row[0] = t(id);
        row
    };
    let special = types_row(&[
        ("id", "7"),
        ("c_nn_text", "special"),
        ("c_nn_num", "0"),
        ("c_num", "NaN"),
        ("c_ts", "infinity"),
        ("c_tstz", "-infinity"),
        ("c_date", "infinity"),
    ]);
    let mut changed = ordinary("1");
    (changed[2], changed[7], changed[4]) = (t("123457"), t("changed"), t("-0.01"));
    let mut updated = all_null("2");
    updated[42] = t("43");
    vec![
        New(ordinary("1")),
        New(all_null("2")),
        New(extreme("3")),
        New(ordinary("4")),
        New(all_null("5")),
        New(extreme("6")),
        New(special),
        Update(changed),
        Update(updated),
        Delete(key_of(&extreme("3"), &[0])),
        Tombstone(key_of(&extreme("3"), &[0])),
    ]
}

#[test]
fn types() {
    let headers = check(&definitions::types(), &types_made());
    let text = |column, text: &str| SourceText { image: Image::After, column, text: text.into() };
    let ordinary = vec![text(14, ORDINARY[14]), text(18, ORDINARY[18]), text(33, ORDINARY[33])];
    let extreme = vec![text(14, EXTREME[14]), text(18, EXTREME[18]), text(33, EXTREME[33])];
    let special = vec![text(5, "NaN")];
    let texts: Vec<_> = headers.into_iter().map(|header| header.texts).collect();
    let expected = [
        ordinary.clone(),
        vec![],
        extreme.clone(),
        ordinary.clone(),
        vec![],
        extreme,
        special,
        ordinary,
        vec![],
        vec![],
        vec![],
    ];
    assert_eq!(texts, expected);
}

/// The one deviation: Debezium writes the default (42, branch 0) for a NULL, we write null (branch 1).
#[test]
fn a_null_in_a_column_with_a_default_stays_null() {
    let records = records("types");
    for (offset, id) in [(1, "2"), (4, "5")] {
        let mut row = all_null(id);
        row[42] = Null;
        let (_, value, _) = encode(&definitions::types(), &records[offset], &New(row));
        let (ours, debeziums) = (value.unwrap(), records[offset].value().unwrap());
        let at = ours.iter().zip(&debeziums).position(|(ours, debeziums)| ours != debeziums).unwrap();
        assert_eq!((ours[at], &debeziums[at..at + 2]), (2, &[0, 84][..]));
        assert_eq!(ours[at + 1..], debeziums[at + 2..]);
    }
}
