//! The tables of `docs/types.md`.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::Sync;

use crate::arrival::{Arrival, Tried};

/// The form of each type in an event: what the schema of its column says.
pub(crate) async fn events(sync: &Sync, tried: &[Tried]) -> Result<Vec<String>> {
    let registry = stack::variable("SCHEMA_REGISTRY_URL")?;
    let mut events = Vec::new();
    for tried in tried {
        let url = format!("{registry}/subjects/{}-value/versions/latest", sync.topic(&tried.table));
        let answer: Value = reqwest::get(url).await?.error_for_status()?.json().await?;
        let schema: Value = serde_json::from_str(answer["schema"].as_str().context("an answer without a schema")?)?;
        events.push(column(&schema).context("a schema without the column")?);
    }
    Ok(events)
}

/// The column `v` of the row in an envelope's schema.
fn column(envelope: &Value) -> Option<String> {
    let before = envelope["fields"].as_array()?.iter().find(|field| field["name"] == "before")?;
    let row = before["type"].as_array()?.iter().find(|branch| branch["type"] == "record")?;
    let field = row["fields"].as_array()?.iter().find(|field| field["name"] == "v")?;
    let branches = field["type"].as_array()?;
    Some(described(branches.iter().find(|branch| **branch != "null")?))
}

/// An Avro type with the name that gives it its meaning: `long io.debezium.time.MicroTimestamp`.
fn described(avro: &Value) -> String {
    let Some(base) = avro.get("type") else { return avro.as_str().unwrap_or("?").to_owned() };
    if base == "array" {
        let items = &avro["items"];
        let item = items.as_array().and_then(|branches| branches.iter().find(|branch| **branch != "null"));
        return format!("array of {}", described(item.unwrap_or(items)));
    }
    let mut text = base.as_str().unwrap_or("?").to_owned();
    for name in ["connect.type", "connect.name"] {
        if let Some(name) = avro[name].as_str() {
            write!(text, " {name}").expect("text takes any text");
        }
    }
    text
}

/// The table of PostgreSQL's types.
pub(crate) fn postgresql(
    tried: &[Tried],
    events: &[String],
    from_debezium: &[Arrival],
    ours: &[Arrival],
    to_jdbc_sink: &[Arrival],
) -> String {
    let mut text =
        "| PostgreSQL | Event | Debezium → Syncline | Syncline → Syncline | Syncline → JDBC sink | Values tried |\n\
                    |---|---|---|---|---|---|\n"
            .to_owned();
    for (place, tried) in tried.iter().enumerate() {
        writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} |",
            tried.column_type,
            events[place],
            cell(&from_debezium[place]),
            cell(&ours[place]),
            cell(&to_jdbc_sink[place]),
            values(&tried.values),
        )
        .expect("text takes any text");
    }
    text
}

/// The table of MariaDB's types.
pub(crate) fn mariadb(tried: &[Tried], from_debezium: &[Arrival]) -> String {
    let mut text = "| MariaDB | Debezium → Syncline | Values tried |\n|---|---|---|\n".to_owned();
    for (tried, arrival) in tried.iter().zip(from_debezium) {
        let (column_type, arrival, values) = (tried.column_type, cell(arrival), values(&tried.values));
        writeln!(text, "| `{column_type}` | {arrival} | {values} |").expect("text takes any text");
    }
    text
}

fn cell(arrival: &Arrival) -> String {
    match arrival {
        Arrival::Exact(column_type) => format!("exact, `{column_type}`"),
        Arrival::Changed(column_type, changed) => format!("**lossy**, `{column_type}`: {}", values(changed)),
        Arrival::Without => "without the column".to_owned(),
        Arrival::Stops => "**stops**".to_owned(),
    }
}

fn values(values: &[&str]) -> String {
    let shown: Vec<String> = values.iter().map(|value| format!("`{}`", escaped(value))).collect();
    shown.join(" ")
}

/// Within a cell of a table, as code.
fn escaped(value: &str) -> String {
    value.replace('|', "\\|").replace('`', "'").chars().take(40).collect()
}

/// Fails unless the page holds this table; writes it where `SYNCLINE_UPDATE_DOCS` is set.
pub(crate) fn compare(name: &str, table: &str) -> Result<()> {
    let path = stack::root().join("docs/types.md");
    let text = std::fs::read_to_string(&path)?;
    let begin = format!("<!-- {name}: begin; made by integration-tests/tests/type_matrix -->\n");
    let end = format!("<!-- {name}: end -->");
    let (before, rest) = text.split_once(&begin).with_context(|| format!("the page has no place for {name}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("the page has no end of {name}"))?;
    let expected = format!("{before}{begin}{table}{end}{after}");
    if std::env::var_os("SYNCLINE_UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected)?;
        return Ok(());
    }
    let differing: Vec<&str> = expected.lines().filter(|line| !text.lines().any(|other| other == *line)).collect();
    let remedy = "if this is as it should be, run the test with SYNCLINE_UPDATE_DOCS=1";
    ensure!(text == expected, "docs/types.md says otherwise; {remedy}:\n{}", differing.join("\n"));
    Ok(())
}
