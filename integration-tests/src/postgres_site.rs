//! PostgreSQL as the conformance suite sees it.

use anyhow::Result;
use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row};
use syncline_consumer::targets::postgres::PostgresTarget;
use syncline_consumer::targets::{Target, Writer};

use crate::conformance::{self, Site};
use crate::database::{Database, TARGET};

/// A fresh database with a prepared target.
pub struct PostgresSite {
    /// The database.
    pub database: Database,
    /// The target, connected as the administrator.
    pub target: PostgresTarget,
}

impl PostgresSite {
    /// Makes a database and prepares it.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub async fn new(name: &str) -> Result<Self> {
        let database = Database::create(TARGET, name).await?;
        let target = PostgresTarget::new(database.settings.clone(), "conformance".into());
        target.prepare().await?;
        Ok(Self { database, target })
    }

    /// Runs statements as the administrator.
    ///
    /// # Errors
    ///
    /// What the server answers.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        let mut conn = self.database.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await?;
        Ok(())
    }

    /// One value, as text.
    ///
    /// # Errors
    ///
    /// What the server answers.
    pub async fn value(&self, sql: &str) -> Result<Option<String>> {
        let mut conn = self.database.connect().await?;
        Ok(sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut conn).await?)
    }

    /// A writer with a progress row for one partition.
    ///
    /// # Errors
    ///
    /// What the target answers.
    pub async fn writer(&self) -> Result<Box<dyn Writer>> {
        conformance::writer(self, 1).await
    }
}

#[async_trait]
impl Site for PostgresSite {
    fn target(&self) -> &dyn Target {
        &self.target
    }

    async fn rows(&self, schema: &str, table: &str, columns: &[&str]) -> Result<Vec<Vec<Option<String>>>> {
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let mut conn = self.database.connect().await?;
        let qualified = format!("{}.{}", quote(schema), quote(table));
        let exists: bool =
            sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(&qualified).fetch_one(&mut conn).await?;
        if !exists {
            return Ok(Vec::new());
        }
        let texts: Vec<String> = columns.iter().map(|name| format!("{}::text", quote(name))).collect();
        let order: Vec<String> = (1..=columns.len()).map(|index| index.to_string()).collect();
        let sql = format!("SELECT {} FROM {qualified} ORDER BY {}", texts.join(", "), order.join(", "));
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut conn).await?;
        rows.iter().map(|row| (0..columns.len()).map(|index| Ok(row.try_get(index)?)).collect()).collect()
    }
}
