//! A node's target: changes of other nodes against its own, on a real database, without Kafka. `a` is the node that is
//! written to, `b` another one.

mod columns;
mod node;
mod tombstones;
mod uncommitted;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use syncline_transforms::resolve::row::ConflictType;
use syncline_transforms::resolve::row::Operation::{Delete, Insert, Update};

use crate::node::{Node, Said, change, own};

#[tokio::test]
async fn the_later_of_two_concurrent_changes_stays() -> Result<()> {
    let mut node = Node::new("contest_later").await?;
    let first = node.local("INSERT INTO t VALUES (1, 'mine', 'secret'), (2, 'mine', 'secret')").await?;
    node.take(&[own(first, 10, Insert, (1, "mine")), own(first, 10, Insert, (2, "mine"))], &[]).await?;
    let contested =
        node.take(&[change("b", 5, Insert, (1, "theirs")), change("b", 15, Insert, (2, "theirs"))], &[]).await?;
    assert_eq!(node.rows().await?, "1=mine 2=theirs");
    assert_eq!(contested.conflicts.get(&("public.t".into(), ConflictType::InsertExists)), Some(&2));
    assert_eq!(
        node.conflicts().await?,
        "insert_exists/target/theirs/mine/mine insert_exists/source/theirs/mine/theirs"
    );
    let image =
        node.site.value("SELECT source_value::text FROM _syncline.sync_conflicts WHERE key = '{\"id\": 2}'").await?;
    assert_eq!(image.as_deref(), Some(r#"{"id": 2, "name": "theirs", "note": "***"}"#));
    node.remove().await
}

#[tokio::test]
async fn a_change_that_saw_the_other_is_no_conflict() -> Result<()> {
    let mut node = Node::new("contest_saw").await?;
    let first = node.local("INSERT INTO t VALUES (1, 'one', 'secret')").await?;
    node.take(&[own(first, 10, Insert, (1, "one"))], &[]).await?;
    node.take(&[Said { saw: 1, ..change("b", 20, Update, (1, "two")) }], &[]).await?;
    // The node's own next change is made on top of it.
    let third = node.local("UPDATE t SET name = 'three'").await?;
    node.take(&[Said { saw: 1, ..own(third, 30, Update, (1, "three")) }], &[]).await?;
    node.take(&[Said { saw: 2, ..change("b", 40, Delete, (1, "three")) }], &[]).await?;
    assert_eq!((node.rows().await?.as_str(), node.conflicts().await?.as_str()), ("", ""));
    node.remove().await
}

#[tokio::test]
async fn a_change_waits_for_a_write_that_has_no_stamp_yet() -> Result<()> {
    for (theirs, expected) in [(15, "1=mine"), (25, "1=theirs")] {
        let mut node = Node::new(&format!("contest_echo_{theirs}")).await?;
        let first = node.local("INSERT INTO t VALUES (1, 'old', 'secret')").await?;
        node.take(&[own(first, 10, Insert, (1, "old"))], &[]).await?;
        let second = node.local("UPDATE t SET name = 'mine'").await?;
        let contested =
            node.take(&[change("b", theirs, Update, (1, "theirs")), change("b", 7, Insert, (2, "x"))], &[]).await?;
        assert_eq!(contested.set_aside, 1);
        assert_eq!(node.rows().await?, "1=mine 2=x", "others go on");
        // One behind it waits with it, whatever its stamp.
        let contested = node.take(&[Said { saw: 1, ..change("b", theirs + 1, Update, (1, "theirs")) }], &[]).await?;
        assert_eq!(contested.set_aside, 1);
        assert_eq!(node.settle().await?.set_aside, 2, "the fence is not back");
        let fence = node.fence().await?;
        node.take(&[own(second, 20, Update, (1, "mine"))], &[fence]).await?;
        assert_eq!(node.settle().await?.set_aside, 0);
        assert_eq!(node.rows().await?, format!("{expected} 2=x"));
        assert_eq!(node.site.value("SELECT count(*)::text FROM _syncline.fences").await?.as_deref(), Some("0"));
        node.remove().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_write_behind_the_fence_is_later() -> Result<()> {
    let mut node = Node::new("contest_behind").await?;
    node.local("INSERT INTO t VALUES (1, 'unstamped', 'secret')").await?;
    node.take(&[change("b", 100, Update, (1, "theirs"))], &[]).await?;
    let fence = node.fence().await?;
    let later = node.local("UPDATE t SET name = 'later'").await?;
    node.take(&[], &[fence]).await?;
    assert_eq!(node.settle().await?.set_aside, 1, "written since: its own record will tell");
    // The fence has moved the node's clock.
    node.take(&[own(later, 101, Update, (1, "later"))], &[node.fence().await?]).await?;
    assert_eq!(node.settle().await?.set_aside, 0);
    assert_eq!(node.rows().await?, "1=later");
    assert_eq!(node.conflicts().await?, "update_update/target/theirs/later/later");
    node.remove().await
}

#[tokio::test]
async fn a_write_in_a_savepoint_and_a_row_without_a_stamp_are_waited_for_once() -> Result<()> {
    let mut node = Node::new("contest_savepoint").await?;
    let first = node.local("SAVEPOINT s; INSERT INTO t VALUES (1, 'mine', 'secret')").await?;
    node.take(&[own(first, 10, Insert, (1, "mine"))], &[]).await?;
    // Its xmin is the savepoint's. What loses anyway does not wait for that.
    assert_eq!(node.take(&[change("b", 5, Update, (1, "theirs"))], &[]).await?.set_aside, 0);
    let contested = node.take(&[change("b", 20, Update, (1, "theirs"))], &[]).await?;
    assert_eq!(contested.set_aside, 1);
    let fence = node.fence().await?;
    node.take(&[], &[fence]).await?;
    assert_eq!(node.settle().await?.set_aside, 0);
    let contested = node.take(&[change("b", 30, Update, (1, "again"))], &[]).await?;
    assert_eq!((contested.set_aside, node.rows().await?.as_str()), (0, "1=again"));
    node.remove().await
}

#[tokio::test]
async fn a_row_that_is_being_written_holds_up_nothing_else() -> Result<()> {
    let mut node = Node::new("contest_locked").await?;
    let first = node.local("INSERT INTO t VALUES (1, 'old', 'secret')").await?;
    node.take(&[own(first, 10, Insert, (1, "old"))], &[]).await?;
    let mut conn: PgConnection = node.site.database.connect().await?;
    let mut open = conn.begin().await?;
    sqlx::raw_sql("UPDATE t SET name = 'given up'").execute(&mut *open).await?;
    let contested =
        node.take(&[change("b", 20, Update, (1, "theirs")), change("b", 21, Insert, (2, "theirs"))], &[]).await?;
    assert_eq!((contested.set_aside, node.rows().await?.as_str()), (1, "1=old 2=theirs"));
    assert_eq!(node.settle().await?.set_aside, 1);
    open.rollback().await?;
    assert_eq!(node.settle().await?.set_aside, 0);
    assert_eq!(node.rows().await?, "1=theirs 2=theirs");
    node.remove().await
}

#[tokio::test]
async fn rows_that_are_locked_for_long_hold_up_no_others_that_wait() -> Result<()> {
    // More than are looked at in one go.
    const LOCKED: i64 = 1_100;
    let mut node = Node::new("contest_many_locked").await?;
    let last = LOCKED + 1;
    let text = format!("INSERT INTO t SELECT i, 'old', 'secret' FROM generate_series(1, {last}) AS i");
    let first = node.local(&text).await?;
    let mine: Vec<Said<'_>> = (1..=last).map(|id| own(first, 10, Insert, (id, "old"))).collect();
    node.take(&mine, &[]).await?;
    let mut conns: [PgConnection; 2] = [node.site.database.connect().await?, node.site.database.connect().await?];
    let [long, short] = &mut conns;
    let (mut long, mut short) = (long.begin().await?, short.begin().await?);
    let lock = |which: String| AssertSqlSafe(format!("SELECT FROM t WHERE id {which} FOR UPDATE"));
    sqlx::raw_sql(lock(format!("< {last}"))).execute(&mut *long).await?;
    sqlx::raw_sql(lock(format!("= {last}"))).execute(&mut *short).await?;
    let theirs: Vec<Said<'_>> = (1..=last).map(|id| change("b", 20, Update, (id, "theirs"))).collect();
    assert_eq!(node.take(&theirs, &[]).await?.set_aside, u64::try_from(last)?);
    short.rollback().await?;
    for _ in 0..2 {
        node.settle().await?;
    }
    assert_eq!(node.site.value("SELECT count(*)::text FROM t WHERE name = 'theirs'").await?.as_deref(), Some("1"));
    long.rollback().await?;
    for _ in 0..3 {
        node.settle().await?;
    }
    assert_eq!(node.site.value("SELECT string_agg(DISTINCT name, ' ') FROM t").await?.as_deref(), Some("theirs"));
    node.remove().await
}

#[tokio::test]
async fn a_row_that_is_written_all_the_time_is_queued_up_for() -> Result<()> {
    let mut node = Node::new("contest_busy").await?;
    let first = node.local("INSERT INTO t VALUES (1, 'old', 'secret')").await?;
    node.take(&[own(first, 10, Insert, (1, "old"))], &[]).await?;
    // Two in turn: the row is never free when somebody looks.
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for _ in 0..2 {
        let (mut conn, stop) = (node.site.database.connect().await?, Arc::clone(&stop));
        writers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let text = "BEGIN; UPDATE t SET name = 'busy'; SELECT pg_sleep(0.05); COMMIT";
                sqlx::raw_sql(text).execute(&mut conn).await?;
            }
            anyhow::Ok(())
        }));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(node.take(&[change("b", 20, Update, (1, "theirs"))], &[]).await?.set_aside, 1);
    let deadline = Instant::now() + Duration::from_secs(60);
    while node.site.value("SELECT count(*)::text FROM _syncline.fences").await?.as_deref() == Some("0") {
        ensure!(Instant::now() < deadline, "it still waits for the row");
        node.settle().await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The fence is sent while the row is locked. What has been written since is later, and its record tells so.
    let fence = node.fence().await?;
    node.take(&[own(1, 21, Update, (1, "busy"))], &[fence]).await?;
    while node.settle().await?.set_aside > 0 {
        ensure!(Instant::now() < deadline, "it waits although its fence is back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await??;
    }
    assert_eq!(node.rows().await?, "1=busy");
    node.remove().await
}

#[tokio::test]
async fn rows_that_were_rewritten_are_waited_for() -> Result<()> {
    let mut node = Node::new("contest_rewritten").await?;
    let first = node.local("INSERT INTO t VALUES (1, 'mine', 'secret'), (2, 'mine', 'secret')").await?;
    node.take(&[own(first, 10, Insert, (1, "mine")), own(first, 10, Insert, (2, "mine"))], &[]).await?;
    // As a restored dump and an ALTER TABLE leave them: the same rows, put there by another transaction.
    node.local("CREATE TABLE kept AS TABLE t; DELETE FROM t; INSERT INTO t TABLE kept").await?;
    let contested =
        node.take(&[change("b", 20, Update, (1, "theirs")), change("b", 5, Update, (2, "theirs"))], &[]).await?;
    assert_eq!(contested.set_aside, 1);
    // Rewritten once more, while the fence is on its way.
    node.local("TRUNCATE kept; INSERT INTO kept TABLE t; DELETE FROM t; INSERT INTO t TABLE kept").await?;
    for _ in 0..2 {
        let fence = node.fence().await?;
        node.take(&[], &[fence]).await?;
        node.settle().await?;
    }
    assert_eq!(node.rows().await?, "1=theirs 2=mine");
    let contested = node.take(&[change("b", 30, Update, (1, "again"))], &[]).await?;
    assert_eq!((contested.set_aside, node.rows().await?.as_str()), (0, "1=again 2=mine"));
    node.remove().await
}

#[tokio::test]
async fn the_latest_stamp_of_other_nodes_is_told() -> Result<()> {
    let mut node = Node::new("contest_latest").await?;
    let mine = node.local("INSERT INTO t VALUES (1, 'mine', 'secret')").await?;
    let changes = [
        own(mine, 90, Insert, (1, "mine")),
        change("b", 70, Insert, (2, "theirs")),
        change("b", 30, Insert, (3, "theirs")),
    ];
    let latest = node.take(&changes, &[]).await?.latest;
    assert_eq!(latest.map(|stamp| (stamp.origin, stamp.clock_us)), Some(("b".to_owned(), 70)));
    assert_eq!(node.settle().await?.latest, None);
    node.remove().await
}

#[tokio::test]
async fn a_deleted_row_stays_deleted_against_older_changes() -> Result<()> {
    let mut node = Node::new("contest_tombstone").await?;
    let first = node.local("INSERT INTO t VALUES (1, 'mine', 'secret')").await?;
    let second = node.local("DELETE FROM t").await?;
    node.take(&[own(first, 10, Insert, (1, "mine")), own(second, 20, Delete, (1, "mine"))], &[]).await?;
    node.take(&[change("b", 15, Update, (1, "late"))], &[]).await?;
    assert_eq!(node.rows().await?, "");
    assert_eq!(node.conflicts().await?, "update_recently_deleted/target/late/-/-");
    node.take(&[change("b", 30, Insert, (1, "again"))], &[]).await?;
    assert_eq!(node.rows().await?, "1=again");
    node.remove().await
}

#[tokio::test]
async fn a_delete_waits_for_a_row_that_may_be_on_its_way() -> Result<()> {
    let mut node = Node::new("contest_absent").await?;
    assert_eq!(node.take(&[change("b", 20, Delete, (1, "theirs"))], &[]).await?.set_aside, 1);
    let fence = node.fence().await?;
    node.take(&[], &[fence]).await?;
    assert_eq!(node.settle().await?.set_aside, 0);
    // It is remembered.
    node.take(&[change("b", 15, Insert, (1, "theirs"))], &[]).await?;
    assert_eq!(node.rows().await?, "");
    node.remove().await
}

#[tokio::test]
async fn a_delete_that_nobody_saw_comes_back_when_it_gets_its_stamp() -> Result<()> {
    let mut node = Node::new("contest_aba").await?;
    // There and gone again before either has a stamp: nothing tells of it when the other node's change arrives.
    let first = node.local("INSERT INTO t VALUES (1, 'mine', 'secret')").await?;
    let second = node.local("DELETE FROM t").await?;
    node.take(&[change("b", 5, Insert, (1, "theirs"))], &[]).await?;
    assert_eq!(node.rows().await?, "1=theirs");
    node.take(&[own(first, 10, Insert, (1, "mine")), own(second, 11, Delete, (1, "mine"))], &[]).await?;
    assert_eq!(node.rows().await?, "");
    node.remove().await
}

#[tokio::test]
async fn rows_in_partitions_are_overwritten_too() -> Result<()> {
    let mut node = Node::new("contest_partitions").await?;
    node.site
        .execute(
            "DROP TABLE t; CREATE TABLE t (id bigint PRIMARY KEY, name text, note text) PARTITION BY RANGE (id); \
             CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (2); CREATE TABLE t2 PARTITION OF t DEFAULT",
        )
        .await?;
    node.take(&[change("b", 10, Insert, (1, "one")), change("b", 10, Insert, (2, "two"))], &[]).await?;
    node.take(&[change("b", 20, Update, (1, "changed")), change("b", 20, Update, (2, "too"))], &[]).await?;
    assert_eq!((node.rows().await?.as_str(), node.conflicts().await?.as_str()), ("1=changed 2=too", ""));
    node.remove().await
}

#[tokio::test]
async fn applied_transactions_are_marked_in_the_log() -> Result<()> {
    let mut node = Node::new("contest_marked").await?;
    let slot = format!("slot_{}", node.site.database.settings.database);
    node.site.execute(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')")).await?;
    node.take(&[change("b", 20, Insert, (1, "theirs"))], &[]).await?;
    let messages = format!(
        "SELECT string_agg(data, ' ') FROM pg_logical_slot_get_changes('{slot}', NULL, NULL) WHERE data LIKE 'message%' OR data LIKE '%public.t:%'"
    );
    let data = node.site.value(&messages).await?.unwrap_or_default();
    let message = data.find("syncline.applied").unwrap_or(usize::MAX);
    assert!(message < data.find("table public.t").unwrap_or_default(), "{data}");
    assert!(data.contains(r#""progress":[{"origin":"b","table":"public.t","partition":0,"next_offset":1}]"#), "{data}");
    node.site.execute(&format!("SELECT pg_drop_replication_slot('{slot}')")).await?;
    let database = node.site.database;
    drop(node.writer);
    database.remove().await
}
