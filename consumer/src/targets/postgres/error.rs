//! What a server's answer means. SQLSTATEs are those of PostgreSQL's `errcodes.txt`.
//!
//! Authentication and a missing database stop a process that has never been connected, because nothing but its
//! configuration can be wrong; later they are waited out, because passwords get rotated and databases restored.

use sqlx::postgres::PgDatabaseError;
use syncline_runtime::retry::ErrorClass;

use crate::targets::TargetError;

/// The cause of an error that other sessions may have brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Contention {
    /// `lock_timeout`.
    #[error("another session has it locked")]
    Locked,
    /// A unique index.
    #[error("there is a row with the same key")]
    Inserted,
}

impl Contention {
    fn of_sqlstate(code: &str) -> Option<Self> {
        match code {
            "55P03" => Some(Self::Locked),
            "23505" => Some(Self::Inserted),
            _ => None,
        }
    }

    /// The cause of an error, if it is one of these.
    pub(super) fn of(error: &TargetError) -> Option<Self> {
        error.source.as_ref().and_then(|source| source.downcast_ref()).copied()
    }
}

/// What was being done when an error came.
#[derive(Debug, Clone, Copy)]
pub(super) enum Doing<'a> {
    /// Something with the bookkeeping: it belongs to us, so that what fails there fails everything.
    Bookkeeping(&'a str),
    /// Beginning or ending a transaction. An error the server answers a COMMIT with (a deferred constraint) means that
    /// nothing was committed; with a lost connection that is open.
    Transaction(&'a str),
    /// Writing to a table, which stands in the batch at this index.
    Writing { table: &'a str, index: Option<usize>, what: &'a str },
}

impl Doing<'_> {
    pub(super) fn error(self, error: sqlx::Error) -> TargetError {
        let (subject, index) = match self {
            Doing::Bookkeeping(what) => (what.to_owned(), None),
            Doing::Transaction(command) => (format!("{command} in the target"), None),
            Doing::Writing { table, index, what } => (format!("{what} target table {table}"), index),
        };
        let database = match &error {
            sqlx::Error::Database(database) => database.try_downcast_ref::<PgDatabaseError>(),
            _ => None,
        };
        let Some(database) = database else {
            return TargetError {
                class: class_of_client_error(&error),
                message: format!("{subject}: {error}"),
                table: index,
                source: Some(Box::new(error)),
            };
        };
        let code = database.code();
        let mut class = class_of_sqlstate(code);
        let mut message = format!("{subject}: {} (SQLSTATE {code})", safe_message(database));
        if class == ErrorClass::BadRecord {
            match self {
                Doing::Bookkeeping(_) => class = ErrorClass::Fatal,
                Doing::Writing { table, .. } if code == "42501" => {
                    message.push_str(&format!(
                        "; run: GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO the role Syncline connects as"
                    ));
                }
                Doing::Writing { .. } if code == "42704" => message.push_str(
                    "; if it is an extension's type, run CREATE EXTENSION in the target's database, in the schema named here",
                ),
                Doing::Writing { .. } | Doing::Transaction(_) => {}
            }
        }
        // The server's error is not handed on as the cause: its detail holds row values.
        let source = Contention::of_sqlstate(code).map(Into::into);
        TargetError { class, message, table: index, source }
    }
}

fn class_of_client_error(error: &sqlx::Error) -> ErrorClass {
    match error {
        sqlx::Error::Encode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => ErrorClass::BadRecord,
        _ => ErrorClass::Transient,
    }
}

/// What to do about a SQLSTATE.
pub(super) fn class_of_sqlstate(code: &str) -> ErrorClass {
    match code {
        // The file or disk behind a statement, a lock not granted in time, cancelled by the server or an operator,
        // a standby that may be promoted, an object that another process has just made.
        "55P03" | "55006" | "57014" | "25006" | "25P03" | "58030" | "42P06" | "42P07" | "42710" | "42701" => {
            return ErrorClass::Transient;
        }
        _ => {}
    }
    match code.get(..2).unwrap_or_default() {
        "08" | "40" | "53" | "57" => ErrorClass::Transient,
        "28" | "3D" => ErrorClass::Fatal,
        _ => ErrorClass::BadRecord,
    }
}

/// The server's message where it names objects only. Data exceptions quote the offending value, and what a trigger
/// raises may hold anything.
fn safe_message(error: &PgDatabaseError) -> String {
    let code = error.code();
    let mut message = match code.get(..2).unwrap_or_default() {
        "22" => format!("a value does not fit its column: {}", data_exception(code)),
        "P0" => "a function or trigger of the target raised an error".to_owned(),
        "21" => "a key occurs twice in one batch".to_owned(),
        "08" | "23" | "25" | "28" | "3D" | "3F" | "40" | "42" | "44" | "53" | "55" | "57" | "58" => {
            error.message().to_owned()
        }
        _ => "the server refused the statement".to_owned(),
    };
    for (what, name) in [("constraint", error.constraint()), ("column", error.column())] {
        if let Some(name) = name
            && !message.contains(name)
        {
            message.push_str(&format!(", {what} {name}"));
        }
    }
    message
}

fn data_exception(code: &str) -> &'static str {
    match code {
        "22001" => "text too long",
        "22003" => "number out of range",
        "22007" | "22008" => "date or time out of range",
        "22021" => "bytes that are no text in the database's encoding",
        "22026" => "bit string of another length",
        "22032" | "22P02" => "text that its type does not read",
        "22P03" => "binary form that its type does not read",
        "22P05" => "character that the database's encoding does not have",
        _ => "data exception",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_are_waited_out_and_bad_data_stops_its_table() {
        for code in ["08006", "57P01", "57P02", "57P03", "53300", "53100", "40001", "40P01", "55P03", "57014", "25006"]
        {
            assert_eq!(class_of_sqlstate(code), ErrorClass::Transient, "{code}");
        }
        for code in ["22001", "22003", "23505", "23502", "428C9", "42501", "42P01", "42703", "P0001", "XX000"] {
            assert_eq!(class_of_sqlstate(code), ErrorClass::BadRecord, "{code}");
        }
        for code in ["28P01", "28000", "3D000"] {
            assert_eq!(class_of_sqlstate(code), ErrorClass::Fatal, "{code}");
        }
    }

    #[test]
    fn a_broken_connection_is_transient() {
        let error = Doing::Bookkeeping("reading progress").error(sqlx::Error::Io(std::io::Error::other("reset")));
        assert_eq!(error.class, ErrorClass::Transient);
        let error = Doing::Writing { table: "public.t", index: Some(2), what: "writing to" }
            .error(sqlx::Error::Encode("too long".into()));
        assert_eq!((error.class, error.table), (ErrorClass::BadRecord, Some(2)));
    }
}
