//! Every type, with values at its bounds, through the snapshot and through the log.

use std::fmt::Write as _;

use syncline_integration_tests::values::postgres::{COLUMNS, DEFINITIONS};

use crate::case::{Case, Deviation};

/// Columns are named by their types. The rows of `nullable` hold all values and a NULL; `required` does not allow it, so
/// that the stand-ins of a delete show.
pub(crate) fn cases(deviations: &[&[Deviation]]) -> &'static [Case] {
    let columns = |constraint: &str| {
        COLUMNS.iter().fold("id int PRIMARY KEY".to_owned(), |mut text, (column, _)| {
            write!(text, ", \"{column}\" {column}{constraint}").ok();
            text
        })
    };
    let rows = COLUMNS.iter().map(|(_, values)| values.len()).max().unwrap_or_default();
    let insert = |table: &str, from: usize, required: bool| {
        let mut text = format!("INSERT INTO {table} VALUES ");
        for row in 0..rows {
            write!(text, "{}({}", if row > 0 { ", " } else { "" }, from + row).ok();
            for (column, values) in COLUMNS {
                let values: Vec<_> = values.iter().filter(|value| !stops(column, value, required)).collect();
                let last = if required { values.first().copied().unwrap_or(&"DEFAULT") } else { &"NULL" };
                write!(text, ", {}", values.get(row).unwrap_or(&last)).ok();
            }
            text.push(')');
        }
        text
    };
    let before = format!(
        "{DEFINITIONS} CREATE TABLE nullable ({}); CREATE TABLE required ({}); {}; {}",
        columns(""),
        columns(" NOT NULL"),
        insert("nullable", 0, false),
        insert("required", 0, true),
    );
    let after = vec![
        leak(insert("nullable", 100, false)),
        leak(insert("required", 100, true)),
        "INSERT INTO nullable VALUES (1000)",
        "ALTER TABLE nullable REPLICA IDENTITY FULL",
        "UPDATE nullable SET id = id + 2000",
        "UPDATE required SET id = id + 2000 WHERE id < 3",
        "DELETE FROM required WHERE id >= 100",
    ];
    let types = Case {
        name: "every type",
        tables: &["nullable", "required"],
        before: leak(before),
        after: after.leak(),
        in_step: false,
        deviations: [&[COMMON], deviations].concat().concat().leak(),
    };
    vec![types].leak()
}

fn leak(text: String) -> &'static str {
    text.leak()
}

/// Values that stop Debezium's connector, in any column or in one that is NOT NULL alone.
const STOPPING: &[(&str, &[&str])] = &[];
const STOPPING_WHERE_REQUIRED: &[(&str, &[&str])] = &[
    ("numeric", &["'NaN'", "'Infinity'", "'-Infinity'"]),
    ("numeric(12,2)", &["'NaN'"]),
    ("numeric(5,-2)", &["'NaN'"]),
    ("numeric[]", &["'{1.50,NaN,NULL,1e30}'"]),
    ("numeric(8,3)[]", &["'{1.5,NULL,99999.999,NaN}'"]),
    ("integer[]", &["'{{1,2},{3,NULL}}'"]),
    ("text[]", &["'{{a,b},{c,d}}'"]),
    ("mood[]", &["'{glad,NULL,\"so so\"}'"]),
];

fn stops(column: &str, value: &str, required: bool) -> bool {
    let lists = [STOPPING, if required { STOPPING_WHERE_REQUIRED } else { &[] }];
    lists.into_iter().flatten().any(|(of, values)| *of == column && values.contains(&value))
}

/// Debezium reads dates of a snapshot and the elements of arrays through `java.sql`, which has no years before Christ, no
/// infinity and no 24:00:00; so these differ from what it writes for the same values elsewhere. It loses `name` in the
/// log, and arrays of several dimensions everywhere. We write the same for the same value everywhere.
const COMMON: &[Deviation] = &[
    Deviation {
        operations: "rcd",
        column: "timestamptz__",
        debezium: "[\"2024-02-29T12:00:00.100000Z\", \"+292269055-12-0*",
        ours: "[\"2024-02-29T12:00:00.100000Z\", \"-infinity\", null]",
    },
    Deviation { operations: "cd", column: "name", debezium: "null", ours: "\"a name\"" },
    Deviation { operations: "c", column: "name", debezium: "\"\"", ours: "\"a name\"" },
    Deviation { operations: "rcd", column: "integer__", debezium: "[null, null]", ours: "[1, 2, 3, null]" },
    Deviation {
        operations: "rcd",
        column: "text__",
        debezium: "[\"[Ljava.lang.String;@*",
        ours: "[\"a\", \"b\", \"c\", \"d\"]",
    },
];

/// With dates as numbers.
pub(crate) const DATES: &[Deviation] = &[
    Deviation { operations: "r", column: "date", debezium: "1001860", ours: "-2440550" },
    Deviation { operations: "r", column: "date", debezium: "-622191234", ours: "-2147472692" },
    Deviation { operations: "r", column: "date", debezium: "-625821272", ours: "-2147472691" },
    Deviation {
        operations: "rcd",
        column: "date__",
        debezium: "[19782, null, -622191234, 1001860]",
        ours: "[19782, null, -2147472692, -2440550]",
    },
];

/// With times in microseconds.
pub(crate) const MICROS: &[Deviation] =
    &[Deviation { operations: "rcd", column: "time__", debezium: "[0, null]", ours: "[86400000000, null]" }];

/// With times, decimals and intervals as text. Debezium has no array with a NaN in any mode, and takes an infinite interval
/// for none.
pub(crate) const TEXTS: &[Deviation] = &[
    Deviation { operations: "r", column: "date", debezium: "\"4713-01-01Z\"", ours: "\"-4712-01-01Z\"" },
    Deviation { operations: "r", column: "date", debezium: "\"+292278994-08-16Z\"", ours: "\"-5877611-06-21Z\"" },
    Deviation { operations: "r", column: "date", debezium: "\"+292269055-12-02Z\"", ours: "\"-5877611-06-22Z\"" },
    Deviation {
        operations: "rcd",
        column: "date__",
        debezium: "[\"2024-02-29Z\", null, \"+292278994-08-16Z\", \"4713-01-01Z\"]",
        ours: "[\"2024-02-29Z\", null, \"-5877611-06-21Z\", \"-4712-01-01Z\"]",
    },
    Deviation { operations: "rcd", column: "numeric__", debezium: "null", ours: "[\"1.50\", \"NAN\", null, *" },
    Deviation { operations: "rcd", column: "numeric_8_3___", debezium: "null", ours: "[\"1.500\", null, *" },
    Deviation { operations: "rcd", column: "interval", debezium: "\"P0Y0M0DT0H0M0S\"", ours: "null" },
];

/// With times in milliseconds, and decimals as doubles.
pub(crate) const LOSSY: &[Deviation] = &[
    Deviation { operations: "rcd", column: "time__", debezium: "[0, null]", ours: "[86400000, null]" },
    Deviation { operations: "rcd", column: "numeric__", debezium: "null", ours: "[1.5, NaN, null, *" },
    Deviation { operations: "rcd", column: "numeric_8_3___", debezium: "null", ours: "[1.5, null, *" },
];
