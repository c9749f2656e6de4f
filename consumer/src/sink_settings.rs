//! What a user of a JDBC sink sets, checked: which table a topic is written to, by which key, and what is done about
//! deletes, truncates and missing columns.

use std::sync::Arc;

use syncline_event::table::TableDefinition;

/// The settings. The default is Syncline's own way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkSettings {
    /// The table that a topic is written to.
    pub table_name: TableName,
    /// The columns that make the key.
    pub key: KeyColumns,
    /// How rows are written.
    pub insert: InsertMode,
    /// Whether deletes and tombstones remove rows.
    pub deletes: bool,
    /// What is done about a truncate of Debezium's.
    pub truncates: Truncates,
    /// Whether tables and columns that are missing are made.
    pub evolves: bool,
    /// Which fields become columns.
    pub fields: FieldFilter,
    /// Whether JSON without a schema is read as the target's table says.
    pub json_of_target: bool,
}

impl Default for SinkSettings {
    fn default() -> Self {
        Self {
            table_name: TableName::default(),
            key: KeyColumns::OfKey,
            insert: InsertMode::Upsert,
            deletes: true,
            truncates: Truncates::Stop,
            evolves: true,
            fields: FieldFilter::default(),
            json_of_target: false,
        }
    }
}

/// The columns that make the key of a record without our header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyColumns {
    /// The fields of the record's key.
    OfKey,
    /// These fields of the row.
    Named(Vec<String>),
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertMode {
    /// Inserted, or overwritten where the key is there.
    Upsert,
    /// Inserted; a key that is there stops the table.
    Insert,
    /// Overwritten where the key is there, and else passed over.
    Update,
}

/// What is done about a truncate that did not come from our producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncates {
    /// The partition stops: the truncate has no order against the rows of other partitions.
    Stop,
    /// It is passed over; the target keeps its rows.
    Ignore,
}

/// A pattern for the name of the target's table, of Debezium's `collection.name.format`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableName {
    /// `None`: the last two parts of the topic's name.
    format: Option<Vec<Part>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Topic,
    Schema,
    Table,
}

impl TableName {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            if !before.is_empty() {
                parts.push(Part::Literal(before.to_owned()));
            }
            let (name, behind) = behind.split_once('}').ok_or("has a `${` without a `}`")?;
            parts.push(match name {
                "topic" => Part::Topic,
                "source.schema" => Part::Schema,
                "source.table" | "source.collection" => Part::Table,
                "source.db" => {
                    return Err("`${source.db}` is not supported: write `${source.schema}`, which is the database for \
                                MySQL and MariaDB, or the name itself"
                        .into());
                }
                other => {
                    return Err(format!(
                        "`${{{other}}}` is not supported: `${{topic}}`, `${{source.schema}}` and `${{source.table}}` are"
                    ));
                }
            });
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        if parts.is_empty() {
            return Err("is empty".into());
        }
        Ok(Self { format: Some(parts) })
    }

    /// Schema and table for a topic, or for a table of our producer's where the schema and the table are known.
    fn of(&self, topic: &str, schema: &str, table: &str) -> (String, String) {
        let Some(parts) = &self.format else { return (schema.to_owned(), table.to_owned()) };
        let mut name = String::new();
        for part in parts {
            match part {
                Part::Literal(text) => name.push_str(text),
                // As Debezium's sink does it.
                Part::Topic => name.push_str(&topic.replace('.', "_")),
                Part::Schema => name.push_str(schema),
                Part::Table => name.push_str(table),
            }
        }
        match name.split_once('.') {
            Some((schema, table)) => (schema.to_owned(), table.to_owned()),
            None => ("public".to_owned(), name),
        }
    }
}

/// Fields that become columns, each for one topic or for all: `field.include.list` or `field.exclude.list`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldFilter {
    include: Vec<(Option<String>, String)>,
    exclude: Vec<(Option<String>, String)>,
}

