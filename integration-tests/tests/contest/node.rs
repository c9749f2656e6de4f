//! A node on a database of its own, whose records a test makes.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _};
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
use syncline_integration_tests::postgres_site::PostgresSite;
use syncline_transforms::resolve::row::{Operation, Version};
use syncline_transforms::resolve::rules::{Rules, TableRule};

/// What a test says of one change.
pub(crate) struct Said<'a> {
    pub(crate) origin: &'a str,
    pub(crate) clock: u64,
    pub(crate) operation: Operation,
    pub(crate) row: (i64, &'a str),
    pub(crate) transaction: u32,
    pub(crate) note: &'a str,
    /// Name and note before an update.
    pub(crate) old: Option<(&'a str, &'a str)>,
    /// The offset behind the last record of the other node that was seen.
    pub(crate) saw: u64,
}

pub(crate) struct Node {
    pub(crate) site: PostgresSite,
    pub(crate) target: PostgresTarget,
    pub(crate) writer: Box<dyn Writer>,
    pub(crate) plan: Arc<dyn TablePlan>,
    /// Next offsets of the topics of `a` and `b`.
    pub(crate) next: BTreeMap<String, i64>,
}

pub(crate) fn settings(rule: TableRule) -> NodeSettings {
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

pub(crate) fn partition(origin: &str) -> PartitionKey {
    PartitionKey {
        group: "g.a".into(),
        cluster_id: "cluster".into(),
        topic: format!("shop.{origin}.public.t"),
        topic_id: format!("id-{origin}"),
        partition: 0,
    }
}

impl Node {
    pub(crate) async fn new(name: &str) -> Result<Self> {
        Self::with(name, TableRule::LastWriteWins).await
    }

    pub(crate) async fn with(name: &str, rule: TableRule) -> Result<Self> {
        let site = PostgresSite::new(name).await?;
        site.execute("CREATE TABLE t (id bigint PRIMARY KEY, name text, note text)").await?;
        let target = PostgresTarget::new(site.database.settings.clone(), "contest".into()).of_node(settings(rule));
        target.prepare().await?;
        let mut writer = target.writer().await?;
        for origin in ["a", "b"] {
            writer.progress(&partition(origin)).await?;
        }
        let plan = writer.plan(&simple()).await?;
        Ok(Self { site, target, writer, plan, next: BTreeMap::new() })
    }

    /// Writes changes in one batch; `fences` have come back in `a`'s only partition.
    pub(crate) async fn take(&mut self, said: &[Said<'_>], fences: &[u64]) -> Result<Contested> {
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
        let fences: Vec<FenceArrival> = fences
            .iter()
            .map(|id| FenceArrival { id: *id, partition: partition("a"), partitions: 1, seen: None })
            .collect();
        let batch = Batch { moves: &moves, tables: &[table], arrivals: &[], fences: &fences };
        match self.writer.write(&batch).await? {
            Written::Applied { contested, .. } => Ok(contested),
            Written::Fenced => anyhow::bail!("fenced"),
        }
    }

    /// A marker of one of a node's fences, which says what the node had seen of the other.
    pub(crate) async fn mark(&mut self, origin: &str, id: u64, saw: u64) -> Result<()> {
        let from = self.writer.progress(&partition(origin)).await?.0.next_offset;
        *self.next.entry(origin.into()).or_default() = from + 1;
        let mut seen = Seen::default();
        seen.raise(if origin == "a" { "b" } else { "a" }, 0, saw);
        let fence = FenceArrival { id, partition: partition(origin), partitions: 1, seen: Some(seen) };
        let (to, position, last_key) = (from + 1, None, None);
        let table = "public.t".into();
        let step = Move { partition: partition(origin), from, to, position, table, records: 0, last_key };
        let batch = Batch { moves: &[step], tables: &[], arrivals: &[], fences: &[fence] };
        ensure!(matches!(self.writer.write(&batch).await?, Written::Applied { .. }));
        Ok(())
    }

    pub(crate) async fn settle(&mut self) -> Result<Contested> {
        Ok(self.writer.settle(&[partition("a"), partition("b")]).await?)
    }

    /// Runs statements as the node's own application does; gives the transaction's id.
    pub(crate) async fn local(&self, statements: &str) -> Result<u32> {
        let mut conn = self.site.database.connect().await?;
        local_in(&mut conn, statements).await
    }

    pub(crate) async fn rows(&self) -> Result<String> {
        let text = "SELECT coalesce(string_agg(id || '=' || name, ' ' ORDER BY id), '') FROM t";
        Ok(self.site.value(text).await?.unwrap_or_default())
    }

    /// Conflicts as `type/resolution/source/target/result`.
    pub(crate) async fn conflicts(&self) -> Result<String> {
        let text = "SELECT coalesce(string_agg(concat_ws('/', conflict_type, resolution, \
             coalesce(source_value->>'name', '-'), coalesce(target_value->>'name', '-'), coalesce(result->>'name', '-')), \
             ' ' ORDER BY \"timestamp\"), '') FROM _syncline.sync_conflicts";
        Ok(self.site.value(text).await?.unwrap_or_default())
    }

    pub(crate) async fn fence(&self) -> Result<u64> {
        let id = self.site.value("SELECT max(id)::text FROM _syncline.fences").await?;
        Ok(id.unwrap_or_default().parse()?)
    }

    pub(crate) async fn remove(self) -> Result<()> {
        drop(self.writer);
        self.site.database.remove().await
    }
}

pub(crate) async fn local_in(conn: &mut PgConnection, statements: &str) -> Result<u32> {
    let mut transaction = conn.begin().await?;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut *transaction).await?;
    let id: i64 =
        sqlx::query("SELECT pg_current_xact_id()::text::int8").fetch_one(&mut *transaction).await?.try_get(0)?;
    transaction.commit().await?;
    Ok(u32::try_from(id)?)
}

pub(crate) fn change<'a>(origin: &'a str, clock: u64, operation: Operation, row: (i64, &'a str)) -> Said<'a> {
    Said { origin, clock, operation, row, transaction: 0, note: "secret", old: None, saw: 0 }
}

pub(crate) fn own<'a>(transaction: u32, clock: u64, operation: Operation, row: (i64, &'a str)) -> Said<'a> {
    Said { transaction, ..change("a", clock, operation, row) }
}
