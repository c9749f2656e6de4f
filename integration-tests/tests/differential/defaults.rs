//! Defaults of every type and form, on columns that may be NULL and on such that may not.

use std::fmt::Write as _;

use crate::case::{Case, Deviation};

/// Columns by name, with their type and default. `{}` is none of them: Apicurio answers 422 to a schema with that
/// default, so it stops Debezium, and we write it with a space.
const COLUMNS: &[(&str, &str, &str)] = &[
    ("bool_literal", "boolean", "true"),
    ("bool_text", "boolean", "'f'"),
    ("bool_cast", "boolean", "'yes'::boolean"),
    ("bool_expression", "boolean", "NOT true"),
    ("bit_one", "bit(1)", "B'1'"),
    ("bit_three", "bit(3)", "B'101'"),
    ("bit_short", "bit(12)", "B'000000000001'"),
    ("varbit_default", "varbit(9)", "B'1010'"),
    ("smallint_literal", "smallint", "-7"),
    ("smallint_max", "smallint", "32767"),
    ("int_literal", "integer", "42"),
    ("int_negative", "integer", "-42"),
    ("int_text", "integer", "'42'"),
    ("int_cast", "integer", "'-1'::integer"),
    ("int_sum", "integer", "1 + 2"),
    ("int_function", "integer", "length('abc')"),
    ("int_sequence", "integer", "nextval('numbers')"),
    ("int_null", "integer", "NULL"),
    ("int_case", "integer", "CASE WHEN true THEN 1 ELSE 2 END"),
    ("bigint_literal", "bigint", "9223372036854775807"),
    ("bigint_small", "bigint", "5"),
    ("bigint_function", "bigint", "txid_current()"),
    ("oid_default", "oid", "17"),
    ("real_default", "real", "0.1"),
    ("real_whole", "real", "3"),
    ("double_default", "double precision", "2.5e10"),
    ("double_negative", "double precision", "-0.001"),
    ("double_function", "double precision", "random()"),
    ("numeric_default", "numeric(12,2)", "10.5"),
    ("numeric_negative", "numeric(12,2)", "-0.01"),
    ("numeric_whole", "numeric(12,2)", "0"),
    ("numeric_function", "numeric(12,2)", "random()"),
    ("numeric_free", "numeric", "1.50"),
    ("money_default", "money", "12.5"),
    ("char_default", "char(5)", "'ab'"),
    ("varchar_default", "varchar(20)", "'some text'"),
    ("text_default", "text", "'dflt'"),
    ("text_empty", "text", "''"),
    ("text_quote", "text", "'it''s'"),
    ("text_escaped", "text", "E'a\\tb\\\\c\"d'"),
    ("text_umlaut", "text", "'äöü 😀'"),
    ("text_cast", "text", "'x'::varchar"),
    ("text_concatenated", "text", "'a' || 'b'"),
    ("text_function", "text", "upper('x')"),
    ("text_user", "text", "CURRENT_USER"),
    ("text_null", "text", "NULL::text"),
    ("text_parenthesis", "text", "'f(x)'"),
    ("text_number", "text", "'42'"),
    ("name_default", "name", "'n'"),
    ("json_default", "json", "'{\"a\": 1}'"),
    ("jsonb_default", "jsonb", "'{\"a\": [1, null]}'"),
    ("jsonb_list", "jsonb", "'[]'"),
    ("xml_default", "xml", "'<a/>'"),
    ("uuid_default", "uuid", "'b68a35a7-17ad-35b3-af2a-ae46edb4545a'"),
    ("uuid_function", "uuid", "gen_random_uuid()"),
    ("tsvector_default", "tsvector", "'a b'"),
    ("inet_default", "inet", "'10.0.0.1'"),
    ("cidr_default", "cidr", "'10.0.0.0/8'"),
    ("macaddr_default", "macaddr", "'08:00:2b:01:02:03'"),
    ("range_default", "int4range", "'[1,5)'"),
    ("bytea_default", "bytea", "'\\x00ff'"),
    ("date_default", "date", "'2020-02-29'"),
    ("date_today", "date", "CURRENT_DATE"),
    ("date_function", "date", "now()::date"),
    ("time_default", "time", "'12:34:56.789'"),
    ("time_short", "time(0)", "'12:34:56'"),
    ("time_now", "time", "LOCALTIME"),
    ("timestamp_default", "timestamp", "'2020-01-02 03:04:05.678901'"),
    ("timestamp_short", "timestamp(3)", "'2020-01-02 03:04:05.678'"),
    ("timestamp_now", "timestamp", "now()"),
    ("timestamp_local", "timestamp(3)", "LOCALTIMESTAMP(3)"),
    ("timestamp_utc", "timestamp", "(now() AT TIME ZONE 'utc')"),
    ("timestamptz_default", "timestamptz", "'2020-01-01 00:00:00+00'"),
    ("timestamptz_short", "timestamptz(3)", "'2020-01-01 00:00:00.5+00'"),
    ("timestamptz_now", "timestamptz", "now()"),
    ("timestamptz_current", "timestamptz", "CURRENT_TIMESTAMP"),
    ("timestamptz_clock", "timestamptz", "clock_timestamp()"),
    ("timetz_default", "timetz", "'12:00:00+02'"),
    ("interval_default", "interval", "'1 day 02:03:04'"),
    ("interval_months", "interval", "'1 year 2 mons'"),
    ("point_default", "point", "'(1,2)'"),
    ("enum_default", "colour", "'dark red'"),
    ("enum_cast", "colour", "'blue'::colour"),
    ("domain_default", "rating", "3"),
    ("domain_own_default", "label", "'own'"),
    ("ints_empty", "integer[]", "'{}'"),
    ("ints_default", "integer[]", "ARRAY[1, 2]"),
    ("texts_default", "text[]", "'{a,b}'"),
    ("texts_empty", "text[]", "ARRAY[]::text[]"),
];

