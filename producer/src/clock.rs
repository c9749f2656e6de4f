//! The producer's clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970, for the `ts_*` fields of an envelope.
#[must_use]
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// An epoch above all that came before, where no record says which there were: seconds since 1970.
#[must_use]
pub(crate) fn epoch_after_all() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
