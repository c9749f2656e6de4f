//! Which columns travel, which are changed on the way, and which make the key: Debezium's `column.include.list`,
//! `column.exclude.list`, `column.mask.*`, `column.truncate.*` and `message.key.columns`.
//!
//! Patterns are regular expressions over whole names, in any case, as Debezium reads them. Key columns always travel,
//! in the key and in the row: a row without its key cannot be written anywhere.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use syncline_event::mask::Mask;
use syncline_event::table::{Column, TableDefinition, TypeKind};

/// A comma-separated list of regular expressions.
#[derive(Debug, Clone)]
pub struct Patterns(Vec<Regex>);

impl Patterns {
    /// Parses a list; a comma behind a backslash is part of a pattern.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = vec![String::new()];
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let last = parts.last_mut().expect("there is always a part");
            match character {
                '\\' if characters.peek() == Some(&',') => last.extend(characters.next()),
                ',' => parts.push(String::new()),
                other => last.push(other),
            }
        }
        let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
        let regexes = parts.map(whole).collect::<Result<Vec<_>, _>>()?;
        if regexes.is_empty() { Err("is empty".to_owned()) } else { Ok(Self(regexes)) }
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|regex| regex.is_match(name))
    }
}

fn whole(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&format!("^(?:{pattern})$"))
        .case_insensitive(true)
        .build()
        .map_err(|error| format!("`{pattern}` is no regular expression: {error}"))
}

/// The columns of one table's key: `schema.table:a,b`.
#[derive(Debug, Clone)]
pub struct KeyRule {
    table: Regex,
    columns: Vec<Regex>,
}

impl KeyRule {
    /// Parses `table:column,column;table:column`.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let rules = text.split(';').map(str::trim).filter(|rule| !rule.is_empty());
        rules
            .map(|rule| {
                let fault = || format!("`{rule}` is not of the form schema.table:column,column");
                let (table, columns) = rule.split_once(':').ok_or_else(fault)?;
                let columns: Vec<&str> = columns.split(',').map(str::trim).collect();
                if table.trim().is_empty() || columns.iter().any(|column| column.is_empty()) {
                    return Err(fault());
                }
                let columns = columns.into_iter().map(whole).collect::<Result<_, _>>()?;
                Ok(Self { table: whole(table.trim())?, columns })
            })
            .collect()
    }
}

/// A mask with the columns it is for.
#[derive(Debug, Clone)]
pub struct MaskRule {
    /// The property, for messages; it shows no salt.
    pub property: String,
    /// The columns, as `schema.table.column`.
    pub columns: Patterns,
    /// What becomes of their values.
    pub mask: Mask,
}

/// Everything about columns.
#[derive(Debug, Clone, Default)]
pub struct ColumnSettings {
    /// `column.include.list`.
    pub include: Option<Patterns>,
    /// `column.exclude.list`.
    pub exclude: Option<Patterns>,
    /// `column.mask.*` and `column.truncate.*`; the first that matches counts.
    pub masks: Vec<MaskRule>,
    /// `message.key.columns`.
    pub keys: Vec<KeyRule>,
    /// `reselect.columns.include.list`.
    pub reselect: Option<Patterns>,
}

impl ColumnSettings {
    /// Whether a column's value is read again where an update leaves it out.
    #[must_use]
    pub fn reselects(&self, definition: &TableDefinition, column: usize) -> bool {
        let matches = |reselect: &Patterns| reselect.matches(&full_name(definition, &definition.columns[column]));
        self.reselect.as_ref().is_some_and(matches)
    }

    /// The definition with its key, its columns and the parameters of changed ones as the settings want them.
    #[must_use]
    pub fn apply(&self, mut definition: TableDefinition) -> TableDefinition {
        if let Some(key) = self.key(&definition) {
            definition.key = key;
        }
        let leaves = |column: &Column| !self.travels(&definition, column);
        let left_out: Vec<usize> = (0..definition.columns.len())
            .filter(|index| leaves(&definition.columns[*index]) && !definition.key.contains(index))
            .collect();
        let mut definition = without_columns(definition, &left_out);
        let mut parameters = BTreeMap::new();
        for column in &definition.columns {
            if let Some(rule) = self.mask(&definition, column) {
                let (name, value) = rule.mask.parameter();
                parameters.insert(column.name.clone(), BTreeMap::from([(name.to_owned(), value)]));
            }
        }
        definition.handling.parameters = parameters;
        definition
    }

