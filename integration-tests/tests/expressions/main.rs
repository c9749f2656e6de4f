//! Expressions over rows, through ours and through a real PostgreSQL: the answers, the NULLs and the errors are equal.

mod documented;
mod generate;
mod row;

use anyhow::{Result, ensure};
use bumpalo::Bump;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use syncline_integration_tests::database::{Database, TARGET};
use syncline_integration_tests::random::Random;
use syncline_integration_tests::sql::execute;
use syncline_transforms::expression::{Context, Expression, Mistake, Row, Scope};

use generate::Generator;
use row::Table;

/// Rows that each expression runs over.
const ROWS: usize = 40;
const SAMPLE: u64 = 8;

/// What one side says of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Answer(Option<String>),
    /// The SQLSTATE.
    Error(String),
}

fn number(variable: &str, preset: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(preset)
}

#[tokio::test]
async fn generated_expressions_answer_as_postgresql_does() -> Result<()> {
    let seed = number("SYNCLINE_EXPRESSIONS_SEED", 20_240_229);
    let count = number("SYNCLINE_EXPRESSIONS", 3_000);
    let database = Database::create(TARGET, "expressions").await?;
    let mut conn = database.connect().await?;
    let mut random = Random::new(seed);
    let table = Table::make(&mut conn, &mut random, ROWS).await?;
    let mut differences = Vec::new();
    for _ in 0..count {
        let text = Generator { random: &mut random }.any();
        let first = random.below(ROWS as u64 - SAMPLE) as usize;
        compare(&mut conn, &table, &text, first..first + SAMPLE as usize, &mut differences).await?;
    }
    conn_closed(conn).await?;
    database.remove().await?;
    let shown = differences.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    ensure!(differences.is_empty(), "{} differences (seed {seed}):\n{shown}", differences.len());
    Ok(())
}

#[tokio::test]
async fn picked_expressions_answer_as_postgresql_does() -> Result<()> {
    let database = Database::create(TARGET, "picked").await?;
    let mut conn = database.connect().await?;
    let table = Table::make(&mut conn, &mut Random::new(7), ROWS).await?;
    let mut differences = Vec::new();
    for line in include_str!("picked.sql").lines().filter(|line| !line.is_empty() && !line.starts_with("--")) {
        compare(&mut conn, &table, line, 0..ROWS, &mut differences).await?;
    }
    conn_closed(conn).await?;
    database.remove().await?;
    let shown = differences.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    ensure!(differences.is_empty(), "{} differences:\n{shown}", differences.len());
    Ok(())
}

async fn conn_closed(conn: PgConnection) -> Result<()> {
    Ok(sqlx::Connection::close(conn).await?)
}

async fn compare(
    conn: &mut PgConnection,
    table: &Table,
    text: &str,
    rows: std::ops::Range<usize>,
    differences: &mut Vec<String>,
) -> Result<()> {
    let theirs = answers(conn, text, &rows).await?;
    match ours(table, text, &rows) {
        Err(mistake) => {
            if theirs.iter().any(|verdict| matches!(verdict, Verdict::Answer(_))) {
                differences.push(format!("refused at start: {mistake}"));
            }
        }
        Ok(ours) => {
            let pairs = rows.zip(ours.into_iter().zip(theirs));
            if let Some((row, (ours, theirs))) = pairs.into_iter().find(|(_, (ours, theirs))| ours != theirs) {
                differences.push(format!("{text}\n  row {row}: ours {ours:?}\n       theirs {theirs:?}"));
            }
        }
    }
    Ok(())
}

fn ours(table: &Table, text: &str, rows: &std::ops::Range<usize>) -> Result<Vec<Verdict>, Mistake> {
    let scope = Scope { columns: &table.names, clock: false };
    let expression = Expression::compile(&format!("({text})::text"), &scope)?;
    let verdict = |row: usize| {
        let bump = Bump::new();
        table.with_row(row, |values| {
            let row = Row { after: values, before: &[], context: Context::default() };
            match expression.print(&row, &bump) {
                Ok(answer) => Verdict::Answer(answer.map(str::to_owned)),
                Err(fault) => Verdict::Error(fault.state.to_owned()),
            }
        })
    };
    Ok(rows.clone().map(verdict).collect())
}

async fn answers(conn: &mut PgConnection, text: &str, rows: &std::ops::Range<usize>) -> Result<Vec<Verdict>> {
    let call =
        format!("SELECT state, answer FROM answers($text${text}$text$, {}, {}) ORDER BY number", rows.start, rows.end);
    let found = sqlx::raw_sql(AssertSqlSafe(call)).fetch_all(conn).await?;
    found
        .into_iter()
        .map(|row| {
            Ok(match row.try_get::<Option<String>, _>("state")? {
                Some(state) => Verdict::Error(state),
                None => Verdict::Answer(row.try_get("answer")?),
            })
        })
        .collect()
}

/// Runs an expression over rows one by one, so that each has its own error.
async fn make_function(conn: &mut PgConnection) -> Result<()> {
    execute(
        conn,
        "CREATE FUNCTION answers(expression text, first int, behind int)
         RETURNS TABLE (number int, state text, answer text) LANGUAGE plpgsql AS $$
         BEGIN
           FOR number IN first .. behind - 1 LOOP
             state := NULL; answer := NULL;
             BEGIN
               EXECUTE 'SELECT (' || expression || ')::text FROM t WHERE id = $1' INTO answer USING number;
             EXCEPTION WHEN OTHERS THEN state := SQLSTATE;
             END;
             RETURN NEXT;
           END LOOP;
         END $$",
    )
    .await
}
