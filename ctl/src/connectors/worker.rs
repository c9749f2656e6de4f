//! A Kafka Connect worker's REST API (Apache Kafka documentation, section "REST API" of Kafka Connect).

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Certificate, Client, Identity, Method, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use syncline_runtime::config::nearest;
use syncline_runtime::retry::Backoff;
use syncline_runtime::settings::Secret;
use tracing::warn;

use super::answer::{Config, OffsetList, Plugin, Refusal, Status, Validation};
use super::error::ConnectorsError;
use super::options::WorkerOptions;

/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A worker. Any of a cluster does: it forwards what another one has to do.
#[derive(Debug)]
pub(crate) struct Worker {
    base: Url,
    /// The address without a login, for messages.
    shown: String,
    client: Client,
    login: Option<Login>,
    patience: Duration,
}

/// User and password.
type Login = (String, Option<Secret>);

/// What follows a path.
type Query<'a> = &'a [(&'a str, &'a str)];

impl Worker {
    /// Prepares a client; talks to nobody yet.
    ///
    /// # Errors
    /// An address, certificate, key or password that cannot be used.
    pub(crate) fn new(options: &WorkerOptions) -> Result<Self, ConnectorsError> {
        let (base, in_url) = address(&options.url)?;
        let mut builder = Client::builder().connect_timeout(CONNECT_TIME).timeout(options.timeout);
        if let Some(file) = &options.cacert {
            let certificates = Certificate::from_pem_bundle(&read("--cacert", file)?);
            let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
            builder = builder.tls_certs_merge(certificates.ok_or_else(|| ConnectorsError::Login {
                option: "--cacert",
                file: file.clone(),
                reason: "holds no certificate in PEM form".to_owned(),
            })?);
        }
        match (&options.cert, &options.key) {
            (Some(cert), Some(key)) => {
                let mut pem = read("--cert", cert)?;
                pem.push(b'\n');
                pem.extend(read("--key", key)?);
                builder = builder.identity(Identity::from_pem(&pem).map_err(|_| ConnectorsError::Login {
                    option: "--cert",
                    file: cert.clone(),
                    reason: "is no certificate in PEM form, or --key holds no private key".to_owned(),
                })?);
            }
            (None, None) => {}
            _ => return Err(ConnectorsError::Options("--cert and --key go together: write both".to_owned())),
        }
        let client = builder.build().map_err(|error| ConnectorsError::Options(innermost(&error)))?;
        let login = match &options.user {
            Some(user) => Some((user.clone(), password(options.password_file.as_deref())?)),
            None => in_url,
        };
        let shown = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self { base, shown, client, login, patience: options.timeout })
    }

    /// The connector plugins that are installed.
    pub(super) async fn plugins(&self) -> Result<Vec<Plugin>, ConnectorsError> {
        self.ask(Method::GET, &["connector-plugins"], &[], None, "list its plugins").await
    }

    /// What the worker thinks of a configuration; nothing is changed.
    pub(super) async fn validate(&self, class: &str, config: &Config) -> Result<Validation, ConnectorsError> {
        let path = ["connector-plugins", class, "config", "validate"];
        let body = Value::Object(config.clone());
        self.ask(Method::PUT, &path, &[], Some(&body), "validate a configuration").await
    }

    /// The names of all connectors, sorted.
    pub(super) async fn names(&self) -> Result<Vec<String>, ConnectorsError> {
        let mut names: Vec<String> = self.ask(Method::GET, &["connectors"], &[], None, "list its connectors").await?;
        names.sort();
        Ok(names)
    }

    /// The configuration of a connector as it was written, with placeholders; none if there is no such connector.
    pub(crate) async fn config(&self, name: &str) -> Result<Option<Config>, ConnectorsError> {
        let what = format!("show the configuration of `{name}`");
        found(self.ask(Method::GET, &["connectors", name, "config"], &[], None, &what).await)
    }

    /// Creates a connector or replaces its configuration.
    pub(super) async fn put(&self, name: &str, config: &Config) -> Result<(), ConnectorsError> {
        let what = format!("configure `{name}`");
        let body = Value::Object(config.clone());
        self.send(Method::PUT, &["connectors", name, "config"], &[], Some(&body), &what).await.map(drop)
    }

    /// The state of a connector; none if there is no such connector, or it has just been made.
    pub(crate) async fn status(&self, name: &str) -> Result<Option<Status>, ConnectorsError> {
        let what = format!("show the status of `{name}`");
        found(self.ask(Method::GET, &["connectors", name, "status"], &[], None, &what).await)
    }

    /// `pause`, `resume` or `stop`.
    pub(crate) async fn steer(&self, name: &str, verb: &str) -> Result<(), ConnectorsError> {
        self.command(Method::PUT, name, &[verb], &[], verb).await
    }

    /// Restarts a connector and its tasks.
    pub(super) async fn restart(&self, name: &str, only_failed: bool) -> Result<(), ConnectorsError> {
        let only_failed = if only_failed { "true" } else { "false" };
        let query = [("includeTasks", "true"), ("onlyFailed", only_failed)];
        self.command(Method::POST, name, &["restart"], &query, "restart").await
    }

    /// Deletes a connector.
    pub(super) async fn delete(&self, name: &str) -> Result<(), ConnectorsError> {
        self.command(Method::DELETE, name, &[], &[], "delete").await
    }

    /// Where a connector stands.
    pub(crate) async fn offsets(&self, name: &str) -> Result<OffsetList, ConnectorsError> {
        let what = format!("show the offsets of `{name}`");
        let answer = self.ask(Method::GET, &["connectors", name, "offsets"], &[], None, &what).await;
        self.known(name, answer).await
    }

    /// Sets offsets of a stopped connector. Returns what the worker says to it.
    pub(super) async fn alter_offsets(&self, name: &str, offsets: &OffsetList) -> Result<String, ConnectorsError> {
        let body = serde_json::to_value(offsets).expect("plain structs always serialise");
        let path = ["connectors", name, "offsets"];
        let answer = self.ask::<Refusal>(Method::PATCH, &path, &[], Some(&body), "alter offsets").await;
        self.known(name, answer).await.map(|answer| answer.message)
    }

    /// Forgets the offsets of a stopped connector. Returns what the worker says to it.
    pub(super) async fn reset_offsets(&self, name: &str) -> Result<String, ConnectorsError> {
        let path = ["connectors", name, "offsets"];
        let answer = self.ask::<Refusal>(Method::DELETE, &path, &[], None, "reset offsets").await;
        self.known(name, answer).await.map(|answer| answer.message)
    }

    async fn command(
        &self,
        method: Method,
        name: &str,
        rest: &[&str],
        query: Query<'_>,
        verb: &str,
    ) -> Result<(), ConnectorsError> {
        let path: Vec<&str> = ["connectors", name].iter().chain(rest).copied().collect();
        let answer = self.send(method, &path, query, None, &format!("{verb} `{name}`")).await;
        self.known(name, answer.map(drop)).await
    }

    /// Turns a 404 about a connector into its nearest name.
    pub(super) async fn known<T>(&self, name: &str, answer: Result<T, ConnectorsError>) -> Result<T, ConnectorsError> {
        match answer {
            Err(ConnectorsError::Refused { status: 404, .. }) => Err(self.unknown(name).await?),
            answer => answer,
        }
    }

    /// The error about a name that is not there.
    pub(crate) async fn unknown(&self, name: &str) -> Result<ConnectorsError, ConnectorsError> {
        let known = self.names().await?;
        let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        Ok(ConnectorsError::Unknown { name: name.to_owned(), nearest, known })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: Query<'_>,
        body: Option<&Value>,
        what: &str,
    ) -> Result<T, ConnectorsError> {
        let text = self.send(method, path, query, body, what).await?;
        serde_json::from_slice(&text).map_err(|error| self.not_a_worker(error.to_string()))
    }

    /// Sends a request, again while the worker says that it is rebalancing or not ready.
    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: Query<'_>,
        body: Option<&Value>,
        what: &str,
    ) -> Result<Vec<u8>, ConnectorsError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let deadline = Instant::now() + self.patience;
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            let (status, text) = self.once(method.clone(), url.clone(), body, what).await?;
            if status.is_success() {
                return Ok(text);
            }
            let refusal = serde_json::from_slice::<Refusal>(&text).ok();
            let reason = refusal.map(|refusal| refusal.message).filter(|message| !message.is_empty());
            match (status.as_u16(), reason) {
                // 409: a rebalance, or a change of the same connector that has not come round yet; 503: still starting.
                (409 | 503, reason) => {
                    let reason = reason.unwrap_or_else(|| format!("status {status}"));
                    let pause = backoff.next_pause();
                    if Instant::now() + pause >= deadline {
                        let (url, what) = (self.shown.clone(), what.to_owned());
                        return Err(ConnectorsError::Busy { url, what, seconds: self.patience.as_secs(), reason });
                    }
                    warn!(status = status.as_u16(), reason, "the worker cannot {what} now, trying again");
                    tokio::time::sleep(pause).await;
                }
                (status @ (401 | 403), _) => {
                    return Err(ConnectorsError::NotAllowed { url: self.shown.clone(), what: what.to_owned(), status });
                }
                (status, Some(reason)) => {
                    let (url, what) = (self.shown.clone(), what.to_owned());
                    return Err(ConnectorsError::Refused { url, what, status, reason });
                }
                (status, None) => return Err(self.not_a_worker(format!("status {status} without a reason"))),
            }
        }
    }

    async fn once(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
        what: &str,
    ) -> Result<(StatusCode, Vec<u8>), ConnectorsError> {
        let mut request = self.client.request(method, url).header("Accept", "application/json");
        if let Some((user, password)) = &self.login {
            request = request.basic_auth(user, password.as_ref().map(Secret::expose));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let failed = |error: reqwest::Error| self.failed(&error, what);
        let answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        Ok((status, answer.bytes().await.map_err(failed)?.to_vec()))
    }

    fn failed(&self, error: &reqwest::Error, what: &str) -> ConnectorsError {
        let url = self.shown.clone();
        if error.is_timeout() && !error.is_connect() {
            let (what, seconds) = (what.to_owned(), self.patience.as_secs());
            return ConnectorsError::Slow { url, what, seconds };
        }
        let reason = innermost(error);
        // The library has no kind of its own for it.
        if reason.to_lowercase().contains("certificate") {
            return ConnectorsError::Untrusted { url, reason };
        }
        ConnectorsError::Unreachable { url, reason }
    }

    fn not_a_worker(&self, reason: String) -> ConnectorsError {
        ConnectorsError::NotAWorker { url: self.shown.clone(), reason }
    }
}

