//! One row of `COPY … TO STDOUT` in text format: the server sends one row a message.

use std::ops::Range;

use syncline_event::tuple::TupleCell;

/// Buffers for rows, reused from row to row.
#[derive(Debug, Default)]
pub struct CopyRow {
    /// Unescaped text of the fields that need it, one after another.
    text: Vec<u8>,
    fields: Vec<Field>,
}

#[derive(Debug, Clone)]
enum Field {
    Null,
    /// In the row's own bytes.
    Plain(Range<usize>),
    /// In `text`.
    Unescaped(Range<usize>),
}

/// A row that is not in COPY's text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row of COPY does not end as it should")]
pub struct MalformedRow;

impl CopyRow {
    /// Parses a row with its line end.
    ///
    /// # Errors
    ///
    /// No line end, or a backslash at the end of a field.
    pub fn parse<'a>(&'a mut self, row: &'a [u8]) -> Result<impl Iterator<Item = TupleCell<'a>> + 'a, MalformedRow> {
        self.text.clear();
        self.fields.clear();
        let line = row.strip_suffix(b"\n").ok_or(MalformedRow)?;
        let mut start = 0;
        for field in line.split(|byte| *byte == b'\t') {
            let range = start..start + field.len();
            start = range.end + 1;
            self.fields.push(if field == b"\\N" {
                Field::Null
            } else if field.contains(&b'\\') {
                let from = self.text.len();
                unescape(field, &mut self.text)?;
                Field::Unescaped(from..self.text.len())
            } else {
                Field::Plain(range)
            });
        }
        let text = &self.text;
        Ok(self.fields.iter().map(move |field| match field {
            Field::Null => TupleCell::Null,
            Field::Plain(range) => TupleCell::Text(&line[range.clone()]),
            Field::Unescaped(range) => TupleCell::Text(&text[range.clone()]),
        }))
    }
}

/// The server writes `\b \f \n \r \t \v \\` and a backslash before a delimiter.
fn unescape(field: &[u8], text: &mut Vec<u8>) -> Result<(), MalformedRow> {
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'\\' {
            text.push(*byte);
            continue;
        }
        text.push(match bytes.next().ok_or(MalformedRow)? {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            other => *other,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// COPY's own escaping, as PostgreSQL's manual states it.
    fn escape(value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for byte in value {
            match byte {
                8 => out.extend(b"\\b"),
                12 => out.extend(b"\\f"),
                b'\n' => out.extend(b"\\n"),
                b'\r' => out.extend(b"\\r"),
                b'\t' => out.extend(b"\\t"),
                11 => out.extend(b"\\v"),
                b'\\' => out.extend(b"\\\\"),
                other => out.push(*other),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn rows_round_trip(rows in proptest::collection::vec(
            proptest::collection::vec(proptest::option::of("[a\\\\\t\n\r\u{8}\u{b}\u{c}N ü]{0,12}"), 1..6), 1..4)
        ) {
            let mut parser = CopyRow::default();
            for row in &rows {
                let fields: Vec<Vec<u8>> = row.iter().map(|value| match value {
                    None => b"\\N".to_vec(),
                    Some(text) => escape(text.as_bytes()),
                }).collect();
                let mut line = fields.join(&b'\t');
                line.push(b'\n');
                let cells: Vec<TupleCell<'_>> = parser.parse(&line).unwrap().collect();
                let expected: Vec<TupleCell<'_>> = row.iter().map(|value| match value {
                    None => TupleCell::Null,
                    Some(text) => TupleCell::Text(text.as_bytes()),
                }).collect();
                prop_assert_eq!(cells, expected);
            }
        }

        #[test]
        fn no_bytes_panic(row in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(cells) = CopyRow::default().parse(&row) {
                prop_assert!(cells.count() <= row.len());
            }
        }
    }
}
