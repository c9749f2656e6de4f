//! Which column defaults are constants, and what they are.

use sqlx::PgConnection;
use syncline_event::table::Column;

/// Fills `default_value` where the default is a constant.
///
/// The server evaluates the constants, all of a table in one query; expressions that call anything are left alone.
///
/// # Errors
///
/// The connection. An expression that the server cannot evaluate leaves the table without constant defaults.
pub(crate) async fn constant_defaults(
    connection: &mut PgConnection,
    columns: impl Iterator<Item = &mut Column>,
) -> Result<(), sqlx::Error> {
    let mut constants: Vec<&mut Column> =
        columns.filter(|column| column.default.as_deref().is_some_and(is_constant)).collect();
    if constants.is_empty() {
        return Ok(());
    }
    // `format` uses the type's output function, as the log does; a cast to text would not (true, character(n)).
    let expressions: Vec<String> = constants
        .iter()
        .map(|column| {
            let expression = column.default.as_deref().unwrap_or("NULL");
            format!(
                "(SELECT CASE WHEN v IS NULL THEN NULL ELSE format('%s', v) END FROM (SELECT ({expression})::{} AS v) s)",
                column.column_type.format
            )
        })
        .collect();
    let query = format!("SELECT ARRAY[{}]::text[]", expressions.join(", "));
    match sqlx::query_scalar::<_, Vec<Option<String>>>(sqlx::AssertSqlSafe(query)).fetch_one(connection).await {
        Ok(values) => {
            for (column, value) in constants.iter_mut().zip(values) {
                column.default_value = value;
            }
            Ok(())
        }
        Err(sqlx::Error::Database(error)) => {
            tracing::warn!(error = error.message(), "constant column defaults cannot be read and are left out");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Whether an expression, as `pg_get_expr` prints it, is made of literals, casts and operators only.
fn is_constant(expression: &str) -> bool {
    let mut rest = expression;
    let mut after_cast = false;
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let Some(end) = literal_end(rest) else { return false };
            // `('now'::text)::date` is evaluated anew for each row.
            let text = rest.get(1..end - 1).unwrap_or_default().trim().to_ascii_lowercase();
            if ["now", "today", "tomorrow", "yesterday"].contains(&text.as_str()) {
                return false;
            }
            rest = rest.get(end..).unwrap_or_default();
            after_cast = false;
        } else if first.is_alphabetic() || first == '_' || first == '"' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "_\". ".contains(c))).unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            // A type's name may carry a modifier, `::numeric(5,0)`; anything else before a parenthesis is a call.
            let is_call = tail.starts_with('(') && !after_cast;
            let is_word =
                after_cast || ["true", "false", "NULL", "ARRAY", "E"].iter().any(|allowed| word.trim() == *allowed);
            if is_call || !is_word {
                return false;
            }
            rest = tail;
            after_cast = false;
        } else if let Some(tail) = rest.strip_prefix("::") {
            rest = tail;
            after_cast = true;
        } else {
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    true
}

/// Behind the closing quote of the literal that `text` begins with; doubled quotes belong to it.
fn literal_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        if bytes[at] == b'\'' {
            if bytes.get(at + 1) == Some(&b'\'') {
                at += 1;
            } else {
                return Some(at + 1);
            }
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::is_constant;

    #[test]
    fn literals_and_casts_are_constants() {
        for expression in [
            "42",
            "'dflt'::text",
            "'2020-01-01 00:00:00+00'::timestamp with time zone",
            "true",
            "'-1'::integer",
            "(1 + 2)",
            "'it''s (x)'::character varying(40)",
            "'sad'::mood",
            "ARRAY['a'::text, 'b'::text]",
            "NULL::character varying",
            "'{}'::public.\"Odd type\"[]",
        ] {
            assert!(is_constant(expression), "{expression}");
        }
    }

    #[test]
    fn calls_are_not() {
        for expression in [
            "now()",
            "nextval('t_id_seq'::regclass)",
            "CURRENT_TIMESTAMP",
            "(now() + '1 day'::interval)",
            "gen_random_uuid()",
            "upper('a'::text)",
            "CURRENT_DATE",
            "('now'::text)::date",
        ] {
            assert!(!is_constant(expression), "{expression}");
        }
    }
}
