//! The replication slot as the catalog shows it, and the lock that keeps a second producer away.

use sqlx::{PgConnection, Row as _};
use syncline_event::position::Lsn;

/// A slot that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its output plugin; empty for a physical slot.
    pub plugin: String,
    /// The database it belongs to.
    pub database: String,
    /// `confirmed_flush_lsn`.
    pub confirmed_lsn: u64,
    /// Whether the server has dropped log the slot needs.
    pub lost: bool,
    /// Whether standbys keep it too; never so before PostgreSQL 17.
    pub failover: bool,
    /// Who reads from it now.
    pub holder: Option<String>,
}

const SLOT: &str = "SELECT coalesce(s.plugin, '')::text AS plugin, coalesce(s.database, '')::text AS database,
        coalesce(s.confirmed_flush_lsn, '0/0')::text AS confirmed,
        coalesce(s.wal_status = 'lost', false) AS lost,
        coalesce((to_jsonb(s) ->> 'failover')::boolean, false) AS failover,
        CASE WHEN s.active_pid IS NOT NULL THEN
             format('process %s (%s from %s)', s.active_pid, coalesce(nullif(a.application_name, ''), 'unnamed'),
                    coalesce(a.client_addr::text, 'this host')) END AS holder
   FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid
  WHERE s.slot_name = $1";

/// Reads a slot's state.
///
/// # Errors
///
/// The database.
pub async fn find(connection: &mut PgConnection, name: &str) -> Result<Option<Slot>, sqlx::Error> {
    let Some(row) = sqlx::query(SLOT).bind(name).fetch_optional(connection).await? else { return Ok(None) };
    let confirmed: String = row.try_get("confirmed")?;
    Ok(Some(Slot {
        plugin: row.try_get("plugin")?,
        database: row.try_get("database")?,
        confirmed_lsn: confirmed.parse::<Lsn>().map_or(0, |lsn| lsn.0),
        lost: row.try_get("lost")?,
        failover: row.try_get("failover")?,
        holder: row.try_get("holder")?,
    }))
}

/// Drops a slot that nobody reads from.
///
/// # Errors
///
/// The database, also where the slot is in use.
pub async fn drop_slot(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_drop_replication_slot($1)").bind(name).execute(connection).await?;
    Ok(())
}

/// Takes the slot's lock for as long as the session lives; false where another session has it.
///
/// A slot itself is locked only while it streams; during a snapshot it is not.
///
/// # Errors
///
/// The database.
pub async fn try_lock(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended('syncline slot ' || $1, 0))")
        .bind(name)
        .fetch_one(connection)
        .await
}

/// Gives the slot's lock back, for a session that lives on.
///
/// # Errors
///
/// The database.
pub async fn unlock(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_unlock(hashtextextended('syncline slot ' || $1, 0))")
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

/// Who has the slot's lock.
///
/// # Errors
///
/// The database.
pub async fn lock_holder(connection: &mut PgConnection, name: &str) -> Result<Option<String>, sqlx::Error> {
    let holder = "SELECT format('process %s (%s from %s)', a.pid, a.application_name,
                         coalesce(a.client_addr::text, 'this host'))
                    FROM pg_locks l JOIN pg_stat_activity a USING (pid),
                         hashtextextended('syncline slot ' || $1, 0) AS key
                   WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                     AND l.classid::bigint = (key >> 32) & 4294967295 AND l.objid::bigint = key & 4294967295";
    sqlx::query_scalar(holder).bind(name).fetch_optional(connection).await
}

/// The server's flushed log position: everything that has committed lies before it.
///
/// # Errors
///
/// The database.
pub async fn flushed_lsn(connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let text: String = sqlx::query_scalar("SELECT pg_current_wal_flush_lsn()::text").fetch_one(connection).await?;
    Ok(text.parse::<Lsn>().map_or(0, |lsn| lsn.0))
}
