//! `conflict_resolution`: which side stays where a row was changed on two.

use std::collections::BTreeMap;

use serde::Deserialize;
use syncline_runtime::config::{Field, Kind, Preset};
use syncline_transforms::mapping::SourceTable;
use syncline_transforms::resolve::rules::{ColumnRule, Rules, TableRule};

use super::check::Check;
use super::nodes::not_among;
use Preset::{Absent, Is, Required};

/// The order of commits, where no column gives one.
const COMMIT_STAMP: &str = "commit_stamp";

/// The section's keys.
pub(super) const RULES: &[Field] = &with_nodes(rule());

/// The keys of a table.
const TABLE: &[Field] = &with_priority(rule());

const fn with_nodes([a, b, c]: [Field; 3]) -> [Field; 5] {
    let priority = Field::new(
        "priority",
        Kind::Texts,
        Absent("the hub, then the others in the order of `nodes`"),
        "All nodes, the one that counts most first.",
    );
    let tables = Field::new(
        "tables",
        Kind::Named(TABLE),
        Is(""),
        "Tables with rules of their own, each under the name that all nodes share: `schema.table`, quoted as in SQL; no schema \
         means `public`. They take nothing from above but `priority`.",
    );
    [a, b, c, priority, tables]
}

const fn with_priority([a, b, c]: [Field; 3]) -> [Field; 4] {
    [a, b, c, Field::elsewhere("priority", "conflict_resolution.priority")]
}

const fn rule() -> [Field; 3] {
    [
        Field::new(
            "strategy",
            Kind::Choice {
                works: &["last_write_wins", "source_priority", "merge", "custom_rules", "manual"],
                later: &[],
            },
            Is("last_write_wins"),
            "`last_write_wins`: the row as it was written last. `source_priority`: the row of the node that stands first in \
             `priority`. `merge`: column by column; where both sides changed the same one, the value of the node that stands first in \
             `priority`. `custom_rules`: column by \
             column, by the rules below. `manual`: as `last_write_wins`, and each conflict waits for a person in the conflict \
             log.",
        ),
        Field::new(
            "order_by",
            Kind::Text,
            Is(COMMIT_STAMP),
            "For `last_write_wins`, what tells which was last: the time of the commit, or a column, of which the highest value \
             stays.",
        ),
        Field::new(
            "custom_rules",
            Kind::Sections(COLUMN),
            Is(""),
            "For `custom_rules`: columns and their rules. A column without one is merged.",
        ),
    ]
}

