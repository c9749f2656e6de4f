//! The table of expressions in docs/transforms.md: what it says is what we answer, and what PostgreSQL answers.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use bumpalo::Bump;
use sqlx::PgConnection;
use syncline_event::avro::value::Value;
use syncline_integration_tests::database::{Database, TARGET};
use syncline_integration_tests::sql::{execute, value};
use syncline_transforms::expression::{Context, Expression, NAMES, Named, Row, Scope};
use syncline_transforms::sql_type::SqlType;

/// The row that the page's examples run over.
const ROW: [(&str, SqlType, &str); 8] = [
    ("id", SqlType::Int4, "7"),
    ("email", SqlType::Text, "'Ann@Example.org'"),
    ("first", SqlType::Text, "'Ann'"),
    ("last", SqlType::Text, "NULL"),
    ("total", SqlType::Numeric, "12.50"),
    ("born", SqlType::Date, "'2000-02-29'"),
    ("created", SqlType::Timestamptz, "'2024-03-10 12:34:56.789+00'"),
    ("doc", SqlType::Jsonb, "'{\"a\": {\"b\": [1, 2]}}'"),
];

/// Functions that PostgreSQL does not have, or has for other types.
const OURS: [&str; 3] = ["SHA256(", "HMAC_SHA256(", "MASK("];

/// `| `expression` | `answer` |`
fn row_of(line: &str) -> Option<(&str, Option<&str>)> {
    let (expression, answer) = line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | ")?;
    match answer {
        "NULL" => Some((expression, None)),
        answer => Some((expression, Some(answer.strip_prefix('`')?.strip_suffix('`')?))),
    }
}

fn ours(expression: &str) -> Result<Option<String>> {
    let nothing = Row { after: &[], before: &[], context: Context::default() };
    let empty = Scope { columns: &[], clock: false };
    let literals = ROW.map(|(_, sql_type, literal)| {
        Expression::compile(&format!("CAST({literal} AS {})", sql_type.column_type(-1).format), &empty)
    });
    let bump = Bump::new();
    let literals = literals.into_iter().collect::<Result<Vec<_>, _>>()?;
    let values = literals.iter().map(|literal| literal.value(&nothing, &bump));
    let values: Vec<Value<'_>> = values.collect::<Result<_, _>>()?;
    let columns: Vec<Named> = ROW
        .iter()
        .enumerate()
        .map(|(column, (name, sql_type, _))| Named {
            name: (*name).to_owned(),
            column,
            column_type: sql_type.column_type(-1),
        })
        .collect();
    let expression = Expression::compile(&format!("({expression})::text"), &Scope { columns: &columns, clock: false })?;
    let row = Row { after: &values, before: &[], context: Context::default() };
    Ok(expression.print(&row, &bump)?.map(str::to_owned))
}

async fn theirs(conn: &mut PgConnection, expression: &str) -> Result<Option<String>> {
    value(conn, format!("SELECT ({expression})::text FROM documented")).await
}

#[tokio::test]
async fn every_documented_expression_answers_as_the_page_and_as_postgresql_say() -> Result<()> {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/transforms.md");
    let text = std::fs::read_to_string(&page)?;
    let database = Database::create(TARGET, "documented").await?;
    let mut conn = database.connect().await?;
    let columns =
        ROW.map(|(name, sql_type, literal)| format!("{literal}::{} AS {name}", sql_type.column_type(-1).format));
    execute(&mut conn, format!("CREATE TABLE documented AS SELECT {}", columns.join(", "))).await?;

    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut seen = String::new();
    for line in &mut lines {
        let Some((expression, answer)) = row_of(line) else { continue };
        seen.push_str(expression);
        let ours = ours(expression).with_context(|| expression.to_owned())?;
        if !OURS.iter().any(|function| expression.starts_with(function)) {
            let theirs = theirs(&mut conn, expression).await?;
            ensure!(ours == theirs, "{expression}: ours {ours:?}, PostgreSQL's {theirs:?}");
        }
        if std::env::var_os("SYNCLINE_UPDATE_DOCS").is_some() {
            let answer = ours.map_or_else(|| "NULL".to_owned(), |answer| format!("`{answer}`"));
            *line = format!("| `{expression}` | {answer} |");
        } else {
            ensure!(ours.as_deref() == answer, "{expression}: the page says {answer:?}, it is {ours:?}");
        }
    }
    if std::env::var_os("SYNCLINE_UPDATE_DOCS").is_some() {
        std::fs::write(&page, lines.join("\n") + "\n")?;
    }
    seen.push_str(&text.to_uppercase());
    for name in NAMES {
        ensure!(
            seen.contains(&format!("{}(", name.to_uppercase())) || name == "current_timestamp",
            "{name} is not on the page"
        );
    }
    sqlx::Connection::close(conn).await?;
    database.remove().await
}
