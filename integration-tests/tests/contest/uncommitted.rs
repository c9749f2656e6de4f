//! Keys that a transaction of this node has inserted, which is still open when another node's row arrives.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Row as _, Transaction};
use syncline_transforms::resolve::row::Operation::{Delete, Insert};
use syncline_transforms::resolve::rules::TableRule;

use crate::node::{Node, Said, change, own};

/// Inserts rows with an id from `from` to `to`; gives the transaction's id.
async fn insert(conn: &mut PgConnection, (from, to): (i64, i64)) -> Result<u32> {
    let text = format!("INSERT INTO t SELECT i, 'mine', 'secret' FROM generate_series({from}, {to}) AS i");
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *conn).await?;
    let id: i64 = sqlx::query("SELECT pg_current_xact_id()::text::int8").fetch_one(conn).await?.try_get(0)?;
    Ok(u32::try_from(id)?)
}

/// Commits once another session waits for the transaction's end.
async fn commit_when_waited_for(open: Transaction<'_, Postgres>, watching: &mut PgConnection) -> Result<()> {
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
         AND wait_event = 'transactionid')";
    while !sqlx::query(waits).fetch_one(&mut *watching).await?.try_get::<bool, _>(0)? {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(open.commit().await?)
}

#[tokio::test]
async fn a_row_that_this_node_inserts_at_the_same_time_is_not_written_over() -> Result<()> {
    let mut node = Node::new("contest_free").await?;
    let mut conn: PgConnection = node.site.database.connect().await?;
    let mut open = conn.begin().await?;
    let id = insert(&mut open, (1, 1)).await?;
    let mut watching: PgConnection = node.site.database.connect().await?;
    let theirs = [change("b", 5, Insert, (1, "theirs"))];
    let (written, committed) = tokio::join!(node.take(&theirs, &[]), commit_when_waited_for(open, &mut watching));
    committed?;
    assert_eq!(written?.set_aside, 1);
    let fence = node.fence().await?;
    node.take(&[own(id, 10, Insert, (1, "mine"))], &[fence]).await?;
    assert_eq!(node.settle().await?.set_aside, 0);
    assert_eq!(node.rows().await?, "1=mine");
    node.remove().await
}

#[tokio::test]
async fn what_another_process_has_just_noted_of_a_row_is_reckoned_with() -> Result<()> {
    let mut node = Node::new("contest_noted").await?;
    node.take(&[change("b", 5, Insert, (1, "theirs"))], &[]).await?;
    let mut conn: PgConnection = node.site.database.connect().await?;
    let mut open = conn.begin().await?;
    // Of row 2, as another partition's changes leave it.
    let note = "INSERT INTO _syncline.row_stamps (table_name, key, clock_us, counter, origin, topic_partition, \
         record_offset, seen, deleted) SELECT table_name, set_byte(key, length(key) - 1, 2), 20, 0, 'a', 0, 9, seen, true \
         FROM _syncline.row_stamps";
    sqlx::raw_sql(note).execute(&mut *open).await?;
    let mut watching: PgConnection = node.site.database.connect().await?;
    let theirs = [change("b", 10, Insert, (2, "older")), change("b", 30, Insert, (3, "theirs"))];
    let (written, committed) = tokio::join!(node.take(&theirs, &[]), commit_when_waited_for(open, &mut watching));
    committed?;
    assert_eq!(written?.set_aside, 0);
    assert_eq!(node.rows().await?, "1=theirs 3=theirs");
    node.remove().await
}