const COLUMN: &[Field] = &[
    Field::new("field", Kind::Text, Required, "The column."),
    Field::new(
        "strategy",
        Kind::Choice {
            works: &["last_write_wins", "source_priority", "sum", "max", "min", "concat_unique", "priority_order"],
            later: &[],
        },
        Required,
        "`last_write_wins` and `source_priority`: as above, for the column alone. `sum`: what both sides added is added up. \
         `max`, `min`: the highest, the lowest value. `concat_unique`: the items of both sides, each once. `priority_order`: \
         the value that stands first in `order`.",
    ),
    Field::new(
        "order",
        Kind::Texts,
        Absent("required with `priority_order`"),
        "For `priority_order`: the values, the one that counts most first.",
    ),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawStrategy {
    LastWriteWins,
    SourcePriority,
    Merge,
    CustomRules,
    Manual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawColumnStrategy {
    LastWriteWins,
    SourcePriority,
    Sum,
    Max,
    Min,
    ConcatUnique,
    PriorityOrder,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRules {
    strategy: RawStrategy,
    order_by: String,
    custom_rules: Vec<RawColumnRule>,
    priority: Option<Vec<String>>,
    tables: Vec<(String, RawTableRule)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTableRule {
    strategy: RawStrategy,
    order_by: String,
    custom_rules: Vec<RawColumnRule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawColumnRule {
    field: String,
    strategy: RawColumnStrategy,
    order: Option<Vec<String>>,
}

const SECTION: &str = "conflict_resolution";

impl Check<'_> {
    /// The rules of a topology.
    pub(super) fn rules(&mut self, raw: RawRules, hub: Option<&str>, nodes: &[String]) -> Rules {
        let RawRules { strategy, order_by, custom_rules, priority, tables } = raw;
        let priority = match priority.filter(|priority| !priority.is_empty()) {
            Some(priority) => self.priority(priority, nodes),
            None => {
                let is_hub = |node: &&String| Some(node.as_str()) == hub;
                let rest = nodes.iter().filter(|node| !is_hub(node));
                nodes.iter().filter(is_hub).chain(rest).cloned().collect()
            }
        };
        let default = self.table_rule(SECTION, RawTableRule { strategy, order_by, custom_rules });
        let mut rules = Rules { priority, default, tables: BTreeMap::new() };
        for (written, raw) in tables {
            let path = format!("{SECTION}.tables.{written}");
            let rule = self.table_rule(&path, raw);
            match SourceTable::parse(&written).map(|table| table.name()) {
                Ok(Some((schema, table))) => {
                    if rules.tables.insert(format!("{schema}.{table}"), rule).is_some() {
                        self.refuse(&path, format!("`{written}` is named twice: {schema}.{table} has rules already"));
                    }
                }
                Ok(None) => self.refuse(&path, format!("`{written}` must be one table's name, not a pattern")),
                Err(fault) => self.refuse(&path, format!("`{written}` {fault}")),
            }
        }
        // What it finds that has not been told by now has no line of its own.
        if self.is_fine()
            && let Err(error) = rules.check(nodes)
        {
            self.refuse(SECTION, error.to_string());
        }
        rules
    }

    fn priority(&mut self, priority: Vec<String>, nodes: &[String]) -> Vec<String> {
        for (number, name) in priority.iter().enumerate() {
            let path = format!("{SECTION}.priority[{number}]");
            if let Some(fault) = not_among(name, nodes) {
                self.refuse(&path, fault);
            } else if priority[..number].contains(name) {
                self.refuse(&path, format!("`{name}` stands here twice"));
            }
        }
        let missing: Vec<&str> = nodes.iter().filter(|node| !priority.contains(node)).map(String::as_str).collect();
        if !missing.is_empty() {
            let text = format!("must name all nodes; {} is missing", missing.join(", "));
            self.refuse(&format!("{SECTION}.priority"), text);
        }
        priority
    }

    fn table_rule(&mut self, section: &str, raw: RawTableRule) -> TableRule {
        let RawTableRule { strategy, order_by, custom_rules } = raw;
        let path = |key: &str| format!("{section}.{key}");
        if strategy != RawStrategy::LastWriteWins && order_by != COMMIT_STAMP {
            self.refuse(
                &path("order_by"),
                "orders `last_write_wins` only: remove it, or write `strategy: last_write_wins`",
            );
        }
        match (strategy == RawStrategy::CustomRules, custom_rules.is_empty()) {
            (true, true) => {
                let text = "is required with `strategy: custom_rules`: list columns and their rules, for example \
                            [{field: quantity, strategy: sum}]";
                self.refuse(&path("custom_rules"), text);
            }
            (false, false) => {
                self.refuse(&path("custom_rules"), "stands without `strategy: custom_rules`: write that, or remove it");
            }
            (true, false) | (false, true) => {}
        }
        match strategy {
            RawStrategy::LastWriteWins if order_by == COMMIT_STAMP => TableRule::LastWriteWins,
            RawStrategy::LastWriteWins => TableRule::LastWriteWinsBy(order_by),
            RawStrategy::SourcePriority => TableRule::SourcePriority,
            RawStrategy::Merge => TableRule::Merge,
            RawStrategy::Manual => TableRule::Manual,
            RawStrategy::CustomRules => {
                let mut columns = BTreeMap::new();
                for (number, raw) in custom_rules.into_iter().enumerate() {
                    let path = format!("{}[{number}]", path("custom_rules"));
                    let rule = self.column_rule(&path, raw.strategy, raw.order.unwrap_or_default());
                    if columns.contains_key(&raw.field) {
                        self.refuse(&format!("{path}.field"), format!("`{}` has a rule already", raw.field));
                    }
                    columns.insert(raw.field, rule);
                }
                TableRule::Columns(columns)
            }
        }
    }

    fn column_rule(&mut self, section: &str, strategy: RawColumnStrategy, order: Vec<String>) -> ColumnRule {
        let path = format!("{section}.order");
        match (strategy == RawColumnStrategy::PriorityOrder, order.is_empty()) {
            (true, true) => {
                let text =
                    "is required with `strategy: priority_order`: list the values, the one that counts most first";
                self.refuse(&path, text);
            }
            (false, false) => {
                self.refuse(&path, "stands without `strategy: priority_order`: write that, or remove it");
            }
            (true, false) | (false, true) => {}
        }
        if let Some(number) = (0..order.len()).find(|number| order[..*number].contains(&order[*number])) {
            self.refuse(&format!("{path}[{number}]"), format!("`{}` stands here twice", order[number]));
        }
        match strategy {
            RawColumnStrategy::LastWriteWins => ColumnRule::LastWriteWins,
            RawColumnStrategy::SourcePriority => ColumnRule::SourcePriority,
            RawColumnStrategy::Sum => ColumnRule::Sum,
            RawColumnStrategy::Max => ColumnRule::Max,
            RawColumnStrategy::Min => ColumnRule::Min,
            RawColumnStrategy::ConcatUnique => ColumnRule::ConcatUnique,
            RawColumnStrategy::PriorityOrder => ColumnRule::PriorityOrder(order),
        }
    }
}
