//! The demonstration behind `make demo-mapped`: the shop through docs/examples/mapped.yaml, and beside each table of the
//! target the SQL over the source that it must equal.
#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sqlx::{PgConnection, Row};
use syncline_integration_tests::generator::Generator;
use syncline_integration_tests::process::{Process, tail};
use syncline_integration_tests::stage::{log_file, number, step};
use syncline_integration_tests::{database, shop, sql, stack, stage};

const FILE: &str = "docs/examples/mapped.yaml";
/// As the file says.
const PREFIX: &str = "mapped.";
const PATIENCE: Duration = Duration::from_secs(120);
const LOAD_A_SECOND: u32 = 400;

/// A table of the target, a query over it, and the query over the source that gives the same rows.
const EXPECTED: [(&str, &str, &str); 4] = [
    (
        "customers",
        "SELECT customer_id, email, name, status, balance, age_group, _source FROM customers",
        "SELECT id, lower(email), name, status, balance, CASE WHEN extract(year FROM born) < 1980 THEN 'older' ELSE \
         'younger' END, 'shop' FROM users WHERE status <> 'closed'",
    ),
    (
        "sales, not deleted",
        "SELECT id, user_id, state, amount, placed_at FROM sales WHERE deleted_at IS NULL",
        "SELECT id, user_id, state, total, placed_at FROM orders",
    ),
    (
        "order_items",
        "SELECT order_id, line, sku, quantity, price, discount, line_total FROM order_items",
        "SELECT order_id, line, sku, quantity, price, discount, quantity * price FROM order_items",
    ),
    (
        "prices, the latest",
        "SELECT sku, price FROM (SELECT DISTINCT ON (sku) sku, price, _operation FROM price_history \
         ORDER BY sku, _position DESC) AS latest WHERE _operation <> 'd'",
        "SELECT sku, price FROM products",
    ),
];

#[tokio::main]
async fn main() -> Result<()> {
    let (source_role, target_role) = (stack::server("SOURCE_PG")?, stack::server("TARGET_PG")?);
    let rows = number("DEMO_ROWS", 20_000)?;
    let length = Duration::from_secs(number("DEMO_SECONDS", 8)?);
    step(&format!("a shop of about {rows} rows, and an empty target"));
    stage::clear(&source_role, &target_role, PREFIX).await?;
    let mut source = database::connect(&source_role).await?;
    shop::create(&mut source, rows).await?;
    sql::execute(&mut source, "ALTER TABLE users REPLICA IDENTITY FULL; ALTER TABLE products REPLICA IDENTITY FULL")
        .await?;

    step(&format!("syncline run -f {FILE}, with writes going on"));
    let log = log_file("demo-mapped");
    let mut sync = stage::start(FILE, &source_role, &target_role, &log)?;
    let (control, load) = Generator::new(database::connect(&source_role).await?, 2026).spawn(LOAD_A_SECOND);
    tokio::time::sleep(length).await;
    control.stop.store(true, Ordering::Relaxed);
    load.await??;

    println!("==> the load has stopped after {} statements; comparing", control.statements.load(Ordering::Relaxed));
    let mut target = database::connect(&target_role).await?;
    if let Err(error) = compare(&mut source, &mut target, &mut sync).await {
        println!("\n--- end of {}\n{}", log.display(), tail(&sync.log()));
        return Err(error);
    }
    sync.stop().await?;
    println!("\nEQUAL: the target holds what the mappings make of the source.");
    stage::clear(&source_role, &target_role, PREFIX).await?;
    std::fs::remove_file(log).ok();
    Ok(())
}

async fn compare(source: &mut PgConnection, target: &mut PgConnection, sync: &mut Process) -> Result<()> {
    let begin = Instant::now();
    for (what, target_query, source_query) in EXPECTED {
        loop {
            sync.expect_running()?;
            let expected = digest(source, source_query).await?;
            // The table may not be there yet.
            let found = digest(target, target_query).await;
            match found {
                Ok(found) if found == expected => {
                    println!("{what:<20} {:>8} rows  equal to  {source_query}", expected.0);
                    ensure!(expected.0 > 0, "{what}: nothing to compare");
                    break;
                }
                Ok(found) if begin.elapsed() > PATIENCE => {
                    bail!("{what}: {} rows, expected {}, or other ones", found.0, expected.0)
                }
                Err(error) if begin.elapsed() > PATIENCE => return Err(error),
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
    Ok(())
}

/// Number of rows, and a digest of their texts.
async fn digest(conn: &mut PgConnection, query: &str) -> Result<(i64, Option<String>)> {
    let text = format!(
        "SELECT count(*), md5(string_agg(r, E'\\n' ORDER BY r COLLATE \"C\")) FROM (SELECT row(q.*)::text AS r FROM ({query}) AS q) AS rows"
    );
    let row = sql::rows(conn, text).await?.into_iter().next().context("an aggregate without a row")?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
