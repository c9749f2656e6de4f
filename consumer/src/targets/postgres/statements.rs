//! The statements that write rows, as text: one a table and kind, whatever the number of rows.

use syncline_catalog::ident::{IdentError, qualified, quote_identifier};

use super::encode::Codec;

/// A column as statements see it.
#[derive(Debug, Clone)]
pub(super) struct StatementColumn {
    /// The quoted name.
    pub(super) name: String,
    /// How its values travel.
    pub(super) codec: Codec,
    /// What turns the parameter's element into the column's type: `::"pg_catalog"."bit"`, or nothing.
    pub(super) cast: String,
}

impl StatementColumn {
    /// A column of the target's type `schema.type_name`.
    ///
    /// # Errors
    ///
    /// A name that PostgreSQL cannot keep.
    pub(super) fn new(name: &str, schema: &str, type_name: &str, codec: Codec) -> Result<Self, IdentError> {
        let cast = match (codec, type_name) {
            (Codec::Text, "text") => String::new(),
            // The value is a plain decimal; money's own input depends on the locale.
            (Codec::Cast, "money") if schema == "pg_catalog" => "::pg_catalog.\"numeric\"::pg_catalog.money".into(),
            // Without the modifier: assignment to the column checks it, a cast would cut or round in silence.
            (Codec::Text | Codec::Cast, _) => format!("::{}", qualified(schema, type_name)?),
            _ => String::new(),
        };
        Ok(Self { name: quote_identifier(name)?, codec, cast })
    }

    /// `unnest($2::…[])`.
    pub(super) fn unnest(&self, parameter: usize) -> String {
        format!("pg_catalog.unnest({})", self.array(parameter))
    }

    /// `$2::…[]`.
    pub(super) fn array(&self, parameter: usize) -> String {
        format!("${parameter}::pg_catalog.{}[]", self.codec.element().0)
    }
}

/// `(SELECT unnest($1::…[]), …) AS u (c0, …)`. In FROM itself, `unnest` would put all rows into a store first.
fn unnest(columns: &[&StatementColumn]) -> String {
    let rows: Vec<String> = (1..).zip(columns).map(|(number, column)| column.unnest(number)).collect();
    let names: Vec<String> = (0..columns.len()).map(|index| format!("c{index}")).collect();
    format!("(SELECT {}) AS u ({})", rows.join(", "), names.join(", "))
}

fn names<'a>(columns: impl Iterator<Item = &'a StatementColumn>) -> String {
    columns.map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

pub(super) fn conditions(key: &[&StatementColumn], first: usize) -> String {
    let conditions: Vec<String> = key
        .iter()
        .enumerate()
        .map(|(index, column)| format!("t.{} = u.c{}{}", column.name, first + index, column.cast))
        .collect();
    conditions.join(" AND ")
}

/// Inserts rows. Parameters: the columns, in order.
pub(super) fn insert(table: &str, columns: &[&StatementColumn], identity: bool) -> String {
    let values: Vec<String> =
        columns.iter().enumerate().map(|(index, column)| format!("u.c{index}{}", column.cast)).collect();
    let overriding = if identity { " OVERRIDING SYSTEM VALUE" } else { "" };
    format!(
        "INSERT INTO {table} ({}){overriding} SELECT {} FROM {}",
        names(columns.iter().copied()),
        values.join(", "),
        unnest(columns),
    )
}

/// Inserts rows, or overwrites them where their key is there. Parameters: the columns, in order.
pub(super) fn upsert(table: &str, columns: &[&StatementColumn], key: &[&StatementColumn], identity: bool) -> String {
    let mut text = insert(table, columns, identity);
    text.push_str(&format!(" ON CONFLICT ({})", names(key.iter().copied())));
    let assignments: Vec<String> = columns
        .iter()
        .filter(|column| key.iter().all(|key| key.name != column.name))
        .map(|column| format!("{0} = EXCLUDED.{0}", column.name))
        .collect();
    if assignments.is_empty() {
        text.push_str(" DO NOTHING");
    } else {
        text.push_str(" DO UPDATE SET ");
        text.push_str(&assignments.join(", "));
    }
    text
}

/// Deletes rows by key. Parameters: the key's columns, in key order.
pub(super) fn delete(table: &str, key: &[&StatementColumn]) -> String {
    format!("DELETE FROM {table} AS t USING {} WHERE {}", unnest(key), conditions(key, 0))
}

/// Sets some columns of rows found by key. Parameters: the key's columns, then the others. Without others it only
/// looks whether the rows are there; either way the number of rows affected is the number found.
pub(super) fn update(table: &str, key: &[&StatementColumn], columns: &[&StatementColumn]) -> String {
    let all: Vec<&StatementColumn> = key.iter().chain(columns).copied().collect();
    if columns.is_empty() {
        return format!("SELECT FROM {table} AS t JOIN {} ON {}", unnest(&all), conditions(key, 0));
    }
    let assignments: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| format!("{} = u.c{}{}", column.name, key.len() + index, column.cast))
        .collect();
    format!("UPDATE {table} AS t SET {} FROM {} WHERE {}", assignments.join(", "), unnest(&all), conditions(key, 0))
}

