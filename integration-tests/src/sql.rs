//! Short forms for the SQL of scenarios. The texts are the scenarios' own, never a user's.

use anyhow::{Context, Result};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Decode, PgConnection, Postgres, Type};

/// Runs statements, several of them where they are separated by semicolons.
///
/// # Errors
///
/// The server refuses one.
pub async fn execute(conn: &mut PgConnection, text: impl Into<String>) -> Result<()> {
    let text = text.into();
    sqlx::raw_sql(AssertSqlSafe(text.clone())).execute(conn).await.with_context(|| excerpt(&text))?;
    Ok(())
}

/// The first column of the first row.
///
/// # Errors
///
/// The server refuses the query, or there is no row, or it is of another type.
pub async fn value<T>(conn: &mut PgConnection, text: impl Into<String>) -> Result<T>
where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres> + Send + Unpin,
{
    let text = text.into();
    sqlx::query_scalar(AssertSqlSafe(text.clone())).fetch_one(conn).await.with_context(|| excerpt(&text))
}

/// All rows.
///
/// # Errors
///
/// The server refuses the query.
pub async fn rows(conn: &mut PgConnection, text: impl Into<String>) -> Result<Vec<PgRow>> {
    let text = text.into();
    sqlx::query(AssertSqlSafe(text.clone())).fetch_all(conn).await.with_context(|| excerpt(&text))
}

fn excerpt(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(200).collect()
}
