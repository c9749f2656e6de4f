//! The producer of a node in a topology of several writable databases: stamps, loop prevention and fences, against real
//! servers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sqlx::PgConnection;
use syncline_event::handling::{DecimalHandling, Handling, TimePrecision};
use syncline_event::header::{BarrierKind, HEADER_NAME, Header, Stamped};
use syncline_event::stamp::{APPLIED_PREFIX, Applied, AppliedProgress, FENCE_PREFIX, Fence, Held, key_hash};
use syncline_integration_tests::database::Database;
use syncline_integration_tests::records::{self, Record};
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::stack;
use syncline_producer::columns::{ColumnSettings, Patterns};
use syncline_producer::config::{
    EventSettings, Format, NodeSettings, ProducerConfig, SignalSources, SkippedOperations, SnapshotMode,
};
use syncline_producer::error::ProducerError;
use syncline_producer::run::{RunOptions, run};
use syncline_producer::signals::Signal;
use syncline_producer::sources::postgres::preflight::preflight;
use syncline_producer::{resync, signals};
use syncline_runtime::settings::{KafkaSettings, RegistrySettings};
use syncline_runtime::shutdown::Shutdown;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;

/// A node's database, and what its producer is told.
struct Site {
    database: Database,
    config: ProducerConfig,
}

impl Site {
    async fn create(name: &str, tables: &[&str], script: &str) -> Result<(Self, PgConnection)> {
        let database = Database::create("SOURCE_PG_ADMIN", name).await?;
        let mut conn = database.connect().await?;
        execute(&mut conn, script).await?;
        let name = database.settings.database.clone();
        let config = ProducerConfig {
            kafka: KafkaSettings { partitions: PARTITIONS, ..stack::kafka()? },
            registry: RegistrySettings { urls: Vec::new(), username: None, password: None },
            topic_prefix: name.clone(),
            source: database.settings.clone(),
            slot: name.clone(),
            publication: name,
            tables: tables.iter().map(|&table| table.to_owned()).collect(),
            parallel_tables: 1,
            checkpoint_interval: Duration::from_secs(1),
            snapshot_mode: SnapshotMode::Initial,
            capture_before_values: false,
            chunk_size: 1024,
            signals: SignalSources::default(),
            skip_unsupported_columns: false,
            events: EventSettings { format: Format::Json, ..EventSettings::default() },
            heartbeat: None,
            failover: false,
            node: Some(NodeSettings { topology: "shop".into(), name: "hq".into(), priority: 2 }),
        };
        Ok((Self { database, config }, conn))
    }

    fn topic(&self, table: &str) -> String {
        format!("{}.public.{table}", self.config.topic_prefix)
    }

    fn start(&self) -> Life {
        start(self.config.clone())
    }

    /// What a start is refused with.
    async fn refusal(&self, config: ProducerConfig) -> Result<String> {
        let ended = tokio::time::timeout(PATIENCE, start(config).task).await.context("the start is not refused")??;
        Ok(ended.err().context("the start is not refused")?.to_string())
    }

    async fn finish(self) -> Result<()> {
        let mut conn = self.database.connect().await?;
        let drop = format!(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = '{0}' AND active;
             SELECT pg_drop_replication_slot('{0}')",
            self.config.slot
        );
        execute(&mut conn, drop).await?;
        let prefix = format!("{}.", self.config.topic_prefix);
        stack::delete_topics(|topic| topic.starts_with(&prefix)).await?;
        self.database.remove().await
    }
}

fn start(config: ProducerConfig) -> Life {
    let shutdown = Shutdown::new();
    Life { task: tokio::spawn(run(config, RunOptions::default(), shutdown.clone())), shutdown }
}

struct Life {
    task: JoinHandle<Result<(), ProducerError>>,
    shutdown: Shutdown,
}

impl Life {
    async fn stop(self) -> Result<()> {
        self.shutdown.trigger();
        Ok(tokio::time::timeout(PATIENCE, self.task).await.context("the producer does not end")???)
    }

