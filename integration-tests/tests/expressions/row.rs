//! The table that expressions run over: in PostgreSQL, and as the events its rows become.

use std::sync::Arc;

use anyhow::Result;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use syncline_event::avro::decode::{Envelope, EnvelopeDecoder};
use syncline_event::avro::encode::{ConnectorInfo, RowChange, SnapshotMarker, SourceInfo, TableEncoder};
use syncline_event::avro::value::Value;
use syncline_event::avro::{frame, schema};
use syncline_event::handling::Handling;
use syncline_event::header::Header;
use syncline_event::operation::Operation;
use syncline_event::position::{Phase, Position};
use syncline_event::table::{Column, ColumnType, ReplicaIdentity, TableDefinition};
use syncline_event::tuple::TupleCell;
use syncline_integration_tests::random::Random;
use syncline_integration_tests::sql::execute;
use syncline_transforms::expression::Named;
use syncline_transforms::sql_type::SqlType;

/// Columns: name, declaration, type, modifier, values.
pub(crate) const COLUMNS: &[(&str, &str, SqlType, i32, &[&str])] = &[
    ("b", "boolean", SqlType::Bool, -1, &["true", "false"]),
    ("i2", "smallint", SqlType::Int2, -1, &["0", "1", "-1", "7", "32767", "-32768", "100"]),
    ("i4", "integer", SqlType::Int4, -1, &["0", "1", "-1", "42", "2147483647", "-2147483648", "-5", "1000"]),
    (
        "i8",
        "bigint",
        SqlType::Int8,
        -1,
        &["0", "1", "-3", "9223372036854775807", "-9223372036854775808", "123456789012", "10"],
    ),
    ("f4", "real", SqlType::Float4, -1, &["0", "1.5", "-2.25", "1e30", "1e-30", "NaN", "Infinity", "3.1415927", "0.1"]),
    (
        "f8",
        "double precision",
        SqlType::Float8,
        -1,
        &[
            "0",
            "2.5",
            "3.5",
            "-0.5",
            "1e300",
            "1e-300",
            "NaN",
            "-Infinity",
            "123456.789",
            "1e15",
            "123456789012345",
            "0.0001",
            "0.00001",
            "-0",
        ],
    ),
    (
        "n",
        "numeric",
        SqlType::Numeric,
        -1,
        &[
            "0",
            "1.50",
            "-2.5",
            "NaN",
            "123456789012345678901234567890.123456789",
            "0.000001",
            "1e20",
            "-7",
            "99999.99995",
            "Infinity",
            "12",
            "3.00",
        ],
    ),
    (
        "n2",
        "numeric(12,2)",
        SqlType::Numeric,
        ((12 << 16) | 2) + 4,
        &["0.00", "19.99", "-0.01", "1234567.89", "10", "-3.5"],
    ),
    (
        "t",
        "text COLLATE \"C\"",
        SqlType::Text,
        -1,
        &[
            "",
            "a",
            "Hello World",
            "  pad  ",
            "ÄÖü ß",
            "a,b,,c",
            "100%",
            "x_y",
            "back\\slash",
            "12",
            "-3.50",
            "2024-02-29",
            "true",
            "hello",
            "日本語",
            "aaa",
            "A.b-C",
        ],
    ),
    ("v", "varchar(20) COLLATE \"C\"", SqlType::Text, 24, &["", "abc", "ABC", "hello world", "7", "ünïcode", "a b c"]),
    ("c", "char(5) COLLATE \"C\"", SqlType::Bpchar, 9, &["", "ab", "abcde", "x", "AB"]),
    (
        "d",
        "date",
        SqlType::Date,
        -1,
        &[
            "2024-02-29",
            "2000-01-01",
            "1999-12-31",
            "infinity",
            "-infinity",
            "0044-03-15 BC",
            "2023-03-26",
            "1970-01-01",
            "2021-01-03",
            "2020-12-31",
        ],
    ),
    ("tm", "time", SqlType::Time, -1, &["00:00:00", "12:34:56.789012", "23:59:59.999999", "24:00:00", "08:05:00"]),
    (
        "ts",
        "timestamp",
        SqlType::Timestamp,
        -1,
        &[
            "2024-02-29 12:34:56.789012",
            "2000-01-01 00:00:00",
            "1999-12-31 23:59:59.5",
            "infinity",
            "2023-03-26 02:30:00",
            "2023-10-29 02:30:00",
            "1969-07-20 20:17:40",
            "0001-01-01 00:00:00",
            "0100-12-31 23:00:00 BC",
        ],
    ),
    (
        "tz",
        "timestamptz",
        SqlType::Timestamptz,
        -1,
        &[
            "2024-02-29 12:34:56.789012+00",
            "2000-01-01 00:00:00+00",
            "-infinity",
            "2023-03-26 01:30:00+00",
            "1985-06-15 23:30:00.25+00",
            "2023-10-29 00:30:00+00",
        ],
    ),
    (
        "iv",
        "interval",
        SqlType::Interval,
        -1,
        &[
            "1 day",
            "-1 month",
            "2 years 3 mons 4 days 05:06:07.89",
            "00:00:00",
            "-3 days +02:00:00",
            "36:00:00",
            "1 year -1 mons",
        ],
    ),
    (
        "j",
        "json",
        SqlType::Json,
        -1,
        &[
            "{\"a\": 1, \"b\": [1,2,{\"c\":null}], \"a\": \"two\"}",
            "[1, \"x\", null]",
            "\"text\"",
            "12.50",
            "{}",
            "null",
            "{\"k\\u00e9\": \"v\\n\"}",
        ],
    ),
    (
        "jb",
        "jsonb",
        SqlType::Jsonb,
        -1,
        &[
            "{\"bb\": 1.0, \"a\": [true, false], \"ccc\": {\"x\": \"y\"}}",
            "[3, [4], \"z\"]",
            "{}",
            "{\"a\": null}",
            "7",
        ],
    ),
    ("u", "uuid", SqlType::Uuid, -1, &["123e4567-e89b-12d3-a456-426614174000", "00000000-0000-0000-0000-000000000000"]),
    ("y", "bytea", SqlType::Bytea, -1, &["\\x", "\\x00ff", "\\x48656c6c6f"]),
];