    /// The masks of a definition's columns, in their order; empty where there is none.
    #[must_use]
    pub fn masks(&self, definition: &TableDefinition) -> Vec<Option<Mask>> {
        if self.masks.is_empty() {
            return Vec::new();
        }
        definition.columns.iter().map(|column| Some(for_column(&self.mask(definition, column)?.mask, column))).collect()
    }

    /// What the settings ask of a table that cannot be.
    #[must_use]
    pub fn problems(&self, definition: &TableDefinition) -> Vec<String> {
        let table = definition.qualified_name();
        let mut problems = Vec::new();
        for column in &definition.columns {
            if let Some(rule) = self.mask(definition, column)
                && !is_text(column)
            {
                problems.push(format!(
                    "table {table}, column {}: {} is for texts, this is a {}; leave the column out by column.exclude.list",
                    column.name, rule.property, column.column_type.format
                ));
            }
        }
        problems
    }

    /// The masks that concern no column of these tables: a slip of the pen would let through what was to be hidden.
    #[must_use]
    pub fn idle_masks<'a>(&self, definitions: impl Iterator<Item = &'a TableDefinition> + Clone) -> Vec<String> {
        let concerns = |rule: &MaskRule, definition: &TableDefinition| {
            definition.columns.iter().any(|column| rule.columns.matches(&full_name(definition, column)))
        };
        let idle = self.masks.iter().filter(|rule| !definitions.clone().any(|definition| concerns(rule, definition)));
        idle.map(|rule| {
            format!(
                "{} matches no column of the captured tables: write regular expressions over schema.table.column",
                rule.property
            )
        })
        .collect()
    }

    /// The key by `message.key.columns`, in the order of the rules; `None` where no rule concerns the table.
    #[must_use]
    pub fn key(&self, definition: &TableDefinition) -> Option<Vec<usize>> {
        let name = definition.qualified_name();
        let mut key = Vec::new();
        for rule in self.keys.iter().filter(|rule| rule.table.is_match(&name)) {
            for pattern in &rule.columns {
                let named = definition.columns.iter().enumerate().filter(|(_, column)| pattern.is_match(&column.name));
                for (index, _) in named {
                    if !key.contains(&index) {
                        key.push(index);
                    }
                }
            }
        }
        (!key.is_empty()).then_some(key)
    }

    fn travels(&self, definition: &TableDefinition, column: &Column) -> bool {
        let name = full_name(definition, column);
        self.include.as_ref().is_none_or(|include| include.matches(&name))
            && self.exclude.as_ref().is_none_or(|exclude| !exclude.matches(&name))
    }

    fn mask(&self, definition: &TableDefinition, column: &Column) -> Option<&MaskRule> {
        let name = full_name(definition, column);
        self.masks.iter().find(|rule| rule.columns.matches(&name))
    }
}

/// The definition without these columns, which are in ascending order and none of the key.
#[must_use]
pub fn without_columns(mut definition: TableDefinition, left_out: &[usize]) -> TableDefinition {
    for column in left_out.iter().rev() {
        definition.columns.remove(*column);
        for key in &mut definition.key {
            *key -= usize::from(*key > *column);
        }
    }
    definition
}

fn full_name(definition: &TableDefinition, column: &Column) -> String {
    format!("{}.{}.{}", definition.schema, definition.table, column.name)
}

fn is_text(column: &Column) -> bool {
    let name = column.column_type.name.as_str();
    column.column_type.kind == TypeKind::Base && matches!(name, "text" | "varchar" | "bpchar" | "name" | "citext")
}

