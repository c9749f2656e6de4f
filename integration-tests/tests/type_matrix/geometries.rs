//! Geometries, which need PostGIS in the target.

use anyhow::{Result, ensure};
use syncline_integration_tests::database::{self, Database as Target};
use syncline_integration_tests::mariadb::Database;
use syncline_integration_tests::sql;
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::{PATIENCE, Sync, wait_until};

use crate::paths;

const SHAPES: &str = "\
    CREATE TABLE shapes (id int PRIMARY KEY, g geometry, gn geometry NOT NULL, l linestring, c geometrycollection); \
    INSERT INTO shapes VALUES \
    (1, ST_GeomFromText('POINT(1 -2.5)'), ST_GeomFromText('POINT(3 4)', 4326), ST_GeomFromText('LINESTRING(0 0,1 1)', 3857), \
     ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))', 4326)), \
    (2, NULL, ST_GeomFromText('POLYGON((0 0,0 1,1 1,0 0))'), NULL, ST_GeomFromText('GEOMETRYCOLLECTION EMPTY'));";

const SHOWN: &str = "SELECT string_agg(concat_ws(' ', id, ST_AsEWKT(g), ST_AsEWKT(gn), ST_AsEWKT(l), ST_AsEWKT(c)), '; ' ORDER BY id) \
                     FROM shapes";

const EXPECTED: &str = "1 POINT(1 -2.5) SRID=4326;POINT(3 4) SRID=3857;LINESTRING(0 0,1 1) \
                        SRID=4326;GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1)); \
                        2 POLYGON((0 0,0 1,1 1,0 0)) GEOMETRYCOLLECTION EMPTY";

/// Without PostGIS in the target, as on the stack's own servers, the table stops and says what is missing.
#[tokio::test]
async fn geometries_of_mariadb_become_postgiss_or_are_refused_by_name() -> Result<()> {
    let sync = Sync::create("shapes", &[]).await?;
    let database = Database::create(&stack::mariadb()?, &sync.name)?;
    database.execute(SHAPES)?;
    let connector = paths::debezium_mariadb(&sync, &database.name).await?;
    let target = Target::create(database::TARGET, "shapes").await?;
    let mut conn = target.connect().await?;
    let has_postgis = stack::has_extension("TARGET_PG_ADMIN", "postgis").await?;
    if has_postgis {
        sql::execute(&mut conn, "CREATE EXTENSION postgis").await?;
        sql::execute(&mut conn, format!("SET search_path = public, {}", database.name)).await?;
    }
    let file = paths::consumer_file(&sync, &target.settings, &database.name)?;
    let mut consumer = sync.start_with(&["consume"], &file)?;
    if has_postgis {
        wait_until("both rows are there", async || {
            sql::value::<i64>(&mut conn, "SELECT count(*) FROM shapes").await.is_ok_and(|rows| rows == 2)
        })
        .await?;
        let shown: String = sql::value(&mut conn, SHOWN).await?;
        ensure!(shown == EXPECTED, "the target holds {shown}");
    } else {
        stack::not_run("the target's PostgreSQL has no extension postgis, so geometries are seen to be refused only");
        consumer.said("public.geometry", PATIENCE).await?;
        consumer.said("run CREATE EXTENSION in the target's database", PATIENCE).await?;
    }
    consumer.kill()?;
    connector.delete().await?;
    target.remove().await?;
    sync.finish().await
}
