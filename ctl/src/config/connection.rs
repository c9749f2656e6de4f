//! A database in one URL, as PostgreSQL's own tools take it. Messages never quote it: it holds the password.

use syncline_runtime::settings::{DatabaseSettings, Secret, SslMode};
use url::Url;

/// Reads `postgresql://user:password@host:port/database?sslmode=require`.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn from_url(text: &str) -> Result<DatabaseSettings, String> {
    let url = Url::parse(text).map_err(|error| {
        format!("is not a URL ({error}): write postgresql://user:password@host:port/database, with other characters than letters and digits percent-encoded")
    })?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err("must begin with postgresql://".to_owned());
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("names no host")?;
    let host = decode(host.trim_start_matches('[').trim_end_matches(']'), "host")?;
    if host.contains(',') {
        return Err("names several hosts, which is not supported yet".to_owned());
    }
    let username = decode(url.username(), "user name")?;
    if username.is_empty() {
        return Err("names no user".to_owned());
    }
    let database = decode(url.path().trim_start_matches('/'), "database")?;
    if database.is_empty() {
        return Err("names no database".to_owned());
    }
    let password = url.password().map(|password| decode(password, "password")).transpose()?;
    let mut ssl = default_ssl(&host);
    for (name, value) in url.query_pairs() {
        ssl = match (name.as_ref(), value.as_ref()) {
            ("sslmode", "disable") => SslMode::Disabled,
            ("sslmode", "require") => SslMode::Required,
            ("sslmode", _) => {
                return Err("has an sslmode that is not supported yet; supported: disable, require".to_owned());
            }
            (other, _) => {
                return Err(format!("has the parameter `{other}`, which is not supported yet; supported: sslmode"));
            }
        };
    }
    Ok(DatabaseSettings {
        host,
        port: url.port().unwrap_or(DEFAULT_PORT),
        database,
        username,
        password: password.map(Secret::new),
        ssl,
    })
}

/// PostgreSQL's.
pub(super) const DEFAULT_PORT: u16 = 5432;

/// Nobody listens in on the loopback; everywhere else encryption is the default.
pub(super) fn default_ssl(host: &str) -> SslMode {
    if is_loopback(host) { SslMode::Disabled } else { SslMode::Required }
}

/// Whether it is this machine, by one of the names that every machine has.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || host.starts_with('/')
        || address.is_ok_and(|address| address.is_loopback())
}

fn decode(text: &str, what: &str) -> Result<String, String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| format!("has a {what} that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let settings = from_url("postgres://ada%40x:p%3Aw%2F%25@db.example:6000/My%20Shop?sslmode=disable").unwrap();
        assert_eq!((settings.host.as_str(), settings.port), ("db.example", 6000));
        assert_eq!((settings.database.as_str(), settings.username.as_str()), ("My Shop", "ada@x"));
        assert_eq!(settings.password.unwrap().expose(), "p:w/%");
        assert_eq!(settings.ssl, SslMode::Disabled);
    }

    #[test]
    fn what_is_missing_has_a_default_or_is_named() {
        let settings = from_url("postgresql://ada@[::1]/shop").unwrap();
        assert_eq!((settings.host.as_str(), settings.port, settings.ssl), ("::1", 5432, SslMode::Disabled));
        assert_eq!(from_url("postgresql://ada@db/shop").unwrap().ssl, SslMode::Required);
        for (text, expected) in [
            ("host=db user=ada", "is not a URL"),
            ("mysql://ada:secret@db/shop", "must begin with postgresql://"),
            ("postgresql://db/shop", "names no user"),
            ("postgresql://ada:secret@db", "names no database"),
            ("postgresql://ada:secret@/shop", "empty host"),
            ("postgresql://ada:secret@db/shop?sslmode=verify-full", "sslmode"),
            ("postgresql://ada:secret@db/shop?options=secret", "`options`"),
            ("postgresql://ada:secret@db:port/shop", "is not a URL"),
        ] {
            let error = from_url(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("secret"), "{text} gave {error}");
        }
    }
}
