//! What the target's tables have shown: whether a row ever went back in time.

use anyhow::{Result, ensure};
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::sync::Sync;

/// In the target: notes each row that is written with a version below one that its key had. Versions come from one
/// sequence of the source, so that a row that is deleted and made again goes on, too.
const WATCH: &str = "
    CREATE TABLE IF NOT EXISTS seen (tab text, id bigint, version bigint, PRIMARY KEY (tab, id));
    CREATE TABLE IF NOT EXISTS went_back (tab text, id bigint, version bigint, had bigint);
    CREATE OR REPLACE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE had bigint;
    BEGIN
      SELECT version INTO had FROM seen WHERE tab = TG_TABLE_NAME AND id = NEW.id;
      IF had > NEW.version THEN INSERT INTO went_back VALUES (TG_TABLE_NAME, NEW.id, NEW.version, had); END IF;
      INSERT INTO seen VALUES (TG_TABLE_NAME, NEW.id, NEW.version)
        ON CONFLICT (tab, id) DO UPDATE SET version = greatest(seen.version, excluded.version);
      RETURN NEW;
    END$$;";

/// Begins to watch tables that exist in the target.
pub(crate) async fn watch(sync: &Sync, tables: &[&str]) -> Result<()> {
    let mut target = sync.target().await?;
    execute(&mut target, WATCH).await?;
    for table in tables {
        execute(
            &mut target,
            format!(
                "CREATE TRIGGER watch BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION watch();
                 ALTER TABLE {table} ENABLE ALWAYS TRIGGER watch;
                 INSERT INTO seen SELECT '{table}', id, version FROM {table} ON CONFLICT DO NOTHING"
            ),
        )
        .await?;
    }
    Ok(())
}

/// Fails if a row went back.
pub(crate) async fn never_went_back(sync: &Sync) -> Result<()> {
    let mut target = sync.target().await?;
    let seen: i64 = value(&mut target, "SELECT count(*) FROM seen").await?;
    ensure!(seen > 0, "nothing was watched");
    let back: i64 = value(&mut target, "SELECT count(*) FROM went_back").await?;
    if back > 0 {
        let text = "SELECT string_agg(format('%s %s: %s behind %s', tab, id, version, had), E'\\n')
            FROM (SELECT * FROM went_back LIMIT 10) AS first";
        let first: String = value(&mut target, text).await?;
        anyhow::bail!("{back} rows went back in time:\n{first}");
    }
    Ok(())
}
