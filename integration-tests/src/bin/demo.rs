//! The demonstration behind `make demo`: a live shop kept in step with another database through Kafka, and a verdict.
//!
//! Environment: the addresses of `dev/stack env`; `DEMO_ROWS` and `DEMO_SECONDS` for its size; `DEMO_RATE` for the load;
//! `KEEP=1` to leave everything running until Ctrl-C.
#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sqlx::{PgConnection, Row};
use syncline_integration_tests::compare::{self, Name};
use syncline_integration_tests::database;
use syncline_integration_tests::generator::{Control, Generator};
use syncline_integration_tests::process::{Process, tail};
use syncline_integration_tests::stage::{log_file, number, step};
use syncline_integration_tests::{shop, sql, stack, stage};
use syncline_runtime::kafka::Admin;
use syncline_runtime::settings::DatabaseSettings;

/// As docs/examples/one-way.yaml says.
const PREFIX: &str = "shop.";
const SLOT: &str = "shop_analytics";
const FILE: &str = "docs/examples/one-way.yaml";
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> ExitCode {
    let handed_over = AtomicBool::new(false);
    stage::present(Box::pin(demo(&handed_over)), &handed_over, remove()).await
}

async fn demo(handed_over: &AtomicBool) -> Result<()> {
    let rows = number("DEMO_ROWS", 60_000)?;
    let length = Duration::from_secs(number("DEMO_SECONDS", 20)?);
    let rate = u32::try_from(number("DEMO_RATE", 600)?)?;
    let keep = stage::keep();
    let (source_role, target_role) = (stack::server("SOURCE_PG")?, stack::server("TARGET_PG")?);

    step("an empty shop, an empty target, no topics");
    stage::clear(&source_role, &target_role, PREFIX).await?;

    step(&format!("about {rows} rows in {}", shop::TABLES.join(", ")));
    let mut source = database::connect(&source_role).await?;
    shop::create(&mut source, rows).await?;

    step(&format!("syncline run -f {FILE}"));
    let log = log_file("demo");
    let mut sync = stage::start(FILE, &source_role, &target_role, &log)?;
    let started = Instant::now();
    let (control, load) = Generator::new(database::connect(&source_role).await?, 2026).spawn(rate);

    let mut watch = Watch::new(&source_role, &target_role).await?;
    let work = async {
        watch.first_copy(&mut sync, started).await?;
        watch.show(&mut sync, &control, length).await?;
        if keep {
            return Ok(());
        }
        control.stop.store(true, Ordering::Relaxed);
        step("the load has stopped; catching up");
        watch.catch_up(&mut sync).await
    };
    if let Err(error) = work.await {
        println!("\n--- end of {}\n{}", log.display(), tail(&sync.log()));
        return Err(error);
    }
    if keep {
        handed_over.store(true, Ordering::Relaxed);
        return leave_running(&mut sync, &source_role, &target_role, &log).await;
    }
    load.await??;
    let usage = sync.usage()?;
    sync.stop().await?;
    step("comparing source and target, row by row");
    let equal = verdict(&source_role, &target_role).await?;
    watch.summary(&control, usage);
    ensure!(equal, "source and target differ");
    // As it was found, so that the next one to use the stack does not meet half of a sync.
    remove().await
}

/// Removes what the demo has made, its log too.
async fn remove() -> Result<()> {
    stage::clear(&stack::server("SOURCE_PG")?, &stack::server("TARGET_PG")?, PREFIX).await?;
    std::fs::remove_file(log_file("demo")).ok();
    Ok(())
}

/// What the demo looks at while the sync works.
struct Watch {
    source: PgConnection,
    target: PgConnection,
    kafka: Admin,
    /// Records applied at the last look, in the order of the tables.
    applied: [i64; shop::TABLES.len()],
    looked: Instant,
    lines: usize,
    probe: u64,
    latencies: Vec<Duration>,
    copied: Duration,
    copied_rows: i64,
    streamed: (i64, Duration),
    caught_up: Duration,
}

impl Watch {
    async fn new(source: &DatabaseSettings, target: &DatabaseSettings) -> Result<Self> {
        Ok(Self {
            source: database::connect(source).await?,
            target: database::connect(target).await?,
            kafka: stack::admin().await?,
            applied: [0; shop::TABLES.len()],
            looked: Instant::now(),
            lines: 0,
            probe: 0,
            latencies: Vec::new(),
            copied: Duration::ZERO,
            copied_rows: 0,
            streamed: (0, Duration::ZERO),
            caught_up: Duration::ZERO,
        })
    }

