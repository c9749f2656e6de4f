//! Load on the shop: a seeded mix of the changes that an application makes, at a given rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::PgConnection;

use crate::random::Random;
use crate::shop::DESCRIPTION_BYTES;
use crate::sql;

/// Makes transactions until told to stop.
#[derive(Debug)]
pub struct Generator {
    conn: PgConnection,
    random: Random,
    number: u64,
    label: String,
}

/// What a running generator and its owner share.
#[derive(Debug, Default)]
pub struct Control {
    /// Set it to end the load.
    pub stop: AtomicBool,
    /// Committed statements so far, each with one row or a few.
    pub statements: AtomicU64,
}

impl Generator {
    /// A generator; two with different seeds on the same tables do not collide.
    #[must_use]
    pub fn new(conn: PgConnection, seed: u64) -> Self {
        Self { conn, random: Random::new(seed), number: 0, label: format!("g{seed}") }
    }

    /// Runs in the background at about `rate` statements a second (0: as fast as the server takes them).
    #[must_use]
    pub fn spawn(self, rate: u32) -> (Arc<Control>, tokio::task::JoinHandle<Result<()>>) {
        let control = Arc::new(Control::default());
        let shared = Arc::clone(&control);
        (control, tokio::spawn(self.run(rate, shared)))
    }

    async fn run(mut self, rate: u32, control: Arc<Control>) -> Result<()> {
        let start = Instant::now();
        let mut made = 0;
        while !control.stop.load(Ordering::Relaxed) {
            made += self.transaction().await?;
            control.statements.store(made, Ordering::Relaxed);
            if rate > 0 {
                let due = Duration::from_micros(made * 1_000_000 / u64::from(rate));
                tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
            }
        }
        Ok(())
    }

    /// One transaction, committed or rolled back. Returns its committed statements.
    ///
    /// # Errors
    ///
    /// The server refuses a statement, which none of these statements deserves.
    pub async fn transaction(&mut self) -> Result<u64> {
        match self.random.below(20) {
            0..=7 => {
                let statement = self.statement();
                sql::execute(&mut self.conn, statement).await?;
                Ok(1)
            }
            8..=14 => {
                let count = 2 + self.random.below(8);
                let statements: Vec<String> = (0..count).map(|_| self.statement()).collect();
                sql::execute(&mut self.conn, format!("BEGIN;\n{};\nCOMMIT", statements.join(";\n"))).await?;
                Ok(count)
            }
            15..=17 => {
                let [first, lost, last] = [self.statement(), self.statement(), self.statement()];
                let text = format!(
                    "BEGIN;\n{first};\nSAVEPOINT s;\n{lost};\nROLLBACK TO SAVEPOINT s;\nSAVEPOINT t;\n{last};\n\
                     RELEASE SAVEPOINT t;\nCOMMIT"
                );
                sql::execute(&mut self.conn, text).await?;
                Ok(2)
            }
            18 => {
                let [first, last] = [self.statement(), self.statement()];
                sql::execute(&mut self.conn, format!("BEGIN;\n{first};\n{last};\nROLLBACK")).await?;
                Ok(0)
            }
            _ => {
                let text = self.same_row();
                sql::execute(&mut self.conn, format!("BEGIN;\n{text};\nCOMMIT")).await?;
                Ok(4)
            }
        }
    }

    fn statement(&mut self) -> String {
        self.number += 1;
        let n = format!("{}-{}", self.label, self.number);
        let amount = self.random.below(100_000);
        let user = self.pick("id", "users");
        let order = self.pick("id", "orders");
        let product = self.pick_product();
        match self.random.below(100) {
            0..=14 => format!(
                "INSERT INTO users (email, name, status, tags, profile, balance) VALUES ('{n}@example.com', 'N {n}', \
                 'active', ARRAY['{n}'], '{{\"n\": {amount}}}', {amount} / 100.0)"
            ),
            15..=34 => format!(
                "WITH o AS (INSERT INTO orders (user_id, total, note) SELECT id, {amount} / 8.0, '{n}' FROM users \
                 WHERE id = {user} RETURNING id) INSERT INTO order_items SELECT o.id, l, p.sku, l, p.price FROM o, \
                 generate_series(1, 3) l, products p WHERE p.sku = {product}"
            ),
            35..=49 => format!("UPDATE users SET balance = balance + {amount} / 1000.0 WHERE id = {user}"),
            50..=54 => format!(
                "UPDATE users SET profile = CASE WHEN profile IS NULL THEN '{{\"n\": \"{n}\"}}'::jsonb END, \
                 born = born + 1 WHERE id = {user}"
            ),
            55..=69 => {
                format!("UPDATE orders SET state = 'paid', total = total + 0.001, note = NULL WHERE id = {order}")
            }
            70..=76 => format!("UPDATE order_items SET quantity = quantity + 1 WHERE order_id = {order}"),
            77..=83 => {
                format!(
                    "UPDATE products SET price = {amount} / 100.0, updated_at = clock_timestamp() WHERE sku = {product}"
                )
            }
            84..=88 => format!(
                "UPDATE products SET description = repeat(md5('{n}'), {}) WHERE sku = {product}",
                DESCRIPTION_BYTES / 32
            ),
            89..=93 => format!("DELETE FROM orders WHERE id = {order}"),
            94 => format!("DELETE FROM users WHERE id = {user}"),
            // A key change. The new description is written with it: one that stays where it is has no value in the log.
            95..=96 => {
                format!("UPDATE products SET sku = 'sku-{n}', description = description || '.' WHERE sku = {product}")
            }
            97..=98 => {
                format!("UPDATE users SET id = nextval(pg_get_serial_sequence('users', 'id')) WHERE id = {user}")
            }
            _ => {
                format!("INSERT INTO products (sku, title, price) VALUES ('sku-new-{n}', 'New {n}', {amount} / 100.0)")
            }
        }
    }

    /// One row made, changed, removed and made again within a transaction.
    fn same_row(&mut self) -> String {
        self.number += 1;
        let n = format!("{}-{}", self.label, self.number);
        format!(
            "INSERT INTO products (sku, title, price) VALUES ('twice-{n}', 'first', 1);
             UPDATE products SET title = 'second' WHERE sku = 'twice-{n}';
             DELETE FROM products WHERE sku = 'twice-{n}';
             INSERT INTO products (sku, title, price) VALUES ('twice-{n}', 'third', 3)"
        )
    }

    fn pick(&mut self, column: &str, table: &str) -> String {
        let share = self.random.below(1_000_000);
        format!(
            "(SELECT {column} FROM {table} WHERE {column} >= (SELECT max({column}) * {share} / 1000000 FROM {table}) \
             ORDER BY {column} LIMIT 1)"
        )
    }

    fn pick_product(&mut self) -> String {
        let start = self.random.bits();
        format!("(SELECT sku FROM products WHERE sku >= 'sku-{}' ORDER BY sku LIMIT 1)", start % 9999)
    }
}
