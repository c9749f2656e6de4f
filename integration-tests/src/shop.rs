//! A small shop: tables with the types, keys and constraints that real ones have, and rows to begin with.

use anyhow::Result;
use sqlx::PgConnection;

use crate::sql;

/// The tables, parents first.
pub const TABLES: [&str; 4] = ["users", "products", "orders", "order_items"];

/// Text beyond the size from which PostgreSQL stores values apart (TOAST), and uncompressed, as the column says.
pub const DESCRIPTION_BYTES: u32 = 6_400;

/// Creates the tables and about `rows` rows in all.
///
/// # Errors
///
/// The server refuses.
pub async fn create(conn: &mut PgConnection, rows: u64) -> Result<()> {
    sql::execute(conn, format!("SET shop.rows = {rows}")).await?;
    sql::execute(conn, include_str!("../../docs/examples/shop.sql")).await
}
