//! Sessions on PostgreSQL, with settings pinned so that values always have the same text.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, PgConnection};
use syncline_runtime::retry::{Classified, ErrorClass};
use syncline_runtime::settings::{DatabaseSettings, SslMode};

/// Session settings that decide the text form of values; the log, COPY and catalog queries all use them, so that one
/// decoder reads all three. Sent in the startup message, where no role's or database's default overrules them.
pub const PINNED_SETTINGS: [(&str, &str); 6] = [
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("TimeZone", "UTC"),
    ("client_encoding", "UTF8"),
];

/// How long a server may take to answer a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// [`PINNED_SETTINGS`] as the startup message's `options`: `-c DateStyle=ISO …`.
#[must_use]
pub fn pinned_options() -> String {
    PINNED_SETTINGS.map(|(name, value)| format!("-c {name}={value}")).join(" ")
}

/// A database that cannot be reached or entered. The text names host, port, role and database, never the password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing answers there, or not in time.
    #[error("PostgreSQL at {at} cannot be reached: {reason}; check host and port, and that the server is up")]
    Unreachable {
        /// Host, port, role and database.
        at: String,
        /// The system's reason.
        reason: String,
    },
    /// The server is up but takes no session at the moment.
    #[error("PostgreSQL at {at} takes no session now: {reason}")]
    Busy {
        /// Host, port, role and database.
        at: String,
        /// The server's message.
        reason: String,
    },
    /// The role does not exist, its password is wrong, or `pg_hba.conf` lets it in nowhere.
    #[error(
        "PostgreSQL at {at} refuses the role: {reason}; check username and password, and that pg_hba.conf lets the role in"
    )]
    Refused {
        /// Host, port, role and database.
        at: String,
        /// The server's message.
        reason: String,
    },
    /// No such database.
    #[error("PostgreSQL at {at} has no such database: {reason}; check the name, or create the database")]
    UnknownDatabase {
        /// Host, port, role and database.
        at: String,
        /// The server's message.
        reason: String,
    },
    /// No TLS, or a handshake that failed.
    #[error(
        "PostgreSQL at {at} offers no usable TLS: {reason}; enable ssl on the server, or set ssl to disabled where the \
         network is trusted"
    )]
    Tls {
        /// Host, port, role and database.
        at: String,
        /// The reason.
        reason: String,
    },
    /// Anything else.
    #[error("PostgreSQL at {at} gives no session: {reason}")]
    Other {
        /// Host, port, role and database.
        at: String,
        /// The reason.
        reason: String,
    },
}

impl ConnectError {
    fn new(settings: &DatabaseSettings, error: &sqlx::Error) -> Self {
        let at = describe_address(settings);
        let reason = error.to_string();
        match error {
            sqlx::Error::Io(_) => Self::Unreachable { at, reason },
            sqlx::Error::Tls(_) => Self::Tls { at, reason },
            sqlx::Error::Database(database) => {
                Self::from_server(settings, database.code().as_deref().unwrap_or_default(), database.message())
            }
            _ => Self::Other { at, reason },
        }
    }

    /// The error for a server's answer to a startup message: an SQLSTATE and its message.
    #[must_use]
    pub fn from_server(settings: &DatabaseSettings, sqlstate: &str, message: &str) -> Self {
        let at = describe_address(settings);
        let reason = message.to_owned();
        match sqlstate {
            // invalid_authorization_specification, invalid_password
            "28000" | "28P01" => Self::Refused { at, reason },
            // invalid_catalog_name
            "3D000" => Self::UnknownDatabase { at, reason },
            // too_many_connections; the server starts, stops or recovers
            "53300" | "57P01" | "57P02" | "57P03" => Self::Busy { at, reason },
            _ => Self::Other { at, reason },
        }
    }
}

impl Classified for ConnectError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } => ErrorClass::Transient,
            Self::Refused { .. } | Self::UnknownDatabase { .. } | Self::Tls { .. } | Self::Other { .. } => {
                ErrorClass::Fatal
            }
        }
    }
}

