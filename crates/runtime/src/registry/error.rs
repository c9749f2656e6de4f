//! What goes wrong with the registry, in words that say what to do.

use std::error::Error;

use reqwest::Url;
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::RawError;

use crate::retry::{Classified, ErrorClass};

/// An error of the schema registry or its client.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// An address that is not one.
    #[error("schema_registry.url `{url}`: {reason}: use for example http://localhost:8081/apis/ccompat/v7")]
    Address {
        /// The address, without a password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The settings name none, and a record or a table needs one.
    #[error("this needs a schema registry, and the sync file names none: write schema_registry.url")]
    None,
    /// The HTTP client cannot be made.
    #[error("cannot make a client for the schema registry: {reason}")]
    Client {
        /// Why.
        reason: String,
    },
    /// Nobody answers.
    #[error(
        "cannot reach the schema registry at {address} to {operation} {what}: {reason}: start it or correct schema_registry.url"
    )]
    Unreachable {
        /// Addresses tried.
        address: String,
        /// For example `register`.
        operation: &'static str,
        /// For example `a schema under subject shop.public.users-value`.
        what: String,
        /// What the connection ran into.
        reason: String,
    },
    /// It answers that it cannot now.
    #[error(
        "the schema registry at {address} cannot {operation} {what} now: status {status}: {reason}: its own log says more; check that schema_registry.url names the registry that is meant"
    )]
    Unavailable {
        /// Addresses tried.
        address: String,
        /// For example `register`.
        operation: &'static str,
        /// For example `a schema under subject shop.public.users-value`.
        what: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        reason: String,
    },
    /// The login is wrong or has too few rights.
    #[error(
        "the schema registry at {address} does not allow us to {operation} {what} (status {status}): correct schema_registry.username and password or grant the right"
    )]
    NotAllowed {
        /// Addresses tried.
        address: String,
        /// For example `register`.
        operation: &'static str,
        /// For example `a schema under subject shop.public.users-value`.
        what: String,
        /// HTTP status, 401 or 403.
        status: u16,
    },
    /// The compatibility rule of the subject forbids the schema.
    #[error(
        "the schema registry at {address} finds {what} incompatible with an earlier version: {reason}: relax the subject's compatibility (NONE lets every change of a table through), or undo the table's change"
    )]
    Incompatible {
        /// Addresses tried.
        address: String,
        /// For example `a schema under subject shop.public.users-value`.
        what: String,
        /// What it said.
        reason: String,
    },
    /// It does not know the schema.
    #[error(
        "the schema registry at {address} does not know {what}: check that schema_registry.url is the registry that the records were written with"
    )]
    NotFound {
        /// Addresses tried.
        address: String,
        /// For example `schema 17`.
        what: String,
    },
    /// It says no for another reason.
    #[error(
        "the schema registry at {address} refuses to {operation} {what}: status {status}: {reason}: its rules for the subject, or its log, say more"
    )]
    Refused {
        /// Addresses tried.
        address: String,
        /// For example `register`.
        operation: &'static str,
        /// For example `a schema under subject shop.public.users-value`.
        what: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        reason: String,
    },
    /// Something answers, but not a registry.
    #[error(
        "what answers at {address} does not speak the schema registry's api: {reason}: correct schema_registry.url, its path included (Apicurio: /apis/ccompat/v7)"
    )]
    NotARegistry {
        /// Addresses tried.
        address: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The id belongs to a schema of another kind.
    #[error("schema {id} in the registry is {kind}, not avro: only avro topics can be read")]
    NotAvro {
        /// The id.
        id: u32,
        /// Its kind.
        kind: String,
    },
    /// A schema whose references do not fit together.
    #[error("schema {id} in the registry has references that do not resolve: {reason}")]
    References {
        /// The id.
        id: u32,
        /// What is wrong.
        reason: String,
    },
}

