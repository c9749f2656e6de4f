//! Mappings, filters and transforms: the target holds what the same SQL makes of the source.

use anyhow::{Result, ensure};
use syncline_integration_tests::process::Process;
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::sync::{PATIENCE, Sync, says, wait_until};

use crate::gate;

/// Waits until a query over the target gives the rows that another one gives over the source.
async fn shows(sync: &Sync, target_query: &str, source_query: &str, processes: &mut [&mut Process]) -> Result<()> {
    let text = |query: &str| format!("SELECT coalesce(json_agg(r)::text, '') FROM ({query}) AS r");
    let (mut source, mut target) = (sync.source("").await?, sync.target().await?);
    let (mut expected, mut found) = (String::new(), String::new());
    let waited = wait_until("the target holds what the mappings make of the source", async || {
        expected = value(&mut source, text(source_query)).await.unwrap_or_default();
        found = value(&mut target, text(target_query)).await.unwrap_or_default();
        found == expected && !found.is_empty()
    })
    .await;
    for process in processes {
        process.expect_running()?;
    }
    waited.map_err(|error| error.context(first_difference(&expected, &found)))
}

/// The first rows that differ, without long texts.
fn first_difference(expected: &str, found: &str) -> String {
    let short = |row: &str| {
        let words =
            row.split('"').map(|word| if word.len() > 60 { format!("… {} bytes", word.len()) } else { word.into() });
        words.collect::<Vec<String>>().join("\"")
    };
    let (mut expected, mut found) = (expected.lines(), found.lines());
    loop {
        match (expected.next(), found.next()) {
            (Some(one), Some(other)) if one == other => {}
            (one, other) => {
                return format!(
                    "expected {}\nfound    {}",
                    one.map_or_else(String::new, short),
                    other.map_or_else(String::new, short)
                );
            }
        }
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_regular_expressions_groups_name_the_target() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("groups", &["shard_1.orders", "shard_2.orders", "plain"]).await?;
    sync.options.mappings = lines("- {source_table: '/shard_(\\d)\\.(.*)/', target_table: 'lake.$${2}_of_$1'}");
    sync.source(SHARDS).await?;
    sync.source("CREATE TABLE plain (id int PRIMARY KEY); INSERT INTO plain VALUES (1)").await?;
    sync.catch_up().await?;
    for shard in [1, 2] {
        let target = format!("SELECT * FROM lake.orders_of_{shard} ORDER BY 1");
        shows(&sync, &target, &format!("SELECT * FROM shard_{shard}.orders ORDER BY 1"), &mut []).await?;
    }
    // What no mapping is about goes as it is.
    sync.check(&["plain"]).await?;
    sync.finish().await
}

const USERS: &str = "
    CREATE TABLE users (
      id int PRIMARY KEY, email varchar(80), status varchar(20) NOT NULL DEFAULT 'new', first varchar(20), last varchar(20),
      balance numeric(12,2), born date, created timestamptz NOT NULL DEFAULT now(), bio text, photo bytea);
    ALTER TABLE users ALTER bio SET STORAGE EXTERNAL;
    INSERT INTO users SELECT n, 'User' || n || '@Example.org', CASE WHEN n % 7 = 0 THEN 'deleted' ELSE 'active' END,
      'F' || n, CASE WHEN n % 5 > 0 THEN 'L' || n END, n * 1.25, date '2000-01-01' + n, timestamptz '2024-01-01' + n * interval '1 h',
      repeat('b', 3000 + n), '\\x00ff' FROM generate_series(1, 300) n";

const ONE_TO_TWO: &str = "\
- source_table: users
  target_table: dim.users
  columns: {id: user_id, email: email_address, '*': '*'}
  exclude_columns: [photo, bio]
  transformations: [{column: email, transform: 'LOWER(email)'}]
  concatenate: [{column: full_name, fields: [first, last], separator: ' '}]
  calculate: {cents: '(balance * 100)::bigint', born_year: 'EXTRACT(YEAR FROM born)::int'}
  add_metadata: {_synced_at: CURRENT_TIMESTAMP(), _committed_at: CURRENT_TIMESTAMP, _op: OPERATION()}
  static_values: {_source: production}
  filters: [\"status <> 'deleted'\", id > 0]
- source_table: users
  target_table: emails
  columns: {id: id, email: email, bio: bio}
  exclude_columns: [status, first, last, balance, born, created, photo]
  convert: {email: text}
  transformations: [{column: bio, transform: \"'bio: ' || bio\"}]";

const DIM_TARGET: &str = "SELECT user_id, email_address, status, first, last, balance, born, created, full_name, cents, \
    born_year, _source FROM dim.users ORDER BY 1";
const DIM_SOURCE: &str = "SELECT id AS user_id, lower(email) AS email_address, status, first, last, balance, born, created, \
    concat_ws(' ', first, last) AS full_name, (balance * 100)::bigint AS cents, \
    extract(year FROM born)::int AS born_year, 'production' AS _source \
    FROM users WHERE status <> 'deleted' AND id > 0 ORDER BY 1";

#[tokio::test]
async fn one_source_fills_two_targets_as_the_same_sql_would() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("mapped", &["users"]).await?;
    sync.options.mappings = lines(ONE_TO_TWO);
    let mut source = sync.source(USERS).await?;
    sync.catch_up().await?;
    let emails = "SELECT id, email, bio FROM emails ORDER BY 1";
    let all = "SELECT id, email, 'bio: ' || bio AS bio FROM users ORDER BY 1";
    shows(&sync, DIM_TARGET, DIM_SOURCE, &mut []).await?;
    shows(&sync, emails, all, &mut []).await?;

    let mut running = sync.start(&["run"])?;
    for round in 0..4 {
        execute(
            &mut source,
            format!(
                "UPDATE users SET status = 'deleted' WHERE id % 6 = {round};
                 UPDATE users SET status = 'active', email = 'Back{round}@X.y' WHERE id % 7 = {round};
                 BEGIN; UPDATE users SET balance = balance + {round}.5, last = NULL WHERE id % 4 = {round};
                 DELETE FROM users WHERE id % 41 = {round}; COMMIT;
                 UPDATE users SET bio = repeat('n', 2500 + {round}) WHERE id % 10 = {round};
                 UPDATE users SET id = id + 100000, bio = 'moved' WHERE id % 97 = {round};
                 INSERT INTO users (id, email, bio) SELECT n, 'New@{round}', NULL FROM generate_series({round} * 50 + 1000, {round} * 50 + 1040) n"
            ),
        )
        .await?;
        if round == 2 {
            // What is repeated behind a crash counts once.
            running.kill()?;
            running = sync.start(&["run"])?;
        }
    }
    shows(&sync, DIM_TARGET, DIM_SOURCE, &mut [&mut running]).await?;
    shows(&sync, emails, all, &mut [&mut running]).await?;
    sync.target_shows(
        "SELECT bool_and(_synced_at >= _committed_at - interval '1 h' AND _op IN ('c', 'u', 'r')) FROM dim.users",
    )
    .await?;
    let columns = "SELECT string_agg(column_name, ',' ORDER BY ordinal_position) = \
        'user_id,email_address,status,first,last,balance,born,created,full_name,cents,born_year,_source,_synced_at,_committed_at,_op' \
        FROM information_schema.columns WHERE table_schema = 'dim'";
    sync.target_shows(columns).await?;
    // A truncate empties both.
    execute(&mut source, "TRUNCATE users; INSERT INTO users (id) VALUES (1)").await?;
    shows(&sync, DIM_TARGET, DIM_SOURCE, &mut [&mut running]).await?;
    shows(&sync, emails, all, &mut [&mut running]).await?;
    running.stop().await?;
    sync.finish().await
}

const SHARDS: &str = "
    CREATE SCHEMA shard_1; CREATE SCHEMA shard_2;
    CREATE TABLE shard_1.orders (id int PRIMARY KEY, total numeric NOT NULL, gone boolean NOT NULL DEFAULT false);
    CREATE TABLE shard_2.orders (LIKE shard_1.orders INCLUDING ALL);
    ALTER TABLE shard_1.orders REPLICA IDENTITY FULL; ALTER TABLE shard_2.orders REPLICA IDENTITY FULL;
    INSERT INTO shard_1.orders SELECT n, n * 1.5 FROM generate_series(1, 50) n;
    INSERT INTO shard_2.orders SELECT n, n * 2.5, n % 3 = 0 FROM generate_series(1, 50) n";

#[tokio::test]
async fn many_sources_share_one_target() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("shards", &["shard_1.orders", "shard_2.orders"]).await?;
    sync.options.mappings = lines(
        "- source_table: shard_1.orders\n  target_table: all_orders\n  static_values: {shard: '1'}\n  key: [shard, id]\n  \
         filters: [NOT gone]\n\
         - source_table: shard_2.orders\n  target_table: all_orders\n  static_values: {shard: '2'}\n  key: [shard, id]\n  \
         filters: [NOT gone]\n",
    );
    let mut source = sync.source(SHARDS).await?;
    let mut running = sync.start(&["run"])?;
    let target = "SELECT shard, id, total FROM all_orders ORDER BY 1, 2";
    let both = "SELECT '1' AS shard, id, total FROM shard_1.orders WHERE NOT gone UNION ALL \
                SELECT '2', id, total FROM shard_2.orders WHERE NOT gone ORDER BY 1, 2";
    shows(&sync, target, both, &mut [&mut running]).await?;
    execute(
        &mut source,
        "UPDATE shard_1.orders SET gone = true WHERE id < 10; UPDATE shard_2.orders SET gone = NOT gone WHERE id < 20;
         DELETE FROM shard_1.orders WHERE id % 4 = 0; UPDATE shard_2.orders SET id = id + 1000 WHERE id % 5 = 0;
         DELETE FROM shard_2.orders WHERE id = 3",
    )
    .await?;
    shows(&sync, target, both, &mut [&mut running]).await?;
    // Whose rows are whose cannot be told: the table stops, and says what to do.
    execute(&mut source, "TRUNCATE shard_1.orders").await?;
    running.said("holds rows of other sources, too", PATIENCE).await?;
    execute(&mut source, "UPDATE shard_2.orders SET total = 1").await?;
    let second = "SELECT id, total FROM shard_2.orders WHERE NOT gone ORDER BY 1";
    shows(&sync, "SELECT id, total FROM all_orders WHERE shard = '2' ORDER BY 1", second, &mut [&mut running]).await?;
    running.stop().await?;
    sync.finish().await
}

#[tokio::test]
async fn deleted_rows_stay_marked_and_history_keeps_every_change() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("kept", &["t"]).await?;
    sync.options.mappings = lines(
        "- {source_table: t, target_table: marked, soft_delete: deleted_at}\n\
         - {source_table: t, target_table: t_history, history: true}\n",
    );
    let mut source = sync
        .source(
            "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY FULL;
             INSERT INTO t SELECT n, 'first' FROM generate_series(1, 20) n",
        )
        .await?;
    let mut running = sync.start(&["run"])?;
    sync.target_shows("SELECT count(*) = 20 FROM t_history").await?;
    execute(&mut source, "UPDATE t SET v = 'second' WHERE id <= 5; DELETE FROM t WHERE id IN (5, 6)").await?;
    execute(&mut source, "INSERT INTO t VALUES (6, 'again'); UPDATE t SET id = 100 WHERE id = 7").await?;
    shows(
        &sync,
        "SELECT id, v FROM marked WHERE deleted_at IS NULL ORDER BY 1",
        "SELECT id, v FROM t ORDER BY 1",
        &mut [&mut running],
    )
    .await?;
    sync.target_shows(
        "SELECT count(*) = 2 AND bool_and(v IN ('second', 'first')) FROM marked WHERE deleted_at IS NOT NULL",
    )
    .await?;
    // 20 reads, 5 updates, 2 deletes, 1 insert, a key change of a delete and a create.
    let history = "SELECT string_agg(_operation || n, ' ' ORDER BY _operation) = 'c2 d3 r20 u5' FROM \
                   (SELECT _operation, count(*) AS n FROM t_history GROUP BY 1) AS h";
    sync.target_shows(history).await?;
    sync.target_shows(
        "SELECT string_agg(v, ',' ORDER BY _position) = 'first,second,second' FROM t_history WHERE id = 5",
    )
    .await?;
    execute(&mut source, "TRUNCATE t").await?;
    sync.target_shows("SELECT bool_and(deleted_at IS NOT NULL) FROM marked").await?;
    sync.target_shows("SELECT count(*) = 30 FROM t_history").await?;
    running.stop().await?;
    sync.finish().await
}

#[tokio::test]
async fn another_key_and_the_row_before_are_there_with_replica_identity_full() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("rekeyed", &["t"]).await?;
    sync.options.mappings = lines(
        "- source_table: t\n  target_table: by_code\n  key: [code]\n  calculate: {was: before.v, grew: 'v > before.v'}\n",
    );
    let table = "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL, v int);
                 INSERT INTO t SELECT n, 'c' || n, n FROM generate_series(1, 10) n";
    let mut source = sync.source(table).await?;
    let log =
        sync.refused(&["run"], 2, &["REPLICA IDENTITY FULL", "ALTER TABLE \"public\".\"t\" REPLICA", ".yaml:"]).await?;
    says(&log, &["the target's key is made of other columns", "reads the row before"])?;
    sync.refused(&["check"], 1, &["REPLICA IDENTITY FULL"]).await?;
    execute(&mut source, "ALTER TABLE t REPLICA IDENTITY FULL").await?;
    let mut running = sync.start(&["run"])?;
    sync.target_shows("SELECT count(*) = 10 FROM by_code").await?;
    execute(&mut source, "UPDATE t SET v = v + 10, code = code || 'x' WHERE id <= 3; DELETE FROM t WHERE id = 10")
        .await?;
    shows(
        &sync,
        "SELECT code, id, v FROM by_code ORDER BY 1",
        "SELECT code, id, v FROM t ORDER BY 1",
        &mut [&mut running],
    )
    .await?;
    sync.target_shows("SELECT bool_and(grew AND was = v - 10) FROM by_code WHERE id <= 3").await?;
    running.stop().await?;
    sync.finish().await
}