    /// Shows the tables until the rows that were there at the start are in the target.
    async fn first_copy(&mut self, sync: &mut Process, started: Instant) -> Result<()> {
        step("first copy, with writes going on");
        // The first probe comes with the copy or behind it. The second was written when the copy's point in time was
        // past, so it comes by the log: what Kafka holds then is all of the copy.
        let mut probes = 0;
        let mut ends: Option<Vec<i64>> = None;
        self.source_probe().await?;
        loop {
            sync.expect_running()?;
            ensure!(started.elapsed() < PATIENCE, "the first copy is not through after {PATIENCE:?}");
            match &ends {
                Some(ends) if self.has_applied(ends).await? => break,
                None if self.target_has_probe().await? => {
                    probes += 1;
                    if probes < 2 {
                        self.source_probe().await?;
                    } else {
                        ends = Some(self.ends().await?);
                    }
                }
                Some(_) | None => {}
            }
            if self.looked.elapsed() > Duration::from_secs(1) {
                self.table().await?;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.copied = started.elapsed();
        self.table().await?;
        self.copied_rows = self.applied.iter().sum();
        self.lines = 0;
        Ok(())
    }

    /// Shows the tables every second for a while, with a probe a second to see how long a change takes.
    async fn show(&mut self, sync: &mut Process, control: &Control, length: Duration) -> Result<()> {
        step("changes, as they happen");
        let (begin, first) = (Instant::now(), control.statements.load(Ordering::Relaxed));
        let before: i64 = self.applied.iter().sum();
        while begin.elapsed() < length {
            sync.expect_running()?;
            ensure!(
                begin.elapsed() < Duration::from_secs(10) || control.statements.load(Ordering::Relaxed) > first,
                "the load has stopped by itself"
            );
            let sent = Instant::now();
            self.source_probe().await?;
            while !self.target_has_probe().await? {
                ensure!(sent.elapsed() < PATIENCE, "a change is not in the target after {PATIENCE:?}");
                sync.expect_running()?;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            self.latencies.push(sent.elapsed());
            tokio::time::sleep(Duration::from_secs(1).saturating_sub(self.looked.elapsed())).await;
            self.table().await?;
        }
        self.streamed = (self.applied.iter().sum::<i64>() - before, begin.elapsed());
        Ok(())
    }

    async fn catch_up(&mut self, sync: &mut Process) -> Result<()> {
        let begin = Instant::now();
        // Below what has been said since the last table.
        self.lines = 0;
        self.source_probe().await?;
        let names = shop::TABLES.map(Name::of);
        while !self.target_has_probe().await? {
            sync.expect_running()?;
            ensure!(begin.elapsed() < PATIENCE, "not caught up after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The probe's partition is through; the others may need a moment more.
        for name in &names {
            while !compare::equal(&mut self.source, &mut self.target, name).await? {
                sync.expect_running()?;
                if begin.elapsed() > PATIENCE {
                    bail!("{} is not equal after {PATIENCE:?}", name.sql());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.caught_up = begin.elapsed();
        self.table().await
    }

    /// Where the topics end now, in the order of the tables.
    async fn ends(&self) -> Result<Vec<i64>> {
        let mut ends = Vec::new();
        for table in shop::TABLES {
            ends.push(self.kafka.end_offsets(&format!("{PREFIX}public.{table}")).await?.iter().sum());
        }
        Ok(ends)
    }

    async fn has_applied(&mut self, ends: &[i64]) -> Result<bool> {
        for (table, end) in shop::TABLES.iter().zip(ends) {
            if self.progress(table).await?.1 < *end {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn source_probe(&mut self) -> Result<()> {
        self.probe += 1;
        let probe = self.probe;
        sql::execute(
            &mut self.source,
            format!(
                "INSERT INTO products (sku, title, price) VALUES ('probe', 'probe {probe}', 0)
                 ON CONFLICT (sku) DO UPDATE SET title = excluded.title"
            ),
        )
        .await
    }

    async fn target_has_probe(&mut self) -> Result<bool> {
        if !sql::value::<bool>(&mut self.target, "SELECT to_regclass('public.products') IS NOT NULL").await? {
            return Ok(false);
        }
        let text =
            format!("SELECT EXISTS (SELECT FROM products WHERE sku = 'probe' AND title = 'probe {}')", self.probe);
        sql::value(&mut self.target, text).await
    }

    /// One look: rows on both sides, records applied a second, records still in Kafka.
    async fn table(&mut self) -> Result<()> {
        let elapsed = self.looked.elapsed().max(Duration::from_millis(1));
        self.looked = Instant::now();
        let mut text = format!("{:<12} {:>10} {:>10} {:>10} {:>8}\n", "table", "source", "target", "changes/s", "lag");
        for (index, table) in shop::TABLES.iter().enumerate() {
            let source: i64 = sql::value(&mut self.source, format!("SELECT count(*) FROM {table}")).await?;
            let target = self.target_rows(table).await?;
            let (applied, next) = self.progress(table).await?;
            let topic = format!("{PREFIX}public.{table}");
            let end: i64 = match self.kafka.describe_topic(&topic).await? {
                Some(_) => self.kafka.end_offsets(&topic).await?.iter().sum(),
                None => 0,
            };
            let rate = (applied - self.applied[index]) * 1000 / i64::try_from(elapsed.as_millis())?;
            self.applied[index] = applied;
            text.push_str(&format!("{table:<12} {source:>10} {target:>10} {rate:>10} {:>8}\n", (end - next).max(0)));
        }
        let behind: Option<i64> = sql::value(
            &mut self.source,
            format!("SELECT max(pg_current_wal_lsn() - confirmed_flush_lsn)::int8 FROM pg_replication_slots WHERE slot_name = '{SLOT}'"),
        )
        .await?;
        let latency = self.latencies.last().map_or_else(|| "-".to_owned(), |time| format!("{} ms", time.as_millis()));
        text.push_str(&format!(
            "a change takes {latency}; log that the source keeps for us: {} kB\n",
            behind.unwrap_or(0) / 1024
        ));
        self.print(&text)
    }

    /// On a terminal over the last table, else below it.
    fn print(&mut self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if out.is_terminal() && self.lines > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.lines)?;
        }
        self.lines = text.lines().count();
        write!(out, "{text}")?;
        out.flush()?;
        Ok(())
    }

    async fn target_rows(&mut self, table: &str) -> Result<i64> {
        if sql::value::<bool>(&mut self.target, format!("SELECT to_regclass('public.{table}') IS NULL")).await? {
            return Ok(0);
        }
        sql::value(&mut self.target, format!("SELECT count(*) FROM {table}")).await
    }

    /// Records applied, and the sum of the next offsets.
    async fn progress(&mut self, table: &str) -> Result<(i64, i64)> {
        if sql::value::<bool>(&mut self.target, "SELECT to_regclass('_syncline.progress') IS NULL").await? {
            return Ok((0, 0));
        }
        let text = format!(
            "SELECT coalesce(sum(records), 0)::int8, coalesce(sum(next_offset), 0)::int8 FROM _syncline.progress
             WHERE topic = '{PREFIX}public.{table}'"
        );
        let row = sql::rows(&mut self.target, text).await?.into_iter().next().context("an aggregate without a row")?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    fn summary(&self, control: &Control, (cpu, peak): (f64, u64)) {
        let mut latencies = self.latencies.clone();
        latencies.sort();
        let middle = latencies.get(latencies.len() / 2).copied().unwrap_or_default().as_millis();
        let worst = latencies.last().copied().unwrap_or_default().as_millis();
        let per_second =
            |count: i64, time: Duration| count * 1000 / i64::try_from(time.as_millis()).unwrap_or(1).max(1);
        println!(
            "first copy:  {} records in {:.1} s, {} a second",
            self.copied_rows,
            self.copied.as_secs_f64(),
            per_second(self.copied_rows, self.copied)
        );
        println!(
            "changes:     {} records in {:.1} s, {} a second, made by {} statements",
            self.streamed.0,
            self.streamed.1.as_secs_f64(),
            per_second(self.streamed.0, self.streamed.1),
            control.statements.load(Ordering::Relaxed)
        );
        println!("latency:     {middle} ms median, {worst} ms at worst, from the commit to the row in the target");
        println!("catching up: {} ms after the load had stopped", self.caught_up.as_millis());
        println!("syncline:    {cpu:.1} s of CPU, {} MB at most", peak / 1_048_576);
    }
}

async fn verdict(source: &DatabaseSettings, target: &DatabaseSettings) -> Result<bool> {
    let (mut source, mut target) = (database::connect(source).await?, database::connect(target).await?);
    let mut equal = true;
    for table in shop::TABLES {
        match compare::check(&mut source, &mut target, &Name::of(table)).await {
            Ok(rows) => println!("{table:<12} {rows:>10} rows  equal"),
            Err(error) => {
                equal = false;
                println!("{table:<12} DIFFERENT  {error:#}");
            }
        }
    }
    println!("\n{}", if equal { "EQUAL: source and target hold the same rows." } else { "NOT EQUAL." });
    Ok(equal)
}

/// Hands over to the person, who ends it by Ctrl-C.
async fn leave_running(
    sync: &mut Process,
    source: &DatabaseSettings,
    target: &DatabaseSettings,
    log: &Path,
) -> Result<()> {
    println!("\nEverything keeps running, the load too, until Ctrl-C.");
    println!("  source:   {}", stage::address(source));
    println!("  target:   {}", stage::address(target));
    println!("  kafka:    {}", stack::variable("KAFKA_BOOTSTRAP")?);
    println!("  registry: {}", stack::variable("SCHEMA_REGISTRY_URL")?);
    println!("  log:      {}    (syncline is process {})", log.display(), sync.id());
    loop {
        sync.expect_running()?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