const SOURCE: SourceInfo<'_> = SourceInfo {
    ts_us: 1,
    snapshot: SnapshotMarker::False,
    sequence: (None, 1),
    tx_id: Some(1),
    lsn: 1,
    origin: None,
    origin_lsn: None,
};

/// Rows as events.
pub(crate) struct Table {
    pub(crate) names: Vec<Named>,
    decoder: EnvelopeDecoder,
    events: Vec<(Vec<u8>, Header)>,
}

impl Table {
    /// Makes the table and its rows, reads them back as text, and encodes them as the producer would.
    pub(crate) async fn make(conn: &mut PgConnection, random: &mut Random, rows: usize) -> Result<Self> {
        let declared: Vec<String> = COLUMNS.iter().map(|(name, declared, ..)| format!("{name} {declared}")).collect();
        execute(conn, format!("CREATE TABLE t (id int PRIMARY KEY, {})", declared.join(", "))).await?;
        super::make_function(conn).await?;
        for id in 0..rows {
            let values: Vec<String> = COLUMNS
                .iter()
                .map(|(.., values)| match random.below(7) {
                    0 => "NULL".to_owned(),
                    _ => format!("'{}'", values[random.below(values.len() as u64) as usize]),
                })
                .collect();
            // Standard strings: a backslash is one.
            execute(conn, format!("INSERT INTO t VALUES ({id}, {})", values.join(", "))).await?;
        }
        let definition = Arc::new(definition());
        let connector = ConnectorInfo { version: "3.6.0.Final".into(), name: "p".into(), db: "d".into() };
        let encoder = TableEncoder::new(Arc::clone(&definition), &connector, 1, 2)?;
        let decoder = EnvelopeDecoder::compile(&schema::envelope_schema(&definition), &definition)?;
        let printed: Vec<String> =
            definition.columns.iter().map(|column| format!("{0}::text AS {0}", column.name)).collect();
        let query = format!("SELECT {} FROM t ORDER BY t.id", printed.join(", "));
        let mut events = Vec::new();
        for row in sqlx::raw_sql(AssertSqlSafe(query)).fetch_all(conn).await? {
            let mut texts: Vec<Option<String>> = Vec::new();
            for column in &definition.columns {
                let text: Option<String> = row.try_get(column.name.as_str())?;
                // char(n) loses its blanks by the cast, and the log has them.
                texts.push(text.map(|text| if column.name == "c" { format!("{text:<5}") } else { text }));
            }
            let cells: Vec<TupleCell<'_>> = texts
                .iter()
                .map(|text| text.as_ref().map_or(TupleCell::Null, |text| TupleCell::Text(text.as_bytes())))
                .collect();
            let position = Position { epoch: 1, phase: Phase::Stream, lsn: 1, number: 1, sub: 0 };
            let mut header = Header::new(position, 1);
            let change = RowChange {
                operation: Operation::Create,
                before: None,
                before_is_key_only: true,
                after: Some(&cells),
                source: SOURCE,
                transaction: None,
                now_ns: 0,
            };
            let mut value = Vec::new();
            encoder.envelope(&change, &mut value, &mut header)?;
            events.push((value, header));
        }
        let names = definition.columns.iter().enumerate();
        let names = names
            .map(|(index, column)| Named {
                name: column.name.clone(),
                column: index,
                column_type: column.column_type.clone(),
            })
            .collect();
        Ok(Self { names, decoder, events })
    }

    /// Decodes a row for as long as `use_row` runs.
    pub(crate) fn with_row<T>(&self, row: usize, use_row: impl for<'a> FnOnce(&[Value<'a>]) -> T) -> T {
        let (bytes, header) = &self.events[row];
        let (_, datum) = frame::split(bytes).expect("the encoder framed it");
        let mut envelope = Envelope::new();
        self.decoder.decode(datum, &mut envelope).expect("the encoder wrote it");
        envelope.apply_header(header).expect("the header belongs to it");
        use_row(&envelope.after.values)
    }
}

fn definition() -> TableDefinition {
    let column = |name: &str, column_type: ColumnType, nullable: bool| Column {
        name: name.into(),
        field: name.into(),
        column_type,
        nullable,
        identity: None,
        generated: None,
        default: None,
        default_value: None,
        missing_value: None,
    };
    let mut columns = vec![column("id", SqlType::Int4.column_type(-1), false)];
    columns.extend(
        COLUMNS.iter().map(|(name, _, sql_type, modifier, _)| column(name, sql_type.column_type(*modifier), true)),
    );
    TableDefinition {
        topic: "p.public.t".into(),
        number: 1,
        schema: "public".into(),
        table: "t".into(),
        columns,
        key: vec![0],
        replica_identity: ReplicaIdentity::Default,
        handling: Handling::default(),
    }
}
