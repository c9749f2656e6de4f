//! Every type that is captured goes through the event and into PostgreSQL, and comes out as it went in.

use std::sync::Arc;

use anyhow::Result;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use syncline_event::avro::decode::{Envelope, EnvelopeDecoder};
use syncline_event::avro::encode::{ConnectorInfo, RowChange, SnapshotMarker, SourceInfo, TableEncoder};
use syncline_event::avro::schema::{envelope_schema, unsupported_columns};
use syncline_event::header::Header;
use syncline_event::operation::Operation;
use syncline_event::table::{Column, ColumnType, TypeKind};
use syncline_event::tuple::TupleCell;
use syncline_integration_tests::conformance::{Change, at, column, definition, step, table_batch, write};
use syncline_integration_tests::postgres_site::PostgresSite;

/// Types and values as PostgreSQL reads them; every value goes through the Avro form and the target and must come out
/// as it went in.
const VALUES: &[(&str, &[&str])] = &[
    ("smallint", &["-32768", "0", "32767"]),
    ("integer", &["-2147483648", "0", "2147483647"]),
    ("bigint", &["-9223372036854775808", "0", "9223372036854775807"]),
    ("oid", &["0", "4294967295"]),
    ("boolean", &["t", "f"]),
    ("real", &["0", "-0", "1.25", "3.4028235e+38", "1e-45", "NaN", "Infinity", "-Infinity"]),
    (
        "double precision",
        &["0", "-0", "3.141592653589793", "1.7976931348623157e+308", "5e-324", "NaN", "Infinity", "-Infinity"],
    ),
    (
        "numeric",
        &[
            "0",
            "0.00",
            "1.50",
            "-98765.4321",
            "0.000000000000000000001",
            "1e100",
            "12345678901234567890123456789.00",
            "NaN",
            "Infinity",
            "-Infinity",
        ],
    ),
    ("numeric(12,2)", &["0", "1234.50", "-9999999999.99", "NaN"]),
    ("numeric(38,0)", &["99999999999999999999999999999999999999", "-1"]),
    ("money", &["0", "12.34", "-0.01", "92233720368547758.07", "-92233720368547758.08"]),
    ("text", &["", "text é ☃ 😀", "it's \\ \"quoted\"\n\ttab", "NULL"]),
    ("varchar(40)", &["", "varchar"]),
    ("char(5)", &["", "ab"]),
    ("name", &["a_name"]),
    (
        "uuid",
        &[
            "00000000-0000-0000-0000-000000000000",
            "6f1c2b1e-3f0a-4c57-9d0e-0a1b2c3d4e5f",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
    ),
    ("bytea", &["\\x", "\\x00ff10", "\\x5c27"]),
    ("json", &["null", "{\"a\": 1,  \"b\":[true,null]}"]),
    ("jsonb", &["null", "{}", "{\"b\": [1, 2.50], \"a\": \"x\"}"]),
    ("xml", &["<a>1</a>"]),
    ("date", &["2024-02-29", "0001-01-01", "4713-01-01 BC", "5874897-12-31", "infinity", "-infinity"]),
    ("time", &["00:00:00", "12:34:56.789012", "23:59:59.999999", "24:00:00"]),
    ("time(3)", &["12:34:56.789"]),
    ("timetz", &["12:34:56.789012+02:30", "23:59:59.999999-11", "00:00:00+00", "24:00:00-15:59:59"]),
    (
        "timestamp",
        &[
            "2024-02-29 12:34:56.789012",
            "1969-12-31 23:59:59.999999",
            "0001-01-01 00:00:00",
            "4713-01-01 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "infinity",
            "-infinity",
        ],
    ),
    ("timestamp(3)", &["2024-02-29 12:34:56.789", "1900-01-01", "infinity"]),
    (
        "timestamptz",
        &[
            "2024-02-29 12:34:56.789012+01",
            "1582-10-04 00:00:00+00",
            "0001-01-01 00:00:00+00 BC",
            "10000-01-01 00:00:00+00",
            "294276-12-31 23:59:59.999999+00",
            "infinity",
            "-infinity",
        ],
    ),
    (
        "interval",
        &[
            "00:00:00",
            "1 year 2 mons 3 days 04:05:06.789012",
            "-1 year -2 mons +3 days -04:05:06",
            "1 day",
            "24:00:00",
            "-00:00:01.5",
        ],
    ),
    ("bit(1)", &["0", "1"]),
    ("bit(3)", &["000", "101", "001"]),
    ("bit(10)", &["0100000000"]),
    ("varbit", &["", "10110", "0001"]),
    ("varbit(1)", &["", "0", "1"]),
    ("varbit(10)", &["", "10110", "0000010110", "0001"]),
    ("point", &["(1.5,-2.25)", "(0,0)", "(1e+300,NaN)"]),
    ("inet", &["192.168.1.5/24", "::1"]),
    ("cidr", &["10.0.0.0/8", "2001:db8::/32"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("int4range", &["empty", "[1,10)", "(,)"]),
    ("int8range", &["[1,10)"]),
    ("numrange", &["[1.10,2.20]"]),
    ("tsrange", &["[\"2024-01-01 00:00:00\",)"]),
    ("tstzrange", &["[\"2024-01-01 00:00:00+00\",)"]),
    ("daterange", &["[2024-01-01,2024-02-01)"]),
    ("tsvector", &["", "'cat' 'fat' 'sat'"]),
    ("mood", &["sad", "so so"]),
    ("smallint[]", &["{}", "{1,NULL,-3}"]),
    ("integer[]", &["{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={1,2}"]),
    ("bigint[]", &["{9223372036854775807}"]),
    ("boolean[]", &["{t,f,NULL}"]),
    ("real[]", &["{1.25,NaN,-Infinity}"]),
    ("double precision[]", &["{3.141592653589793,5e-324}"]),
    ("text[]", &["{}", "{\"a\",\"b c\",NULL,\"quote\\\"d\",\"\",\"NULL\",\"back\\\\slash\",\"{}\"}"]),
    ("varchar(10)[]", &["{\"a\",\"b c\"}"]),
    ("char(3)[]", &["{ab,c}"]),
    ("numeric(6,2)[]", &["{1.10,-2.20}", "{NaN}"]),
    ("numeric[]", &["{1.10,-2.200,NULL}"]),
    ("uuid[]", &["{6f1c2b1e-3f0a-4c57-9d0e-0a1b2c3d4e5f}"]),
    ("bytea[]", &["{\"\\\\x00ff\",NULL}"]),
    ("date[]", &["{2024-02-29,infinity}"]),
    ("time[]", &["{12:34:56.789012}"]),
    ("timestamp[]", &["{\"2024-02-29 12:34:56.789012\"}"]),
    ("timestamptz[]", &["{\"2024-02-29 12:34:56.789012+00\"}"]),
    ("json[]", &["{\"{\\\"a\\\": 1}\"}"]),
    ("jsonb[]", &["{\"{\\\"a\\\": 1}\"}"]),
    ("inet[]", &["{192.168.1.5/24}"]),
    ("int4range[]", &["{\"[1,10)\"}"]),
    ("mood[]", &["{sad,NULL,\"so so\"}"]),
];

async fn described(conn: &mut PgConnection, table: &str) -> Result<Vec<Column>> {
    let rows = sqlx::query(
        "SELECT a.attname::text AS name, a.attnotnull, t.oid::int8 AS oid, t.typname::text AS type, n.nspname::text AS schema, \
         a.atttypmod, format_type(t.oid, a.atttypmod) AS format, t.typelem::int8 AS element, \
         ARRAY(SELECT enumlabel::text FROM pg_enum e WHERE e.enumtypid IN (t.oid, t.typelem) ORDER BY enumsortorder) AS labels, \
         t.typcategory::text AS category, e.typname::text AS element_type, en.nspname::text AS element_schema, \
         format_type(e.oid, a.atttypmod) AS element_format \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace \
         LEFT JOIN pg_type e ON e.oid = t.typelem LEFT JOIN pg_namespace en ON en.oid = e.typnamespace \
         WHERE a.attrelid = $1::regclass AND a.attnum > 0 ORDER BY a.attnum",
    )
    .bind(table)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let labels: Vec<String> = row.try_get("labels")?;
            let of_labels =
                |labels: Vec<String>| if labels.is_empty() { TypeKind::Base } else { TypeKind::Enum { labels } };
            let modifier = row.try_get("atttypmod")?;
            let kind = if row.try_get::<String, _>("category")? == "A" {
                TypeKind::Array {
                    element: Box::new(ColumnType {
                        oid: u32::try_from(row.try_get::<i64, _>("element")?)?,
                        name: row.try_get("element_type")?,
                        schema: row.try_get("element_schema")?,
                        modifier,
                        format: row.try_get("element_format")?,
                        kind: of_labels(labels),
                        domain: None,
                    }),
                }
            } else {
                of_labels(labels)
            };
            let column_type = ColumnType {
                oid: u32::try_from(row.try_get::<i64, _>("oid")?)?,
                name: row.try_get("type")?,
                schema: row.try_get("schema")?,
                modifier,
                format: row.try_get("format")?,
                kind,
                domain: None,
            };
            let name: String = row.try_get("name")?;
            Ok(Column { nullable: !row.try_get::<bool, _>("attnotnull")?, ..column(&name, column_type) })
        })
        .collect()
}

#[tokio::test]
async fn every_type_round_trips_through_the_event_and_the_target() -> Result<()> {
    let site = PostgresSite::new("types").await?;
    let mut conn = site.database.connect().await?;
    let mut create = String::from(
        "CREATE TYPE mood AS ENUM ('sad', 'so so'); CREATE SCHEMA src; CREATE TABLE src.types (id bigint PRIMARY KEY",
    );
    for (index, (name, _)) in VALUES.iter().enumerate() {
        create.push_str(&format!(", c{index} {name}"));
    }
    create.push(')');
    site.execute(&create).await?;
    let longest = VALUES.iter().map(|(_, values)| values.len()).max().unwrap();
    for id in 0..=longest {
        let values: Vec<String> = VALUES
            .iter()
            .map(|(_, values)| values.get(id).map_or("NULL".into(), |value| format!("'{}'", value.replace('\'', "''"))))
            .collect();
        site.execute(&format!("INSERT INTO src.types VALUES ({id}, {})", values.join(", "))).await?;
    }

    let columns = described(&mut conn, "src.types").await?;
    let width = columns.len();
    let mut shape = definition("dst", "types", columns, vec![0]);
    assert_eq!(unsupported_columns(&shape), []);
    shape.number = 1;
    let shape = Arc::new(shape);
    let connector = ConnectorInfo { version: "3.6.3.Final".into(), name: "p".into(), db: "d".into() };
    let encoder = TableEncoder::new(Arc::clone(&shape), &connector, 1, 2)?;
    let decoder = EnvelopeDecoder::compile(&envelope_schema(&shape), &shape)?;

    let casts: Vec<String> = shape.columns.iter().map(|column| format!("\"{}\"::text", column.name)).collect();
    let rows = sqlx::query(AssertSqlSafe(format!("SELECT {} FROM src.types ORDER BY id", casts.join(", "))))
        .fetch_all(&mut conn)
        .await?;
    let mut writer = site.writer().await?;
    let plan = writer.plan(&shape).await?;
    let source = SourceInfo {
        ts_us: 1,
        snapshot: SnapshotMarker::False,
        sequence: (None, 1),
        tx_id: Some(1),
        lsn: 1,
        origin: None,
        origin_lsn: None,
    };
    for (index, row) in rows.iter().enumerate() {
        // What a cast to text says differently from the type's output function, which is what the log holds.
        let texts: Vec<Option<String>> = (0..width)
            .map(|column| {
                let text: Option<String> = row.try_get(column)?;
                Ok(match shape.columns[column].column_type.name.as_str() {
                    "bool" => text.map(|text| text.chars().take(1).collect()),
                    "bpchar" => text.map(|text| format!("{text:5}")),
                    _ => text,
                })
            })
            .collect::<Result<_>>()?;
        let cells: Vec<TupleCell<'_>> = texts
            .iter()
            .map(|text| text.as_ref().map_or(TupleCell::Null, |text| TupleCell::Text(text.as_bytes())))
            .collect();
        let mut bytes = Vec::new();
        let mut header = Header::new(at(1), 1);
        let change = RowChange {
            operation: Operation::Create,
            before: None,
            before_is_key_only: false,
            after: Some(&cells),
            source,
            transaction: None,
            now_ns: 1,
        };
        encoder.envelope(&change, &mut bytes, &mut header)?;
        let mut envelope = Envelope::new();
        decoder.decode(&bytes[5..], &mut envelope)?;
        envelope.apply_header(&header)?;
        let values = envelope.after.values.clone();
        let from = i64::try_from(index)?;
        write(&mut *writer, step(0, from, from + 1), table_batch(&plan, &[Change::Upsert(values)])?).await?;
    }
    for (index, (name, _)) in VALUES.iter().enumerate() {
        let differ = site
            .value(&format!(
                "SELECT string_agg(s.c{index}::text || ' became ' || coalesce(d.c{index}::text, 'NULL'), '; ') FROM src.types s \
                 LEFT JOIN dst.types d USING (id) WHERE s.c{index}::text IS DISTINCT FROM d.c{index}::text"
            ))
            .await?;
        assert_eq!(differ, None, "{name}");
    }
    let same_shape = site
        .value("SELECT string_agg(a.attname, ', ') FROM pg_attribute a JOIN pg_attribute b USING (attname) WHERE a.attrelid = 'src.types'::regclass AND b.attrelid = 'dst.types'::regclass AND a.attnum > 0 AND (a.atttypid, a.atttypmod, a.attnotnull) IS DISTINCT FROM (b.atttypid, b.atttypmod, b.attnotnull)")
        .await?;
    assert_eq!(same_shape, None);
    site.database.remove().await
}
