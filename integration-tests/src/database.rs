//! A database of its own for each test, on the server the environment names.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use syncline_runtime::settings::{DatabaseSettings, Secret, SslMode};

/// The variable that holds the address of the target server, as a role that may create databases and roles.
pub const TARGET: &str = "TARGET_PG_ADMIN";

/// A freshly made database. Dropped by [`Database::remove`]; one that a failed test leaves is replaced by the next run.
pub struct Database {
    /// How to reach it, as the administrator.
    pub settings: DatabaseSettings,
    server: DatabaseSettings,
}

impl Database {
    /// Makes an empty database on the server that `variable` names.
    ///
    /// # Errors
    ///
    /// The variable is missing, or the server cannot be reached.
    pub async fn create(variable: &str, name: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let address = std::env::var(variable).with_context(|| {
            format!("{variable} is not set: run `dev/stack up` and `eval \"$(dev/stack env)\"`, or `make test`")
        })?;
        let server = parse(&address).with_context(|| format!("{variable} is no address of a PostgreSQL database"))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = format!("test_{name}_{}_{number}", std::process::id());
        let mut conn = connect(&server).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")))
            .execute(&mut conn)
            .await?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING 'UTF8'")))
            .execute(&mut conn)
            .await?;
        conn.close().await?;
        Ok(Self { settings: DatabaseSettings { database, ..server.clone() }, server })
    }

    /// A connection as the administrator.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub async fn connect(&self) -> Result<PgConnection> {
        connect(&self.settings).await
    }

    /// Drops the database, with whoever is connected to it.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub async fn remove(self) -> Result<()> {
        let mut conn = connect(&self.server).await?;
        let text = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.settings.database);
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut conn).await?;
        Ok(conn.close().await?)
    }
}

/// A connection that prints values in their exact text form.
///
/// # Errors
///
/// The server cannot be reached.
pub async fn connect(settings: &DatabaseSettings) -> Result<PgConnection> {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&settings.host)
        .port(settings.port)
        .username(&settings.username)
        .database(&settings.database)
        .options([("TimeZone", "UTC"), ("extra_float_digits", "3")]);
    if let Some(password) = &settings.password {
        options = options.password(password.expose());
    }
    options.connect().await.with_context(|| format!("connecting to {}:{}", settings.host, settings.port))
}

/// Reads `postgres://user:password@host:port/database`.
#[must_use]
pub fn parse(address: &str) -> Option<DatabaseSettings> {
    let rest = address.strip_prefix("postgres://").or_else(|| address.strip_prefix("postgresql://"))?;
    let (credentials, place) = rest.rsplit_once('@')?;
    let (username, password) = match credentials.split_once(':') {
        Some((username, password)) => (username, Some(Secret::new(password.to_owned()))),
        None => (credentials, None),
    };
    let (server, database) = place.split_once('/')?;
    let (host, port) = server.rsplit_once(':').unwrap_or((server, "5432"));
    Some(DatabaseSettings {
        host: host.to_owned(),
        port: port.parse().ok()?,
        database: database.to_owned(),
        username: username.to_owned(),
        password,
        ssl: SslMode::Disabled,
    })
}