/// `host:port (role "syncline", database "shop")`, for messages.
#[must_use]
pub fn describe_address(settings: &DatabaseSettings) -> String {
    let DatabaseSettings { host, port, username, database, .. } = settings;
    format!("{host}:{port} (role \"{username}\", database \"{database}\")")
}

/// sqlx's options for these settings. Environment variables such as `PGUSER` and the password file change nothing.
#[must_use]
pub fn connect_options(settings: &DatabaseSettings, application_name: &str) -> PgConnectOptions {
    let ssl_mode = match settings.ssl {
        SslMode::Disabled => PgSslMode::Disable,
        SslMode::Required => PgSslMode::Require,
    };
    // sqlx sends DateStyle, client_encoding and TimeZone by itself, with these values.
    PgConnectOptions::new_without_pgpass()
        .host(&settings.host)
        .port(settings.port)
        .username(&settings.username)
        .password(settings.password.as_ref().map_or("", |password| password.expose()))
        .database(&settings.database)
        .ssl_mode(ssl_mode)
        .application_name(application_name)
        .extra_float_digits(3)
        .options(PINNED_SETTINGS)
        .disable_statement_logging()
}

/// Opens a session.
///
/// # Errors
///
/// Says whether the server, the role, the database or TLS is the matter, and what to do.
///
/// Cancel-safe: a session that was not handed out is closed.
pub async fn connect(settings: &DatabaseSettings, application_name: &str) -> Result<PgConnection, ConnectError> {
    let options = connect_options(settings, application_name);
    match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(ConnectError::new(settings, &error)),
        Err(_) => Err(ConnectError::Unreachable {
            at: describe_address(settings),
            reason: format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        }),
    }
}

/// The class of an error of a session that was open.
#[must_use]
pub fn class_of(error: &sqlx::Error) -> ErrorClass {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => ErrorClass::Transient,
        sqlx::Error::Database(database) => class_of_sqlstate(database.code().as_deref().unwrap_or_default()),
        _ => ErrorClass::Fatal,
    }
}

/// The class of a server's SQLSTATE.
#[must_use]
pub fn class_of_sqlstate(sqlstate: &str) -> ErrorClass {
    // connection_exception, insufficient_resources, transaction_rollback (serialization, deadlock), operator
    // intervention; object_in_use, lock_not_available, idle_in_transaction_session_timeout.
    let transient = ["08", "53", "40", "57"].iter().any(|class| sqlstate.starts_with(class))
        || matches!(sqlstate, "55006" | "55P03" | "25P03");
    if transient { ErrorClass::Transient } else { ErrorClass::Fatal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_runtime::settings::Secret;

    fn settings(port: u16) -> DatabaseSettings {
        DatabaseSettings {
            host: "127.0.0.1".into(),
            port,
            database: "shop".into(),
            username: "syncline".into(),
            password: Some(Secret::new("hunter2".into())),
            ssl: SslMode::Disabled,
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_named_without_the_password() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = connect(&settings(port), "test").await.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::Transient);
        let text = error.to_string();
        assert!(text.contains(&format!("127.0.0.1:{port} (role \"syncline\", database \"shop\")")), "{text}");
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn server_answers_become_remedies() {
        let error = |sqlstate| ConnectError::from_server(&settings(1), sqlstate, "said the server");
        assert!(matches!(error("28P01"), ConnectError::Refused { .. }));
        assert!(matches!(error("3D000"), ConnectError::UnknownDatabase { .. }));
        assert_eq!(error("57P03").class(), ErrorClass::Transient);
        assert_eq!(error("42501").class(), ErrorClass::Fatal);
        assert_eq!(class_of_sqlstate("57P01"), ErrorClass::Transient);
        assert_eq!(class_of_sqlstate("55000"), ErrorClass::Fatal);
    }

    #[test]
    fn pinned_options_are_a_startup_parameter() {
        assert!(pinned_options().starts_with("-c DateStyle=ISO -c IntervalStyle=postgres -c "));
    }
}
