//! Statements for MariaDB and MySQL, through MariaDB's command-line client.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use url::Url;

use crate::stack;

/// Runs statements in a database of the server with that address, and gives what they print: tab-separated lines.
/// Blocks until they are done.
///
/// # Errors
///
/// The server refuses one.
pub fn execute(address: &str, database: &str, text: &str) -> Result<String> {
    let address = Url::parse(address).context("the address of the server is no URL")?;
    let client = stack::variable("MARIADB_CLIENT")?;
    let mut process = Command::new(client)
        .args(["--no-defaults", "--protocol=tcp", "--batch", "--skip-column-names", "--default-character-set=utf8mb4"])
        .arg("--skip-ssl-verify-server-cert")
        .arg(format!("--host={}", address.host_str().unwrap_or("127.0.0.1")))
        .arg(format!("--port={}", address.port().unwrap_or(3306)))
        .arg(format!("--user={}", address.username()))
        .arg(database)
        .env("MYSQL_PWD", address.password().unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("MariaDB's client cannot be started")?;
    process.stdin.take().context("the client has no input")?.write_all(text.as_bytes())?;
    let output = process.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A database of its own on a MariaDB or MySQL server, gone when this is dropped.
pub struct Database {
    /// Its name.
    pub name: String,
    server: String,
}

impl Database {
    /// Makes an empty database that the role `syncline` may use.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub fn create(server: &str, name: &str) -> Result<Self> {
        let made = Self { name: name.to_owned(), server: server.to_owned() };
        execute(server, "", &format!("CREATE DATABASE {name}; GRANT ALL ON {name}.* TO syncline"))?;
        Ok(made)
    }

    /// Runs statements in it.
    ///
    /// # Errors
    ///
    /// The server refuses one.
    pub fn execute(&self, text: &str) -> Result<String> {
        execute(&self.server, &self.name, text)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        execute(&self.server, "", &format!("DROP DATABASE IF EXISTS {}", self.name)).ok();
    }
}