/// A hash is cut to the length of its column.
fn for_column(mask: &Mask, column: &Column) -> Mask {
    match mask {
        Mask::Hash { algorithm, salt, version, .. } => Mask::Hash {
            algorithm: *algorithm,
            salt: salt.clone(),
            version: *version,
            // A modifier of varchar and bpchar holds four bytes more than characters.
            length: usize::try_from(column.column_type.modifier - 4).ok().filter(|length| *length > 0),
        },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use syncline_event::handling::Handling;
    use syncline_event::table::{ColumnType, ReplicaIdentity};

    use super::*;

    fn column(name: &str, type_name: &str, modifier: i32) -> Column {
        Column {
            name: name.into(),
            field: name.into(),
            column_type: ColumnType {
                oid: 0,
                name: type_name.into(),
                schema: "pg_catalog".into(),
                modifier,
                format: type_name.into(),
                kind: TypeKind::Base,
                domain: None,
            },
            nullable: false,
            identity: None,
            generated: None,
            default: None,
            default_value: None,
            missing_value: None,
        }
    }

    fn users() -> TableDefinition {
        TableDefinition {
            topic: "shop.public.users".into(),
            number: 0,
            schema: "public".into(),
            table: "users".into(),
            columns: vec![
                column("id", "int4", -1),
                column("email", "varchar", 24),
                column("phone", "text", -1),
                column("age", "int4", -1),
            ],
            key: vec![0],
            replica_identity: ReplicaIdentity::Full,
            handling: Handling::default(),
        }
    }

    fn names(definition: &TableDefinition) -> Vec<&str> {
        definition.columns.iter().map(|column| column.name.as_str()).collect()
    }

    #[test]
    fn lists_choose_columns_and_the_key_stays() {
        let patterns = |text: &str| Some(Patterns::parse(text).unwrap());
        let include =
            ColumnSettings { include: patterns("public.users.email, PUBLIC\\.USERS\\.AGE"), ..Default::default() };
        let chosen = include.apply(users());
        assert_eq!(names(&chosen), ["id", "email", "age"]);
        let exclude = ColumnSettings { exclude: patterns("public.users.(id|phone)"), ..Default::default() };
        let chosen = exclude.apply(users());
        assert_eq!((names(&chosen), chosen.key.as_slice()), (vec!["id", "email", "age"], &[0][..]));
        // A pattern covers the whole name.
        let exclude = ColumnSettings { exclude: patterns("users.phone"), ..Default::default() };
        assert_eq!(exclude.apply(users()).columns.len(), 4);
        assert!(Patterns::parse("(").is_err() && Patterns::parse(" , ").is_err());
    }

    #[test]
    fn keys_are_chosen_by_table_and_follow_their_columns() {
        let keys = KeyRule::parse_all("public.users:email, age; (.*).orders:id").unwrap();
        let exclude = Some(Patterns::parse("public.users.(id|email)").unwrap());
        let settings = ColumnSettings { keys, exclude, ..Default::default() };
        let keyed = settings.apply(users());
        assert_eq!(names(&keyed), ["email", "phone", "age"]);
        assert_eq!(keyed.key, [0, 2]);
        assert_eq!(settings.key(&TableDefinition { table: "others".into(), ..users() }), None);
        for fault in ["users", "users:", ":id", "users:a,,b"] {
            assert!(KeyRule::parse_all(fault).is_err(), "{fault}");
        }
    }

    #[test]
    fn masks_are_for_texts_and_show_in_the_schema() {
        let rule = |columns: &str, mask| MaskRule {
            property: "column.mask.with.3.chars".into(),
            columns: Patterns::parse(columns).unwrap(),
            mask,
        };
        let settings =
            ColumnSettings { masks: vec![rule("public.users.phone", Mask::Asterisks(3))], ..Default::default() };
        let masked = settings.apply(users());
        assert_eq!(masked.handling.parameters["phone"]["masked"], "true");
        assert_eq!(settings.masks(&masked), [None, None, Some(Mask::Asterisks(3)), None]);
        assert_eq!(settings.problems(&masked), [""; 0]);
        let wrong = ColumnSettings { masks: vec![rule("public.users.age", Mask::Asterisks(3))], ..Default::default() };
        assert!(wrong.problems(&users())[0].contains("column age"));
        let idle = ColumnSettings { masks: vec![rule("users.phone", Mask::Asterisks(3))], ..Default::default() };
        assert_eq!(idle.idle_masks([users()].iter()).len(), 1);
        assert_eq!(settings.idle_masks([users()].iter()), [""; 0]);
    }
}