/// Settles until nothing waits.
async fn settled(node: &mut Node) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while node.settle().await?.set_aside > 0 {
        ensure!(Instant::now() < deadline, "something waits for no reason");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Settles until a fence is sent.
async fn asked(node: &mut Node) -> Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while node.site.value("SELECT count(*)::text FROM _syncline.fences").await?.as_deref() == Some("0") {
        ensure!(Instant::now() < deadline, "no fence is sent");
        node.settle().await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    node.fence().await
}

#[tokio::test]
async fn a_row_that_comes_and_goes_at_once_does_not_miss_one_that_is_inserted_here() -> Result<()> {
    let mut node = Node::new("contest_at_once").await?;
    let mut conn: PgConnection = node.site.database.connect().await?;
    let mut open = conn.begin().await?;
    let id = insert(&mut open, (1, 1)).await?;
    let theirs = [change("b", 5, Insert, (1, "theirs")), change("b", 20, Delete, (1, "theirs"))];
    assert_eq!(node.take(&theirs, &[]).await?.set_aside, 2);
    open.commit().await?;
    let fence = asked(&mut node).await?;
    // The delete is the later change, for all nodes.
    node.take(&[own(id, 10, Insert, (1, "mine"))], &[fence]).await?;
    settled(&mut node).await?;
    assert_eq!(node.rows().await?, "");
    let theirs = [change("b", 30, Insert, (2, "theirs")), change("b", 40, Delete, (2, "theirs"))];
    assert_eq!(node.take(&theirs, &[]).await?.set_aside, 0);
    assert_eq!(node.rows().await?, "");
    node.remove().await
}

#[tokio::test]
async fn a_table_that_is_locked_as_a_whole_is_waited_for_with_the_batch() -> Result<()> {
    let mut node = Node::new("contest_table_lock").await?;
    let mut conn: PgConnection = node.site.database.connect().await?;
    let mut open = conn.begin().await?;
    // As CREATE INDEX does.
    sqlx::raw_sql("LOCK TABLE t IN SHARE MODE").execute(&mut *open).await?;
    let refused = node.take(&[change("b", 5, Insert, (1, "theirs"))], &[]).await.unwrap_err().to_string();
    assert!(refused.starts_with("locking target table public.t"), "{refused}");
    open.rollback().await?;
    node.next.clear();
    assert_eq!(node.take(&[change("b", 5, Insert, (1, "theirs"))], &[]).await?.set_aside, 0);
    assert_eq!(node.rows().await?, "1=theirs");
    node.remove().await
}

/// Takes rows of the other node while this one's transaction has inserted some of their keys.
async fn holds_up_nothing_else(name: &str, rule: TableRule) -> Result<()> {
    let mut node = Node::with(name, rule).await?;
    let mut conn: PgConnection = node.site.database.connect().await?;
    let mut open = conn.begin().await?;
    let id = insert(&mut open, (3, 4)).await?;
    let theirs: Vec<Said<'_>> = (1..=6).map(|id| change("b", 5, Insert, (id, "theirs"))).collect();
    assert_eq!(node.take(&theirs, &[]).await?.set_aside, 2);
    let free = "1=theirs 2=theirs 5=theirs 6=theirs";
    assert_eq!(node.rows().await?, free);
    assert_eq!(node.settle().await?.set_aside, 2, "the transaction is still open");
    sqlx::raw_sql("DELETE FROM t WHERE id = 4").execute(&mut *open).await?;
    open.commit().await?;
    let fence = asked(&mut node).await?;
    assert!(node.rows().await?.contains("3=mine"), "it has no stamp yet");
    node.take(&[own(id, 10, Insert, (3, "mine"))], &[fence]).await?;
    settled(&mut node).await?;
    // Row 4 never came to be here.
    assert_eq!(node.rows().await?, "1=theirs 2=theirs 3=mine 4=theirs 5=theirs 6=theirs");
    node.remove().await
}

#[tokio::test]
async fn a_key_that_an_open_transaction_has_inserted_holds_up_nothing_else() -> Result<()> {
    holds_up_nothing_else("contest_uncommitted", TableRule::LastWriteWins).await
}

#[tokio::test]
async fn nor_does_it_under_a_rule_by_columns() -> Result<()> {
    holds_up_nothing_else("contest_uncommitted_columns", TableRule::LastWriteWinsBy("note".into())).await
}
