//! What a case of the comparison consists of.

/// One case: tables, what happens to them, and where the two may differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    /// Its name, which differences are reported under.
    pub(crate) name: &'static str,
    /// The tables it captures, quoted as SQL where they need it; without a schema they are in `public`.
    pub(crate) tables: &'static [&'static str],
    /// Statements before both captures start: the tables and the rows of the snapshot.
    pub(crate) before: &'static str,
    /// What happens while both follow the log. Each is sent as one message: a transaction of its own unless it says
    /// otherwise.
    pub(crate) after: &'static [&'static str],
    /// Whether both sides take each statement in before the next one runs: the catalog, which both read when a table
    /// changes, must not be ahead of the log then.
    pub(crate) in_step: bool,
    /// The only differences there may be, and have to be.
    pub(crate) deviations: &'static [Deviation],
}

/// Fields in which our records differ from Debezium's, as they have to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deviation {
    /// Codes of the operations whose records differ: `rc`.
    pub(crate) operations: &'static str,
    /// The table's column, in whichever image.
    pub(crate) column: &'static str,
    /// What Debezium wrote; an asterisk at the end stands for any rest.
    pub(crate) debezium: &'static str,
    /// What we wrote; an asterisk likewise.
    pub(crate) ours: &'static str,
}

/// A table by schema and name, from its form in SQL.
pub(crate) fn name_of(table: &str) -> (String, String) {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in table.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => parts.last_mut().expect("there is a part from the start").push(c),
        }
    }
    let name = parts.pop().unwrap_or_default();
    (parts.pop().unwrap_or_else(|| "public".to_owned()), name)
}
