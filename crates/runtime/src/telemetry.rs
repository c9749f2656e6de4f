//! Logs: on stderr, so that stdout stays for results.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter in the environment does not parse.
    #[error("{variable} is not a log filter: {reason}; use for example `info` or `info,syncline_producer=debug`")]
    Filter {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Something in this process has set up logging before.
    #[error("logging is set up already")]
    Twice,
}

/// What is logged when the environment says nothing: librdkafka repeats each lost connection at several levels, and
/// sqlx passes the server's notices on.
const DEFAULT_FILTER: &str = "info,librdkafka=warn,rdkafka=warn,sqlx::postgres::notice=warn";

/// Variables that override the default filter; the first one that is set counts.
const FILTER_VARIABLES: [&str; 2] = ["SYNCLINE_LOG", "RUST_LOG"];

/// Sends the process's logs to stderr. The level is `info` unless `SYNCLINE_LOG` or `RUST_LOG` says otherwise.
///
/// # Errors
///
/// [`TelemetryError`]
pub fn init(format: LogFormat) -> Result<(), TelemetryError> {
    init_to(format, std::io::stderr)
}

/// [`init`] with a writer of the caller's, which ends up on stderr: a progress display has to make room for each line.
///
/// # Errors
///
/// [`TelemetryError`]
pub fn init_to<W>(format: LogFormat, writer: W) -> Result<(), TelemetryError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = filter(|variable| std::env::var(variable).ok())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let done = match format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colour).finish().try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    done.map_err(|_| TelemetryError::Twice)
}

fn filter(environment: impl Fn(&str) -> Option<String>) -> Result<EnvFilter, TelemetryError> {
    for variable in FILTER_VARIABLES {
        if let Some(text) = environment(variable).filter(|text| !text.trim().is_empty()) {
            return EnvFilter::try_new(text.trim())
                .map_err(|error| TelemetryError::Filter { variable, reason: error.to_string() });
        }
    }
    Ok(EnvFilter::new(DEFAULT_FILTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_variable_goes_before_the_common_one() {
        let of = |variable: &str| Some(if variable == "SYNCLINE_LOG" { "debug" } else { "trace" }.to_owned());
        assert_eq!(filter(of).unwrap().to_string(), "debug");
        assert_eq!(filter(|_| None).unwrap().max_level_hint(), Some(tracing::level_filters::LevelFilter::INFO));
    }

    #[test]
    fn a_broken_filter_is_named() {
        let error = filter(|variable| (variable == "RUST_LOG").then(|| "info,=".to_owned() + "bad=loud")).unwrap_err();
        assert!(error.to_string().starts_with("RUST_LOG is not a log filter"), "{error}");
    }
}