    /// Ends as by a crash: nothing is waited for, nothing confirmed.
    async fn kill(self) {
        self.task.abort();
        self.task.await.ok();
    }
}

/// A record with its header read.
#[derive(Debug, Clone)]
struct Read {
    record: Record,
    header: Header,
    /// The key's `id`.
    id: Option<i64>,
}

impl Read {
    fn stamped(&self) -> Result<&Stamped> {
        self.header.stamped.as_ref().with_context(|| format!("no stamp: {self:?}"))
    }

    fn time(&self) -> (u64, u32) {
        self.header.stamped.as_ref().map_or((0, 0), |stamped| (stamped.stamp.clock_us, stamped.stamp.counter))
    }
}

async fn read(topic: &str) -> Result<Vec<Read>> {
    if records::count(topic).await? == 0 {
        return Ok(Vec::new());
    }
    let records = records::read(&[topic.to_owned()]).await?.remove(0);
    let read = records.into_iter().map(|record| {
        let header = Header::decode(record.header(HEADER_NAME).context("no header of ours")?)?;
        let key: Option<serde_json::Value> = record.key.as_deref().map(serde_json::from_slice).transpose()?;
        let id = key.and_then(|key| key["id"].as_i64());
        Ok(Read { record, header, id })
    });
    read.collect()
}