impl FieldFilter {
    /// Reads entries `field` and `topic:field`.
    #[must_use]
    pub fn new(include: &[String], exclude: &[String]) -> Self {
        let entry = |text: &String| match text.split_once(':') {
            Some((topic, field)) => (Some(topic.to_owned()), field.to_owned()),
            None => (None, text.clone()),
        };
        Self { include: include.iter().map(entry).collect(), exclude: exclude.iter().map(entry).collect() }
    }

    fn keeps(&self, topic: &str, field: &str) -> bool {
        let concerns =
            |entry: &(Option<String>, String)| entry.0.as_deref().is_none_or(|of| of == topic) && entry.1 == field;
        let listed = self.include.iter().any(|(of, _)| of.as_deref().is_none_or(|of| of == topic));
        (!listed || self.include.iter().any(concerns)) && !self.exclude.iter().any(concerns)
    }
}

impl SinkSettings {
    /// The target's schema and table for a topic: the last two parts of its name (`prefix.schema.table`), `public` and
    /// the whole where it has one part, or what the pattern makes of them.
    #[must_use]
    pub fn table_of(&self, topic: &str) -> (String, String) {
        let mut parts = topic.rsplit('.');
        let table = parts.next().unwrap_or(topic);
        let schema = parts.next().unwrap_or("public");
        self.table_name.of(topic, schema, table)
    }

    /// A producer's definition with the target's name for its table.
    #[must_use]
    pub fn renamed(&self, definition: Arc<TableDefinition>) -> Arc<TableDefinition> {
        let (schema, table) = self.table_name.of(&definition.topic, &definition.schema, &definition.table);
        if schema == definition.schema && table == definition.table {
            return definition;
        }
        Arc::new(TableDefinition { schema, table, ..TableDefinition::clone(&definition) })
    }

    /// Leaves out the columns of fields that are not to become any.
    ///
    /// # Errors
    ///
    /// A key column is left out.
    pub fn keep_fields(&self, definition: &mut TableDefinition) -> Result<(), String> {
        let kept: Vec<bool> =
            definition.columns.iter().map(|column| self.fields.keeps(&definition.topic, &column.field)).collect();
        if let Some(lost) = definition.key.iter().find(|index| !kept[**index]) {
            let field = &definition.columns[*lost].field;
            return Err(format!(
                "field {field} is part of the key and left out by target.properties: field.include.list or \
                 field.exclude.list"
            ));
        }
        let place = |index: usize| kept[..index].iter().filter(|kept| **kept).count();
        definition.key = definition.key.iter().map(|index| place(*index)).collect();
        let mut kept = kept.iter();
        definition.columns.retain(|_| kept.next().copied().unwrap_or(true));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_by_the_pattern() {
        let named = |format: &str, topic: &str| {
            let settings = SinkSettings { table_name: TableName::parse(format).unwrap(), ..SinkSettings::default() };
            let (schema, table) = settings.table_of(topic);
            format!("{schema}|{table}")
        };
        assert_eq!(SinkSettings::default().table_of("shop.public.users"), ("public".into(), "users".into()));
        assert_eq!(SinkSettings::default().table_of("users"), ("public".into(), "users".into()));
        assert_eq!(named("${topic}", "shop.public.users"), "public|shop_public_users");
        assert_eq!(named("dwh.${source.schema}_${source.table}", "shop.sales.users"), "dwh|sales_users");
        assert_eq!(named("one", "shop.sales.users"), "public|one");
        for (wrong, word) in [("${source.db}", "source.schema"), ("${x}", "${x}"), ("${topic", "}"), ("", "empty")] {
            assert!(TableName::parse(wrong).unwrap_err().contains(word), "{wrong}");
        }
    }

    #[test]
    fn fields_are_kept_by_topic_or_for_all() {
        let filter = FieldFilter::new(&["t:a".into(), "t:b".into()], &["b".into()]);
        assert!(filter.keeps("t", "a") && !filter.keeps("t", "b") && !filter.keeps("t", "c"));
        assert!(filter.keeps("other", "c") && !filter.keeps("other", "b"));
    }
}