impl RegistryError {
    /// What to do about it. A refused schema stops the process: one replication slot carries all tables.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unreachable { .. } | Self::Unavailable { .. } => ErrorClass::Transient,
            Self::None | Self::NotFound { .. } | Self::NotAvro { .. } | Self::References { .. } => {
                ErrorClass::BadRecord
            }
            Self::Address { .. }
            | Self::Client { .. }
            | Self::NotAllowed { .. }
            | Self::Incompatible { .. }
            | Self::Refused { .. }
            | Self::NotARegistry { .. } => ErrorClass::Fatal,
        }
    }
}

impl Classified for RegistryError {
    fn class(&self) -> ErrorClass {
        self.class()
    }
}

/// An address as it may be shown: without a login.
pub(super) fn printable(url: &str) -> Result<String, RegistryError> {
    let wrong = |reason: &str| {
        // Whatever stands before an @ may be a login, even where the address does not parse.
        let shown = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
        RegistryError::Address { url: shown.to_owned(), reason: reason.to_owned() }
    };
    let mut parsed = Url::parse(url.trim()).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(wrong("it is not an http address"));
    }
    // Neither can fail for an address with a host.
    if parsed.set_username("").and_then(|()| parsed.set_password(None)).is_err() {
        return Err(wrong("it is not an http address"));
    }
    Ok(parsed.as_str().trim_end_matches('/').to_owned())
}

/// Our error for one of the library's. The library knows which of its errors it would try again, but counts only 502
/// and 503 among them; the status stands in its text only.
pub(super) fn classify(error: &SRCError, address: &str, operation: &'static str, what: String) -> RegistryError {
    let address = address.to_owned();
    let cause = error.source();
    if let Some(transport) = cause.and_then(|cause| cause.downcast_ref::<reqwest::Error>()) {
        let reason = innermost(transport);
        // A body that does not parse came from something else than a registry.
        if transport.is_decode() {
            return RegistryError::NotARegistry { address, reason };
        }
        if transport.is_builder() {
            return RegistryError::Address { url: address, reason };
        }
        return RegistryError::Unreachable { address, operation, what, reason };
    }
    let said = cause.and_then(|cause| cause.downcast_ref::<RawError>());
    let reason = match said {
        // The library's stand-in for an answer that is not a registry's.
        Some(said) if said.error_code == 0 => "it gives no reason".to_owned(),
        Some(said) => said.message.clone(),
        None => error.cause.clone().unwrap_or_else(|| error.error.clone()),
    };
    // 40401 subject, 40402 version, 40403 schema; a path that is not there answers a bare 404.
    let known = said.is_some_and(|said| said.error_code > 40_400);
    match status(&error.error) {
        Some(status @ (408 | 425 | 429 | 500 | 502 | 503 | 504)) => {
            RegistryError::Unavailable { address, operation, what, status, reason }
        }
        Some(status @ (401 | 403)) => RegistryError::NotAllowed { address, operation, what, status },
        Some(404) if known && operation == "read" => RegistryError::NotFound { address, what },
        Some(404) if !known => RegistryError::NotARegistry { address, reason: "status 404".to_owned() },
        Some(409) => RegistryError::Incompatible { address, what, reason },
        Some(status) => RegistryError::Refused { address, operation, what, status, reason },
        None => RegistryError::NotARegistry { address, reason },
    }
}

/// The HTTP status in the library's text, `… failed with status 409 Conflict`.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("failed with status ")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The last of a chain of causes: the others repeat the address, perhaps with a login.
fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_the_address_is_not_shown() {
        assert_eq!(printable("https://me:s3cret@registry:8081/apis/").unwrap(), "https://registry:8081/apis");
        for wrong in ["me:s3cret@registry", "ftp://me:s3cret@registry", "http://"] {
            let error = printable(wrong).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn the_status_is_found_in_the_librarys_words() {
        assert_eq!(status("HTTP request to schema registry failed with status 409 Conflict"), Some(409));
        assert_eq!(status("could not parse"), None);
    }
}
