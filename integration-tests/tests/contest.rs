//! A node's target: changes of other nodes against its own, on a real database, without Kafka. `a` is the node that is
//! written to, `b` another one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use syncline_consumer::config::{ConflictLog, NodeSettings};
use syncline_consumer::rows::Rows;
use syncline_consumer::targets::postgres::PostgresTarget;
use syncline_consumer::targets::{
    Batch, Contender, Contest, Contested, FenceArrival, Move, PartitionKey, TableBatch, TablePlan, Target, Writer,
    Written,
};
use syncline_event::avro::value::Value;
use syncline_event::stamp::{Seen, Stamp};
use syncline_integration_tests::conformance::{row, simple};
use syncline_integration_tests::database::Database;
use syncline_integration_tests::postgres_site::PostgresSite;
use syncline_transforms::resolve::row::{ConflictType, Operation, Version};
use syncline_transforms::resolve::rules::{ColumnRule, Rules, TableRule};

/// What a test says of one change.
struct Said<'a> {
    origin: &'a str,
    clock: u64,
    operation: Operation,
    row: (i64, &'a str),
    transaction: u32,
    note: &'a str,
    /// Name and note before an update.
    old: Option<(&'a str, &'a str)>,
    /// The offset behind the last record of the other node that was seen.
    saw: u64,
}

struct Node {
    site: PostgresSite,
    writer: Box<dyn Writer>,
    plan: Arc<dyn TablePlan>,
    /// Next offsets of the topics of `a` and `b`.
    next: BTreeMap<String, i64>,
}

fn settings(rule: TableRule) -> NodeSettings {
    let rules = Rules { priority: vec!["a".into(), "b".into()], default: rule, tables: BTreeMap::new() };
    NodeSettings {
        topology: "shop".into(),
        name: "a".into(),
        prefixes: BTreeMap::from([("a".into(), "shop.a".into()), ("b".into(), "shop.b".into())]),
        names: Arc::default(),
        rules: Arc::new(rules),
        log: ConflictLog { retention_days: 90, largest_value: 100, masked: vec!["note".into()], alerting: None },
    }
}

fn partition(origin: &str) -> PartitionKey {
    PartitionKey {
        group: "g.a".into(),
        cluster_id: "cluster".into(),
        topic: format!("shop.{origin}.public.t"),
        topic_id: format!("id-{origin}"),
        partition: 0,
    }
}

impl Node {
    async fn new(name: &str) -> Result<Self> {
        Self::with(name, TableRule::LastWriteWins).await
    }

    async fn with(name: &str, rule: TableRule) -> Result<Self> {
        let site = PostgresSite::new(name).await?;
        site.execute("CREATE TABLE t (id bigint PRIMARY KEY, name text, note text)").await?;
        let target = PostgresTarget::new(site.database.settings.clone(), "contest".into()).of_node(settings(rule));
        target.prepare().await?;
        let mut writer = target.writer().await?;
        for origin in ["a", "b"] {
            writer.progress(&partition(origin)).await?;
        }
        let plan = writer.plan(&simple()).await?;
        Ok(Self { site, writer, plan, next: BTreeMap::new() })
    }