/// Two wide tables, and small ones for what cannot stand in both.
pub(crate) fn cases() -> &'static [Case] {
    let columns = |constraint: &str| {
        COLUMNS.iter().fold("id int PRIMARY KEY".to_owned(), |mut text, (name, column_type, default)| {
            let constraint = if default.starts_with("NULL") { "" } else { constraint };
            write!(text, ", {name} {column_type} DEFAULT ({default}){constraint}").ok();
            text
        })
    };
    let before = format!(
        "CREATE SEQUENCE numbers; CREATE TYPE colour AS ENUM ('blue', 'dark red');
         CREATE DOMAIN rating AS integer CHECK (VALUE < 6); CREATE DOMAIN label AS varchar(9) DEFAULT 'of domain';
         CREATE TABLE loose ({}); CREATE TABLE strict ({}); INSERT INTO loose VALUES (1); INSERT INTO strict VALUES (1)",
        columns(""),
        columns(" NOT NULL"),
    );
    let wide = Case {
        name: "defaults",
        tables: &["loose", "strict"],
        before: before.leak(),
        after: &[
            "INSERT INTO loose VALUES (2)",
            "INSERT INTO strict VALUES (2)",
            "DELETE FROM loose WHERE id = 1",
            "DELETE FROM strict WHERE id = 1",
        ],
        in_step: false,
        deviations: &[
            Deviation { operations: "c", column: "name_default", debezium: "null", ours: "\"n\"" },
            Deviation { operations: "c", column: "name_default", debezium: "\"\"", ours: "\"n\"" },
        ],
    };
    vec![wide, NULLS, MADE].leak()
}

const NULLS: Case = Case {
    name: "NULL where there is a default",
    tables: &["nulls"],
    before: "CREATE TABLE nulls (id int PRIMARY KEY, i int DEFAULT 42, t text DEFAULT 'd', n numeric(5,2) DEFAULT 1.5,
                 at timestamptz DEFAULT now());
             INSERT INTO nulls VALUES (1, NULL, NULL, NULL, NULL)",
    after: &["INSERT INTO nulls VALUES (2, NULL, NULL, NULL, NULL)", "UPDATE nulls SET t = NULL", "DELETE FROM nulls"],
    in_step: false,
    deviations: &[
        Deviation { operations: "rcu", column: "i", debezium: "42", ours: "null" },
        Deviation { operations: "rcu", column: "t", debezium: "\"d\"", ours: "null" },
        Deviation { operations: "rcu", column: "n", debezium: "0x0096", ours: "null" },
        Deviation { operations: "rcu", column: "at", debezium: "\"1970-01-01T00:00:00.000000Z\"", ours: "null" },
    ],
};

const MADE: Case = Case {
    name: "columns that fill themselves",
    tables: &["serials", "identities"],
    before: "CREATE TABLE serials (id serial PRIMARY KEY, b bigserial, s smallserial);
             CREATE TABLE identities (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 b bigint GENERATED BY DEFAULT AS IDENTITY (START 100), v text);
             COMMENT ON TABLE identities IS 'a table'; COMMENT ON COLUMN identities.v IS 'a column';
             INSERT INTO serials DEFAULT VALUES; INSERT INTO identities (v) VALUES ('a')",
    after: &[
        "INSERT INTO serials DEFAULT VALUES",
        "INSERT INTO identities (v) VALUES ('b')",
        "DELETE FROM serials",
        "DELETE FROM identities",
    ],
    in_step: false,
    deviations: &[],
};