/// The topic's records once `wanted` holds for them.
async fn read_once(topic: &str, what: &str, wanted: impl Fn(&[Read]) -> bool) -> Result<Vec<Read>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = read(topic).await?;
        if wanted(&found) {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{topic} does not come to hold {what}: {found:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The changes of a row, without tombstones.
fn changes(found: &[Read], id: i64) -> Vec<&Read> {
    found.iter().filter(|read| read.id == Some(id) && read.record.value.is_some()).collect()
}

fn holds(found: &[Read], id: i64) -> bool {
    !changes(found, id).is_empty()
}

fn now_us() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

fn literal(content: serde_json::Value) -> String {
    content.to_string().replace('\'', "''")
}

/// A transaction as Syncline applies changes of another node.
fn applying(topology: &str, clock_us: u64, progress: &[(&str, u32, u64)], statements: &str) -> Result<String> {
    let progress = progress.iter().map(|(table, partition, next_offset)| AppliedProgress {
        origin: "eu".into(),
        table: (*table).into(),
        partition: *partition,
        next_offset: *next_offset,
        held_from: None,
        crowded: false,
    });
    let applied =
        Applied { topology: topology.into(), clock_us, counter: 3, progress: progress.collect(), held: Vec::new() };
    let content = literal(json!(applied));
    Ok(format!("BEGIN; SELECT pg_logical_emit_message(true, '{APPLIED_PREFIX}', '{content}'); {statements}; COMMIT"))
}

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY FULL;
                      CREATE TABLE u (id int PRIMARY KEY, v text); ALTER TABLE u REPLICA IDENTITY FULL;
                      INSERT INTO t VALUES (1, 'a'), (2, 'b')";

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_stamped_in_the_order_of_the_log_and_applied_ones_are_left_out() -> Result<()> {
    let (site, mut conn) = Site::create("node", &["t", "u"], TABLES).await?;
    let topic = site.topic("t");
    let life = site.start();
    let found = read_once(&topic, "the snapshot", |found| holds(found, 1) && holds(found, 2)).await?;
    for read in found.iter().filter(|read| read.header.barrier.is_none()) {
        let Stamped { stamp, transaction, seen } = read.stamped()?;
        ensure!((stamp.clock_us, stamp.counter, stamp.origin.as_str()) == (0, 2, "hq"), "{read:?}");
        ensure!(*transaction == 0 && seen.origins.is_empty(), "{read:?}");
    }

    let before = now_us()?;
    execute(&mut conn, "BEGIN; INSERT INTO t VALUES (3, 'c'); UPDATE t SET v = 'd' WHERE id = 3").await?;
    let xid: String = value(&mut conn, "SELECT pg_current_xact_id()::text").await?;
    execute(&mut conn, "UPDATE t SET id = 4 WHERE id = 3; DELETE FROM t WHERE id = 4; COMMIT").await?;
    execute(&mut conn, "UPDATE t SET v = 'e' WHERE id = 1").await?;
    // Partitions are acknowledged in no order.
    let tombstones = |found: &[Read]| {
        let is_tombstone = |read: &&Read| read.record.key.is_some() && read.record.value.is_none();
        found.iter().filter(is_tombstone).cloned().collect::<Vec<_>>()
    };
    let all = |found: &[Read]| {
        let counts = [1, 3, 4].map(|id| changes(found, id).len());
        counts[0] == 2 && counts[1] + counts[2] == 5 && tombstones(found).len() == 2
    };
    let found = read_once(&topic, "an update of 1 and what was before it", all).await?;
    let (third, fourth, first) = (changes(&found, 3), changes(&found, 4), changes(&found, 1));
    // An insert, an update, a key change's two records and a delete, all of one transaction.
    let times: Vec<_> = third.iter().chain(&fourth).map(|read| read.time()).collect();
    ensure!(times.len() == 5 && times.iter().all(|time| *time == times[0]), "{times:?}");
    ensure!(times[0].0 >= before && times[0] < first[1].time(), "{times:?}");
    for read in third.iter().chain(&fourth) {
        ensure!(read.stamped()?.transaction.to_string() == xid, "{read:?}, not {xid}");
    }
    ensure!(tombstones(&found).iter().all(|read| read.header.stamped.is_none()));

    // An hour ahead.
    let ahead = now_us()? + 3_600_000_000;
    let statements =
        "INSERT INTO t VALUES (100, 'x'); UPDATE t SET v = 'x' WHERE id = 2; INSERT INTO u VALUES (100, 'x')";
    execute(&mut conn, applying("shop", ahead, &[("public.t", 1, 7), ("public.u", 0, 9)], statements)?).await?;
    execute(&mut conn, applying("another", ahead * 2, &[], "INSERT INTO t VALUES (101, 'y')")?).await?;
    execute(&mut conn, "UPDATE t SET v = 'f' WHERE id = 1; INSERT INTO u VALUES (1, 'z')").await?;
    let both = |found: &[Read]| changes(found, 1).len() == 3 && holds(found, 101);
    let found = read_once(&topic, "another update of 1 and what another topology wrote", both).await?;
    ensure!(!holds(&found, 100) && changes(&found, 2).len() == 1, "a change that was applied is published: {found:#?}");
    let others = changes(&found, 101)[0];
    ensure!(others.time() == (ahead, 4), "{others:?}");
    let last = changes(&found, 1)[2];
    ensure!(last.time() == (ahead, 5), "{last:?}");
    let seen = &last.stamped()?.seen;
    ensure!(seen.origins == [("eu".to_owned(), vec![0, 7])], "{seen:?}");
    let found = read_once(&site.topic("u"), "an insert", |found| holds(found, 1)).await?;
    ensure!(!holds(&found, 100), "{found:#?}");
    let seen = &changes(&found, 1)[0].stamped()?.seen;
    ensure!(seen.origins == [("eu".to_owned(), vec![9])], "{seen:?}");

    // A row that does not show all of that yet.
    let held =
        Held { table: "public.t".into(), key: key_hash(["1"]), origin: "eu".into(), partition: 1, from: Some(5) };
    let held = Applied { topology: "shop".into(), clock_us: 1, counter: 0, progress: Vec::new(), held: vec![held] };
    let held = literal(json!(held));
    execute(&mut conn, format!("SELECT pg_logical_emit_message(true, '{APPLIED_PREFIX}', '{held}')")).await?;
    execute(&mut conn, "UPDATE t SET v = 'g' WHERE id = 1; INSERT INTO t VALUES (5, 'g')").await?;
    let both = |found: &[Read]| changes(found, 1).len() == 4 && holds(found, 5);
    let found = read_once(&topic, "what is behind it", both).await?;
    for (id, next) in [(1, 5), (5, 7)] {
        let of_row = changes(&found, id);
        let last = of_row.last().with_context(|| format!("{id} is not there"))?.stamped()?;
        ensure!(last.seen.origins == [("eu".to_owned(), vec![0, next])], "{id}: {last:?}");
    }

    // A message that is not the first statement comes too late.
    let late = applying("shop", 1, &[], "INSERT INTO t VALUES (103, 'y')")?.replacen(
        "BEGIN;",
        "BEGIN; INSERT INTO t VALUES (102, 'y');",
        1,
    );
    execute(&mut conn, late).await?;
    read_once(&topic, "a transaction with a late message", |found| holds(found, 102) && holds(found, 103)).await?;

    // What a truncate empties is told by its stamp.
    execute(&mut conn, "TRUNCATE t").await?;
    let truncates = |found: &[Read]| {
        let kind = |read: &Read| read.header.barrier.map(|barrier| barrier.kind);
        found.iter().filter(|read| kind(read) == Some(BarrierKind::Truncate)).map(Read::time).collect::<Vec<_>>()
    };
    let found = read_once(&topic, "a truncate", |found| truncates(found).len() == 3).await?;
    ensure!(truncates(&found).iter().all(|time| *time > (ahead, 5)), "{:?}", truncates(&found));
    life.stop().await?;
    site.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_is_answered_in_every_partition_behind_what_was_committed_before() -> Result<()> {
    let (site, mut conn) = Site::create("fence", &["t", "u"], TABLES).await?;
    let topic = site.topic("t");
    let life = site.start();
    read_once(&topic, "the snapshot", |found| holds(found, 2)).await?;
    execute(&mut conn, "INSERT INTO t SELECT n, 'x' FROM generate_series(10, 300) n").await?;
    let ahead = now_us()? + 3_600_000_000;
    let fence = |topology: &str, id: u64| Fence {
        topology: topology.into(),
        id,
        tables: vec!["public.t".into(), "public.unknown".into()],
        clock_us: ahead,
        counter: 8,
    };
    let ask = |fence: &Fence| -> Result<String> {
        Ok(format!("SELECT pg_logical_emit_message(false, '{FENCE_PREFIX}', '{}')", literal(json!(fence))))
    };
    execute(&mut conn, ask(&fence("another", 1))?).await?;
    execute(&mut conn, ask(&fence("shop", 77))?).await?;
    let asked = Instant::now();
    // Nothing follows in the log.
    let count = |found: &[Read]| found.iter().filter(|read| read.header.fence.is_some()).count();
    let found = read_once(&topic, "a marker a partition", |found| count(found) == 3).await?;
    ensure!(asked.elapsed() < Duration::from_secs(5), "a fence is answered after {:?}", asked.elapsed());
    execute(&mut conn, "UPDATE t SET v = 'y'").await?;
    let after = read_once(&topic, "the update", |found| found_rows(found, "y") == 293).await?;
    for partition in 0..PARTITIONS {
        let of = |found: &[Read]| found.iter().filter(|r| r.record.partition == partition).cloned().collect::<Vec<_>>();
        let (found, after) = (of(&found), of(&after));
        let (marker, earlier) = found.split_last().context("an empty partition")?;
        let fence = marker.header.fence.with_context(|| format!("the marker is not the last: {marker:?}"))?;
        ensure!(fence.id == 77 && fence.partitions == 3, "{fence:?}");
        ensure!(marker.record.key.is_none() && marker.record.value.is_none() && marker.header.definition == 0);
        ensure!(marker.time() == (ahead, 8) && earlier.iter().all(|read| read.time() < (ahead, 0)), "{marker:?}");
        let later = &after[found.len()..];
        ensure!(!later.is_empty() && later.iter().all(|read| read.time() > (ahead, 8)), "partition {partition}");
    }
    ensure!(count(&read(&site.topic("u")).await?) == 0, "a table that was not named is answered for");
    life.stop().await?;
    site.finish().await
}

/// Records whose row has this `v`.
fn found_rows(found: &[Read], v: &str) -> usize {
    let has = |read: &&Read| {
        let value: Option<serde_json::Value> =
            read.record.value.as_deref().and_then(|value| serde_json::from_slice(value).ok());
        value.is_some_and(|value| value["after"]["v"] == v)
    };
    found.iter().filter(has).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_repeated_after_a_crash_carries_the_same_stamps() -> Result<()> {
    let (site, mut conn) = Site::create("again", &["t", "u"], TABLES).await?;
    let topic = site.topic("t");
    let mut life = site.start();
    read_once(&topic, "the snapshot", |found| holds(found, 2)).await?;
    let (mut repeated, mut id) = (0, 10);
    for round in 0_u64..12 {
        for step in 0..20 {
            let ahead = now_us()? + 1_000_000 * round;
            let progress = [("public.t", 0, round * 20 + step), ("public.t", 2, round)];
            execute(&mut conn, applying("shop", ahead, &progress, "UPDATE t SET v = v || 'r' WHERE id = 1")?).await?;
            id += 2;
            execute(&mut conn, format!("INSERT INTO t VALUES ({id}, 'l'), ({id} + 1, 'l')")).await?;
            if step == 7 {
                let (topology, tables) = ("shop".to_owned(), vec!["public.u".to_owned()]);
                let fence = Fence { topology, id: round, tables, clock_us: ahead + 500, counter: 0 };
                let ask =
                    format!("SELECT pg_logical_emit_message(false, '{FENCE_PREFIX}', '{}')", literal(json!(fence)));
                execute(&mut conn, ask).await?;
            }
        }
        read_once(&topic, "the round", |found| holds(found, id)).await?;
        life.kill().await;
        life = site.start();
        execute(&mut conn, format!("INSERT INTO t VALUES ({id} + 100000, 'n')")).await?;
        let found = read_once(&topic, "the next", |found| holds(found, id + 100_000)).await?;
        let mut by_position: BTreeMap<(i32, u64, u64, u8), Vec<&Read>> = BTreeMap::new();
        for read in found.iter().filter(|read| read.header.barrier.is_none()) {
            let position = read.header.position;
            let place = (read.record.partition, position.lsn, position.number, position.sub);
            by_position.entry(place).or_default().push(read);
        }
        // Transactions are numbered in the order in which they began, here one behind the other.
        let mut stamped = BTreeMap::new();
        for reads in by_position.values().filter(|reads| reads[0].time().0 > 0) {
            let (transaction, time) = (reads[0].stamped()?.transaction, reads[0].time());
            ensure!(
                stamped.insert(transaction, time).is_none_or(|other| other == time),
                "a transaction has two stamps"
            );
        }
        let times: Vec<_> = stamped.into_values().collect();
        ensure!(times.windows(2).all(|two| two[0] < two[1]), "two transactions share a stamp");
        for reads in by_position.values().filter(|reads| reads.len() > 1) {
            repeated += reads.len() - 1;
            ensure!(reads.iter().all(|read| read.header == reads[0].header), "{reads:#?}");
        }
        if repeated > 20 && round > 2 {
            break;
        }
    }
    ensure!(repeated > 0, "no crash made a producer repeat anything");
    life.stop().await?;
    site.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_snapshot_begins_again_and_loses_no_delete() -> Result<()> {
    let rows = "INSERT INTO u SELECT n, repeat('u', 200) FROM generate_series(1, 200000) n";
    let (site, mut conn) = Site::create("broken_off", &["u"], &format!("{TABLES}; {rows}")).await?;
    let topic = site.topic("u");
    let life = site.start();
    let deadline = Instant::now() + PATIENCE;
    while records::count(&topic).await? <= i64::from(PARTITIONS) {
        ensure!(Instant::now() < deadline, "the snapshot does not begin");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    life.kill().await;
    let published = records::count(&topic).await?;
    ensure!(published < 200_000, "the snapshot was over before it was broken off");
    let first = read(&topic).await?.into_iter().filter_map(|read| read.id).next().context("nothing is published")?;
    execute(&mut conn, format!("DELETE FROM u WHERE id = {first}; UPDATE u SET v = 'new' WHERE id = 200000")).await?;
    let life = site.start();
    let last = |found: &[Read], id| changes(found, id).iter().any(|read| read.time().0 > 0);
    let found = read_once(&topic, "the changes", |found| last(found, first) && last(found, 200_000)).await?;
    let epochs: Vec<_> = found.iter().map(|read| read.header.position.epoch).collect();
    ensure!(epochs.contains(&1) && epochs.contains(&2), "the snapshot did not begin again");
    ensure!(found.iter().all(|read| read.header.barrier.is_none_or(|barrier| barrier.kind == BarrierKind::Epoch)));
    let of_first = changes(&found, first);
    ensure!(of_first.len() == 2 && of_first[1].header.position.epoch == 2, "the snapshot read a row that is gone");
    life.stop().await?;
    site.finish().await
}

/// Whether the last checkpoint has an incremental snapshot.
async fn is_being_read(prefix: &str) -> Result<bool> {
    let records = records::read(&[format!("{prefix}.syncline.checkpoint")]).await?.remove(0);
    // The producer's own marks have no value.
    let Some(value) = records.iter().rev().find_map(|record| record.value.as_deref()) else { return Ok(true) };
    let checkpoint: serde_json::Value = serde_json::from_slice(value)?;
    Ok(checkpoint["incremental"]["scans"].as_array().is_some_and(|scans| !scans.is_empty()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_is_read_beneath_what_happens_meanwhile() -> Result<()> {
    let (mut site, mut conn) = Site::create("added", &["t"], TABLES).await?;
    let life = site.start();
    read_once(&site.topic("t"), "the snapshot", |found| holds(found, 2)).await?;
    life.stop().await?;
    execute(&mut conn, "INSERT INTO u SELECT n, 'u' FROM generate_series(1, 3000) n").await?;
    site.config.tables.push("u".into());
    for _ in 0..2 {
        let life = site.start();
        tokio::time::sleep(Duration::from_millis(700)).await;
        life.kill().await;
    }
    let life = site.start();
    let topic = site.topic("u");
    read_once(&topic, "the rows", |found| (1..=3000).all(|id| holds(found, id))).await?;
    // Rows may be read once more, and what is applied meanwhile with them.
    let deadline = Instant::now() + PATIENCE;
    while is_being_read(&site.config.topic_prefix).await? {
        ensure!(Instant::now() < deadline, "the snapshot of the new table does not end");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    execute(&mut conn, applying("shop", now_us()?, &[], "UPDATE u SET v = 'applied' WHERE id = 1")?).await?;
    execute(&mut conn, "UPDATE u SET v = 'own' WHERE id = 2").await?;
    let found = read_once(&topic, "the change", |found| found_rows(found, "own") == 1).await?;
    ensure!(found_rows(&found, "applied") == 0);
    for read in found.iter().filter(|read| read.header.barrier.is_none() && read.id != Some(2)) {
        let stamped = read.stamped()?;
        ensure!((stamped.stamp.clock_us, stamped.stamp.counter, stamped.transaction) == (0, 2, 0), "{read:?}");
    }
    ensure!(found.iter().all(|read| read.header.barrier.is_none_or(|barrier| barrier.kind == BarrierKind::Epoch)));
    life.stop().await?;

    // Taken off and in again, what was changed meanwhile would lack stamps.
    site.config.tables = vec!["t".into()];
    let life = site.start();
    execute(&mut conn, "UPDATE t SET v = 'w'").await?;
    read_once(&site.topic("t"), "an update", |found| found_rows(found, "w") == 2).await?;
    life.stop().await?;
    let both = ProducerConfig { tables: vec!["t".into(), "u".into()], ..site.config.clone() };
    let refusal = site.refusal(both).await?;
    ensure!(refusal.contains("public.u") && refusal.contains("kafka.topic_prefix"), "{refusal}");
    site.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_cannot_do_is_refused() -> Result<()> {
    let (site, mut conn) = Site::create("cannot", &["t", "w"], TABLES).await?;
    execute(&mut conn, "CREATE TABLE w (id int PRIMARY KEY, v text)").await?;
    let lossy = ProducerConfig {
        snapshot_mode: SnapshotMode::WhenNeeded,
        skip_unsupported_columns: true,
        events: EventSettings {
            skipped: SkippedOperations { deletes: true, ..SkippedOperations::default() },
            handling: Handling {
                decimal: DecimalHandling::Double,
                time: TimePrecision::Connect,
                ..Handling::default()
            },
            columns: ColumnSettings { exclude: Some(Patterns::parse("none.of.them").unwrap()), ..Default::default() },
            ..site.config.events.clone()
        },
        ..site.config.clone()
    };
    let mut control = syncline_catalog::connect::connect(&site.database.settings, "test").await?;
    let Err(ProducerError::Preflight(problems)) = preflight(&mut control, &lossy).await else {
        anyhow::bail!("nothing is refused")
    };
    for (part, remedy) in [
        ("snapshot.mode when_needed", "initial"),
        ("skipped.operations", "none"),
        ("skip.unsupported.columns", "false"),
        ("decimal.handling.mode double", "precise"),
        ("time.precision.mode connect", "adaptive"),
        ("column.exclude.list", "remove it"),
        ("a node of a topology needs whole old rows of \"public\".\"w\"", "REPLICA IDENTITY FULL"),
    ] {
        ensure!(problems.iter().any(|p| p.contains(part) && p.contains(remedy)), "{part} is not in {problems:#?}");
    }
    ensure!(problems.len() == 7, "{problems:#?}");
    execute(&mut conn, "ALTER TABLE w REPLICA IDENTITY FULL").await?;

    let life = site.start();
    read_once(&site.topic("t"), "the snapshot", |found| holds(found, 2)).await?;
    execute(&mut conn, "INSERT INTO w VALUES (1, 'w')").await?;
    read_once(&site.topic("w"), "an insert", |found| holds(found, 1)).await?;
    life.stop().await?;
    let named = |topology: &str, name: &str| ProducerConfig {
        node: Some(NodeSettings { topology: topology.into(), name: name.into(), priority: 2 }),
        ..site.config.clone()
    };
    for (config, part) in [
        (named("shop", "eu"), "hq"),
        (named("store", "hq"), "store"),
        (ProducerConfig { node: None, ..site.config.clone() }, "names no node"),
    ] {
        let refusal = site.refusal(config).await?;
        ensure!(refusal.contains(part) && refusal.contains("publication"), "{refusal}");
    }
    for error in [resync::plan(&site.config).await.err(), resync::execute(&site.config).await.err()] {
        let error = error.context("a resync is not refused")?.to_string();
        ensure!(error.contains("node hq") && error.contains("cannot be read again"), "{error}");
    }
    let data = json!({"data-collections": ["public.t"]});
    let signal = Signal { id: None, kind: "execute-snapshot".into(), data };
    let error = signals::send::send(&site.config, &signal).await.err().context("a signal is not refused")?.to_string();
    ensure!(error.contains("node hq"), "{error}");

    // A malformed message of our own prefix stops with what to do.
    let life = site.start();
    execute(&mut conn, format!("SELECT pg_logical_emit_message(true, '{APPLIED_PREFIX}', 'secret')")).await?;
    let ended = tokio::time::timeout(PATIENCE, life.task).await.context("the producer goes on")??;
    let error = ended.err().context("the producer ends well")?.to_string();
    ensure!(error.contains(APPLIED_PREFIX) && error.contains("upgrade") && !error.contains("secret"), "{error}");
    site.finish().await
}
