//! `takeover`: goes on where a connector of Kafka Connect stopped, in its place.

mod connector;
mod debezium;
mod options;
mod sink;

pub(crate) use options::Takeover;

use crate::failure::Failure;
use options::From;

/// Why a connector is not gone on from in a topology: its records carry no stamps.
const NO_NODES: &str = "the file describes a topology: its nodes cannot go on from a connector's records";

/// Takes over from what was named.
///
/// # Errors
/// What does not fit, with nothing changed; or what refused on the way.
pub(crate) async fn takeover(options: Takeover) -> Result<(), Failure> {
    let Takeover { worker, from } = options;
    match from {
        From::Debezium(options) => debezium::takeover(&worker, options).await,
        From::JdbcSink(options) => sink::takeover(&worker, options).await,
    }
}