/// Gives the rows that hold NULL in a column the time of the transaction.
pub(super) fn mark(table: &str, column: &StatementColumn) -> String {
    format!("UPDATE {table} SET {0} = pg_catalog.now() WHERE {0} IS NULL", column.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_event::table::TypeKind;

    fn column(name: &str, type_name: &str) -> StatementColumn {
        let codec = Codec::of("pg_catalog", type_name, &TypeKind::Base);
        StatementColumn::new(name, "pg_catalog", type_name, codec).unwrap()
    }

    #[test]
    fn statements() {
        let (id, kind, price) = (column("id", "int8"), column("Kind", "varchar"), column("price", "money"));
        assert_eq!(
            upsert("\"s\".\"t\"", &[&id, &kind, &price], &[&id], true),
            "INSERT INTO \"s\".\"t\" (\"id\", \"Kind\", \"price\") OVERRIDING SYSTEM VALUE \
             SELECT u.c0, u.c1::\"pg_catalog\".\"varchar\", u.c2::pg_catalog.\"numeric\"::pg_catalog.money \
             FROM (SELECT pg_catalog.unnest($1::pg_catalog.int8[]), pg_catalog.unnest($2::pg_catalog.text[]), \
             pg_catalog.unnest($3::pg_catalog.text[])) AS u (c0, c1, c2) \
             ON CONFLICT (\"id\") DO UPDATE SET \"Kind\" = EXCLUDED.\"Kind\", \"price\" = EXCLUDED.\"price\""
        );
        assert!(
            upsert("t", &[&id, &kind], &[&kind, &id], false).ends_with("ON CONFLICT (\"Kind\", \"id\") DO NOTHING")
        );
        assert_eq!(
            delete("t", &[&kind, &id]),
            "DELETE FROM t AS t USING (SELECT pg_catalog.unnest($1::pg_catalog.text[]), \
             pg_catalog.unnest($2::pg_catalog.int8[])) AS u (c0, c1) \
             WHERE t.\"Kind\" = u.c0::\"pg_catalog\".\"varchar\" AND t.\"id\" = u.c1"
        );
        assert_eq!(
            update("t", &[&id], &[&kind]),
            "UPDATE t AS t SET \"Kind\" = u.c1::\"pg_catalog\".\"varchar\" \
             FROM (SELECT pg_catalog.unnest($1::pg_catalog.int8[]), pg_catalog.unnest($2::pg_catalog.text[])) \
             AS u (c0, c1) WHERE t.\"id\" = u.c0"
        );
        assert!(update("t", &[&id], &[]).starts_with("SELECT FROM t AS t JOIN"));
    }
}
