//! What a change does to its row, in Debezium's letters.

use std::fmt;

/// The `op` of a Debezium envelope (`io.debezium.data.Envelope.Operation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `r`: a row read by a snapshot.
    Read,
    /// `c`: an insert.
    Create,
    /// `u`: an update.
    Update,
    /// `d`: a delete.
    Delete,
    /// `t`: a truncate of the whole table.
    Truncate,
    /// `m`: a logical message.
    Message,
}

impl Operation {
    /// The letter in the envelope.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
            Self::Truncate => "t",
            Self::Message => "m",
        }
    }

    /// The operation of an envelope's letter; `None` for a letter Debezium does not use.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Some(match code {
            "r" => Self::Read,
            "c" => Self::Create,
            "u" => Self::Update,
            "d" => Self::Delete,
            "t" => Self::Truncate,
            "m" => Self::Message,
            _ => return None,
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