#[tokio::test]
async fn mappings_that_do_not_fit_are_refused_at_the_start_with_their_lines() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("misfits", &["t"]).await?;
    sync.source("CREATE TABLE t (id int PRIMARY KEY, a text, b text, n int)").await?;
    let cases: [(&str, &[&str]); 7] = [
        ("- {source_table: t, columns: {id: id, a: a}}", &["column b of public.t is neither mapped nor excluded"]),
        ("- {source_table: t, columns: {nope: x, '*': '*'}}", &["has no column nope"]),
        ("- {source_table: t, columns: {a: b, '*': '*'}}", &["target column b gets a value twice"]),
        ("- {source_table: t, exclude_columns: [id]}", &["key column id"]),
        ("- {source_table: t, filters: [\"nope = 1\"]}", &["nope", "^"]),
        ("- {source_table: t, transformations: [{column: a, transform: 'UPPER(n)'}]}", &["UPPER(n)", "^"]),
        ("- {source_table: elsewhere}", &["elsewhere is none of the captured tables"]),
    ];
    for (mapping, words) in cases {
        sync.options.mappings = lines(mapping);
        let words: Vec<&str> = words.iter().copied().chain([".yaml:", "table_mappings"]).collect();
        sync.refused(&["run"], 2, &words).await?;
    }
    // A consumer alone compares with what a producer has published.
    sync.options.mappings.clear();
    sync.start(&["produce", "--until-caught-up"])?.expect_exit(0, PATIENCE).await?;
    sync.options.mappings = lines("- {source_table: t, columns: {nope: x, '*': '*'}}");
    sync.refused(&["consume"], 2, &["has no column nope", ".yaml:"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn a_new_column_flows_and_a_mapped_one_that_goes_stops_its_table_alone() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("drifting", &["t", "u"]).await?;
    sync.options.mappings = lines("- {source_table: t, target_table: t2, columns: {v: value, '*': '*'}}");
    let mut source = sync
        .source(
            "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, v text);
             INSERT INTO t VALUES (1, 'a'); INSERT INTO u VALUES (1, 'a')",
        )
        .await?;
    let mut running = sync.start(&["run"])?;
    sync.target_shows("SELECT count(*) = 1 FROM t2").await?;
    execute(&mut source, "ALTER TABLE t ADD w int; INSERT INTO t VALUES (2, 'b', 5)").await?;
    let query = "SELECT id, value, w FROM t2 ORDER BY 1";
    shows(&sync, query, "SELECT id, v AS value, w FROM t ORDER BY 1", &mut [&mut running]).await?;
    execute(&mut source, "ALTER TABLE t RENAME v TO renamed; INSERT INTO t VALUES (3, 'c', 6)").await?;
    running.said("has no column v", PATIENCE).await?;
    execute(&mut source, "INSERT INTO u VALUES (2, 'b')").await?;
    sync.converge(&["u"], &mut [&mut running]).await?;
    sync.target_shows(
        "SELECT bool_or(status = 'stopped' AND reason LIKE '%has no column v%') FROM _syncline._sync_metadata",
    )
    .await?;
    running.stop().await?;
    // Mended in the file, it goes on where it stood. What came before under the old name is applied already.
    sync.options.mappings = lines("- {source_table: t, target_table: t2, columns: {renamed: value, '*': '*'}}");
    sync.catch_up().await?;
    shows(&sync, query, "SELECT id, renamed AS value, w FROM t ORDER BY 1", &mut []).await?;
    ensure!(sync.topic("t").ends_with(".public.t"), "the topic keeps the source's name");
    sync.finish().await
}