    /// Writes changes in one batch; `fences` have come back in `a`'s only partition.
    async fn take(&mut self, said: &[Said<'_>], fences: &[u64]) -> Result<Contested> {
        let mut table = TableBatch {
            plan: Arc::clone(&self.plan),
            rows: Rows::new(3),
            deletes: Vec::new(),
            upserts: Vec::new(),
            updates: Vec::new(),
            fills: Vec::new(),
            contest: Contest::default(),
        };
        let mut from = self.next.clone();
        for said in said {
            let next = self.next.entry(said.origin.to_owned()).or_default();
            let offset = u64::try_from(*next)?;
            *next += 1;
            let place = u32::try_from(table.rows.len())?;
            let old = said.old.map(|(name, note)| row(said.row.0, name, note));
            for values in [Some(row(said.row.0, said.row.1, said.note)), old].into_iter().flatten() {
                for (column, value) in values.iter().enumerate() {
                    let pushed = table.rows.push(|out| self.plan.encode(column, value, out));
                    ensure!(pushed.is_ok());
                }
            }
            let start = table.contest.keys.len();
            let key = self.plan.encode_key(0, &Value::Integer(said.row.0), &mut table.contest.keys);
            ensure!(key.is_ok());
            let mut seen = Seen::default();
            seen.raise(if said.origin == "a" { "b" } else { "a" }, 0, said.saw);
            table.contest.changes.push(Contender {
                operation: said.operation,
                row: place,
                old: said.old.map(|_| place + 1),
                key: start..table.contest.keys.len(),
                version: Version {
                    stamp: Stamp { clock_us: said.clock, counter: 0, origin: said.origin.into() },
                    seen,
                    partition: 0,
                    offset,
                },
                transaction: said.transaction,
                own: said.origin == "a",
                partition: partition(said.origin),
            });
        }
        if !fences.is_empty() {
            *self.next.entry("a".into()).or_default() += 1;
        }
        let moves: Vec<Move> = self
            .next
            .iter()
            .filter(|(origin, to)| from.remove(*origin).unwrap_or_default() != **to || **to == 0)
            .map(|(origin, to)| (origin, *to))
            .map(|(origin, to)| Move {
                partition: partition(origin),
                from: 0,
                to,
                position: None,
                table: "public.t".into(),
                records: 0,
                last_key: None,
            })
            .collect();
        let mut moves = moves;
        for step in &mut moves {
            step.from = self.writer.progress(&step.partition).await?.0.next_offset;
        }
        let fences: Vec<FenceArrival> =
            fences.iter().map(|id| FenceArrival { id: *id, partition: 0, partitions: 1 }).collect();
        let batch = Batch { moves: &moves, tables: &[table], arrivals: &[], fences: &fences };
        match self.writer.write(&batch).await? {
            Written::Applied { contested, .. } => Ok(contested),
            Written::Fenced => anyhow::bail!("fenced"),
        }
    }

    async fn settle(&mut self) -> Result<Contested> {
        Ok(self.writer.settle(&[partition("a"), partition("b")]).await?)
    }

    /// Runs statements as the node's own application does; gives the transaction's id.
    async fn local(&self, statements: &str) -> Result<u32> {
        let mut conn = self.site.database.connect().await?;
        local_in(&mut conn, statements).await
    }

    async fn rows(&self) -> Result<String> {
        let text = "SELECT coalesce(string_agg(id || '=' || name, ' ' ORDER BY id), '') FROM t";
        Ok(self.site.value(text).await?.unwrap_or_default())
    }

    /// Conflicts as `type/resolution/source/target/result`.
    async fn conflicts(&self) -> Result<String> {
        let text = "SELECT coalesce(string_agg(concat_ws('/', conflict_type, resolution, \
             coalesce(source_value->>'name', '-'), coalesce(target_value->>'name', '-'), coalesce(result->>'name', '-')), \
             ' ' ORDER BY \"timestamp\"), '') FROM _syncline.sync_conflicts";
        Ok(self.site.value(text).await?.unwrap_or_default())
    }

    async fn fence(&self) -> Result<u64> {
        let id = self.site.value("SELECT max(id)::text FROM _syncline.fences").await?;
        Ok(id.unwrap_or_default().parse()?)
    }

    async fn remove(self) -> Result<()> {
        drop(self.writer);
        self.site.database.remove().await
    }
}

async fn local_in(conn: &mut PgConnection, statements: &str) -> Result<u32> {
    let mut transaction = conn.begin().await?;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut *transaction).await?;
    let id: i64 =
        sqlx::query("SELECT pg_current_xact_id()::text::int8").fetch_one(&mut *transaction).await?.try_get(0)?;
    transaction.commit().await?;
    Ok(u32::try_from(id)?)
}

fn change<'a>(origin: &'a str, clock: u64, operation: Operation, row: (i64, &'a str)) -> Said<'a> {
    Said { origin, clock, operation, row, transaction: 0, note: "secret", old: None, saw: 0 }
}

fn own<'a>(transaction: u32, clock: u64, operation: Operation, row: (i64, &'a str)) -> Said<'a> {
    Said { transaction, ..change("a", clock, operation, row) }
}

use Operation::{Delete, Insert, Update};

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
async fn a_row_that_this_node_inserts_at_the_same_time_is_not_written_over() -> Result<()> {
    let mut node = Node::new("contest_free").await?;
    let mut conn: PgConnection = node.site.database.connect().await?;
    let mut open = conn.begin().await?;
    sqlx::raw_sql("INSERT INTO t VALUES (1, 'mine', 'secret')").execute(&mut *open).await?;
    let id: i64 = sqlx::query("SELECT pg_current_xact_id()::text::int8").fetch_one(&mut *open).await?.try_get(0)?;
    let commit = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        open.commit().await
    };
    let theirs = [change("b", 5, Insert, (1, "theirs"))];
    let (written, committed) = tokio::join!(node.take(&theirs, &[]), commit);
    committed?;
    assert!(written.is_err_and(|error| error.to_string().contains("inserted a row with the same key")));
    node.next.clear();
    // Once more, as the lane does: now it waits.
    assert_eq!(node.take(&[change("b", 5, Insert, (1, "theirs"))], &[]).await?.set_aside, 1);
    let fence = node.fence().await?;
    node.take(&[own(u32::try_from(id)?, 10, Insert, (1, "mine"))], &[fence]).await?;
    assert_eq!(node.settle().await?.set_aside, 0);
    assert_eq!(node.rows().await?, "1=mine");
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

/// Both nodes know the row `(1, old, old)`.
async fn shared(name: &str, rule: TableRule) -> Result<Node> {
    let mut node = Node::with(name, rule).await?;
    let first = node.local("INSERT INTO t VALUES (1, 'old', 'old')").await?;
    node.take(&[Said { note: "old", ..own(first, 10, Insert, (1, "old")) }], &[]).await?;
    Ok(node)
}