/// A 404 as a missing value. A worker says 404 with a reason; a server that is none does not.
fn found<T>(answer: Result<T, ConnectorsError>) -> Result<Option<T>, ConnectorsError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(ConnectorsError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The address, and the login that stands in it.
fn address(text: &str) -> Result<(Url, Option<Login>), ConnectorsError> {
    let wrong = |reason: &str| ConnectorsError::Address(reason.to_owned());
    let mut url = Url::parse(text.trim()).map_err(|error| ConnectorsError::Address(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("it is not an http or https address"));
    }
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = Some(decoded(url.username())).filter(|user| !user.is_empty());
    let login = user.map(|user| (user, url.password().map(|password| Secret::new(decoded(password)))));
    if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
        return Err(wrong("it is not an http or https address"));
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok((url, login))
}

fn password(file: Option<&Path>) -> Result<Option<Secret>, ConnectorsError> {
    let Some(file) = file else {
        return Ok(std::env::var("CONNECT_PASSWORD").ok().map(Secret::new));
    };
    let text = read("--password-file", file)?;
    let text = String::from_utf8(text).map_err(|_| ConnectorsError::Login {
        option: "--password-file",
        file: file.to_owned(),
        reason: "is not text".to_owned(),
    })?;
    Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())))
}

fn read(option: &'static str, file: &Path) -> Result<Vec<u8>, ConnectorsError> {
    std::fs::read(file).map_err(|error| ConnectorsError::Login {
        option,
        file: file.to_owned(),
        reason: error.to_string(),
    })
}

/// The last of a chain of causes: the others repeat the address.
fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}