impl Node {
    async fn notes(&self) -> Result<String> {
        let text = "SELECT coalesce(string_agg(name || '/' || note, ' ' ORDER BY id), '') FROM t";
        Ok(self.site.value(text).await?.unwrap_or_default())
    }

    /// Conflicts as `field/resolution/source/target/result`.
    async fn fields(&self) -> Result<String> {
        let text = "SELECT coalesce(string_agg(concat_ws('/', field, resolution, source_value #>> '{}', \
             target_value #>> '{}', result #>> '{}'), ' ' ORDER BY \"timestamp\", field), '') FROM _syncline.sync_conflicts";
        Ok(self.site.value(text).await?.unwrap_or_default())
    }
}

#[tokio::test]
async fn columns_that_different_nodes_changed_are_merged() -> Result<()> {
    let mut node = shared("contest_merge", TableRule::Merge).await?;
    let mine = node.local("UPDATE t SET name = 'mine'").await?;
    let theirs = Said { note: "theirs", old: Some(("old", "old")), saw: 1, ..change("b", 15, Update, (1, "old")) };
    assert_eq!(node.take(&[theirs], &[]).await?.set_aside, 1, "mine has no stamp yet");
    assert_eq!(node.notes().await?, "mine/theirs", "a column that nobody has written here is free");
    let fence = node.fence().await?;
    let mine = Said { note: "old", old: Some(("old", "old")), ..own(mine, 20, Update, (1, "mine")) };
    node.take(&[mine], &[fence]).await?;
    assert_eq!(node.settle().await?.set_aside, 0);
    assert_eq!((node.notes().await?.as_str(), node.fields().await?.as_str()), ("mine/theirs", ""));
    // Both change the same column: the node of the higher priority stays, although it was earlier.
    let again = node.local("UPDATE t SET note = 'a'").await?;
    let again = Said { note: "a", old: Some(("mine", "theirs")), saw: 1, ..own(again, 30, Update, (1, "mine")) };
    node.take(&[again], &[]).await?;
    let theirs = Said { note: "b", old: Some(("mine", "theirs")), saw: 2, ..change("b", 40, Update, (1, "mine")) };
    node.take(&[theirs], &[]).await?;
    assert_eq!(node.notes().await?, "mine/a");
    assert_eq!(node.fields().await?, "note/target/***/***/***", "the column is masked");
    node.remove().await
}

#[tokio::test]
async fn a_local_change_that_loses_is_undone() -> Result<()> {
    let mut node = shared("contest_undone", TableRule::LastWriteWinsBy("note".into())).await?;
    let theirs = Said { note: "z", old: Some(("old", "old")), saw: 1, ..change("b", 15, Update, (1, "theirs")) };
    node.take(&[theirs], &[]).await?;
    assert_eq!(node.notes().await?, "theirs/z");
    // It saw the other one, but its value is lower.
    let mine = node.local("UPDATE t SET name = 'mine', note = 'c'").await?;
    let mine = Said { note: "c", old: Some(("theirs", "z")), saw: 1, ..own(mine, 30, Update, (1, "mine")) };
    node.take(&[mine], &[]).await?;
    assert_eq!(node.notes().await?, "theirs/z");
    // So is a delete.
    let gone = node.local("UPDATE t SET note = 'd'; DELETE FROM t").await?;
    let change = Said { note: "d", old: Some(("theirs", "z")), saw: 1, ..own(gone, 40, Update, (1, "theirs")) };
    let delete = Said { note: "d", saw: 1, ..own(gone, 40, Delete, (1, "theirs")) };
    node.take(&[change, delete], &[]).await?;
    assert_eq!(node.notes().await?, "theirs/z");
    node.remove().await
}

#[tokio::test]
async fn columns_have_rules_of_their_own() -> Result<()> {
    let columns = BTreeMap::from([("note".to_owned(), ColumnRule::ConcatUnique)]);
    let mut node = shared("contest_columns", TableRule::Columns(columns)).await?;
    let mine = node.local("UPDATE t SET note = 'old,mine'").await?;
    let mine = Said { note: "old,mine", old: Some(("old", "old")), ..own(mine, 20, Update, (1, "old")) };
    let theirs =
        Said { note: "old,theirs", old: Some(("old", "old")), saw: 1, ..change("b", 15, Update, (1, "other")) };
    node.take(&[mine, theirs], &[]).await?;
    assert_eq!(node.notes().await?, "other/mine,old,theirs");
    node.remove().await
}

#[tokio::test]
async fn a_rule_that_does_not_go_with_its_column_is_told() -> Result<()> {
    let columns = BTreeMap::from([("note".to_owned(), ColumnRule::Sum)]);
    let error = shared("contest_rule", TableRule::Columns(columns)).await.err().map(|error| error.to_string());
    assert!(error.as_ref().is_some_and(|error| error.contains("sum adds up integers and numeric only")), "{error:?}");
    Ok(())
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
    let database: Database = node.site.database;
    drop(node.writer);
    database.remove().await
}
