//! What one node of several writable ones calls the tables that all of them share: other names, nothing else, so that
//! changes can go both ways.

use syncline_event::table::TableDefinition;

use super::{Mapping, Misfit, Route, SourceTable, Written, quoted_table};

/// A schema and a table.
pub type TableName = (String, String);

/// A table that a node calls otherwise, or whose columns it calls otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The node's own name.
    pub own: Written<TableName>,
    /// The name that all nodes share.
    pub shared: TableName,
    /// The node's own columns and what all nodes call them; the others have one name.
    pub columns: Vec<(Written<String>, String)>,
}

impl Renamed {
    /// The node's own name of a shared column; `None` if it has no such column, as that name is another one's here.
    #[must_use]
    pub fn own_column<'n>(&'n self, shared: &'n str) -> Option<&'n str> {
        match self.columns.iter().find(|(_, name)| name == shared) {
            Some((own, _)) => Some(&own.value),
            None => self.columns.iter().all(|(own, _)| own.value != shared).then_some(shared),
        }
    }

    /// The node's own name as `schema.table`.
    #[must_use]
    pub fn own_name(&self) -> String {
        qualified(&self.own.value)
    }

    /// The shared name as `schema.table`.
    #[must_use]
    pub fn shared_name(&self) -> String {
        qualified(&self.shared)
    }
}

fn qualified((schema, table): &TableName) -> String {
    format!("{schema}.{table}")
}

/// Everything that a node calls otherwise; one to one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// In the order of the file.
    pub tables: Vec<Renamed>,
}

impl Names {
    /// What all nodes call a table of this one.
    #[must_use]
    pub fn shared_table(&self, own: &TableName) -> TableName {
        self.of_own(own).map_or(own, |renamed| &renamed.shared).clone()
    }

    /// What all nodes call a table of this node, both as `schema.table`.
    #[must_use]
    pub fn shared_name(&self, own: &str) -> String {
        let found = self.tables.iter().find(|renamed| renamed.own_name() == own);
        found.map_or_else(|| own.to_owned(), Renamed::shared_name)
    }

    /// What this node calls a table, both as `schema.table`.
    #[must_use]
    pub fn own_table(&self, shared: &str) -> String {
        let found = self.tables.iter().find(|renamed| renamed.shared_name() == shared);
        found.map_or_else(|| shared.to_owned(), Renamed::own_name)
    }

    /// A table of this node under the names that all nodes share; its columns stay in their places.
    #[must_use]
    pub fn shared_definition(&self, own: &TableDefinition) -> TableDefinition {
        let mut table = own.clone();
        if let Some(renamed) = self.of_own(&(own.schema.clone(), own.table.clone())) {
            (table.schema, table.table) = renamed.shared.clone();
            for column in &mut table.columns {
                if let Some((_, shared)) = renamed.columns.iter().find(|(own, _)| own.value == column.name) {
                    column.name.clone_from(shared);
                }
            }
        }
        table
    }

    /// A table under the shared names as this node calls it; its columns stay in their places.
    #[must_use]
    pub fn own_definition(&self, shared: &TableDefinition) -> TableDefinition {
        let mut table = shared.clone();
        let name = (shared.schema.clone(), shared.table.clone());
        if let Some(renamed) = self.tables.iter().find(|renamed| renamed.shared == name) {
            (table.schema, table.table) = renamed.own.value.clone();
            for column in &mut table.columns {
                if let Some((own, _)) = renamed.columns.iter().find(|(_, shared)| *shared == column.name) {
                    column.name.clone_from(&own.value);
                }
            }
        }
        table
    }

    /// The way of a table of this node to the table that the node with the names `to` has for it; none where all names
    /// are the same.
    ///
    /// # Errors
    ///
    /// The names do not fit the table, or each other.
    pub fn routes(&self, to: &Self, table: &TableDefinition) -> Result<Vec<Route>, Vec<Misfit>> {
        let own = (table.schema.clone(), table.table.clone());
        match self.way(to, &own).map_err(|misfit| vec![misfit])? {
            Some(mapping) => Ok(vec![Route::compile(&mapping, table, false)?]),
            None => Ok(Vec::new()),
        }
    }

    fn of_own(&self, own: &TableName) -> Option<&Renamed> {
        self.tables.iter().find(|renamed| renamed.own.value == *own)
    }

    /// From a table's own names here to the shared ones, and from those to the own names there.
    fn way(&self, to: &Self, own: &TableName) -> Result<Option<Mapping>, Misfit> {
        let shared = self.shared_table(own);
        let (here, there) = (self.of_own(own), to.tables.iter().find(|renamed| renamed.shared == shared));
        if let (None, Some(other)) = (there, to.of_own(&shared)) {
            let (name, other_name) = (qualified(&shared), other.shared_name());
            return Err(Misfit {
                line: other.own.line,
                key: "source_table",
                reason: format!(
                    "{name} is called {other_name} by all nodes, but another node has a table that all of them call {name}; \
                     map that one, too, or leave it out"
                ),
            });
        }
        let Some(line) = here.or(there).map(|renamed| renamed.own.line) else { return Ok(None) };
        let (target, mut columns) = match there {
            Some(there) => (&there.own.value, Vec::with_capacity(there.columns.len())),
            None => (&shared, Vec::new()),
        };
        for (own, shared) in here.iter().flat_map(|here| &here.columns) {
            let target = there.and_then(|there| there.own_column(shared)).unwrap_or(shared);
            columns.push((own.clone(), target.to_owned()));
        }
        for (target, shared) in there.iter().flat_map(|there| &there.columns) {
            if here.is_some_and(|here| here.columns.iter().any(|(_, listed)| listed == shared)) {
                continue;
            }
            if here.is_some_and(|here| here.own_column(shared).is_none()) {
                let reason = format!("{} has no column that all nodes call {shared}", qualified(own));
                return Err(Misfit { line: target.line, key: "columns", reason });
            }
            columns.push((Written { value: shared.clone(), line: target.line }, target.value.clone()));
        }
        columns.push((Written { value: "*".to_owned(), line }, "*".to_owned()));
        Ok(Some(Mapping {
            target_table: Some(Written { value: quoted_table(&target.0, &target.1), line }),
            columns,
            ..Mapping::new(Written { value: SourceTable::named(own), line })
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(name: &str, columns: &[&str]) -> TableDefinition {
        let kind = json!({"oid": 23, "name": "int4", "schema": "pg_catalog", "modifier": -1, "format": "integer"});
        let columns = columns.iter().map(|name| json!({"name": name, "field": name, "type": kind, "nullable": true}));
        let columns: Vec<_> = columns.collect();
        let definition = json!({"topic": name, "number": 1, "schema": "public", "table": name, "columns": columns,
                                "key": [0], "replica_identity": "full"});
        serde_json::from_value(definition).unwrap()
    }

    fn names(line: usize, own: &str, shared: &str, columns: &[(&str, &str)]) -> Names {
        let name = |table: &str| ("public".to_owned(), table.to_owned());
        let columns =
            columns.iter().map(|(own, shared)| (Written { value: (*own).to_owned(), line }, (*shared).into()));
        let own = Written { value: name(own), line };
        Names { tables: vec![Renamed { own, shared: name(shared), columns: columns.collect() }] }
    }

    /// The table and the columns that rows come to, in the order of their own columns.
    fn way(from: &Names, to: &Names, table: &TableDefinition) -> String {
        match from.routes(to, table) {
            Ok(routes) if routes.is_empty() => "as it is".to_owned(),
            Ok(routes) => {
                let definition = routes[0].definition();
                let columns: Vec<&str> = definition.columns.iter().map(|column| column.name.as_str()).collect();
                assert_eq!((definition.key.as_slice(), definition.topic.as_str()), (&[0][..], table.topic.as_str()));
                format!("{} {}", definition.qualified_name(), columns.join(" "))
            }
            Err(misfits) => misfits.iter().map(Misfit::to_string).collect::<Vec<_>>().join("; "),
        }
    }

    #[test]
    fn names_are_taken_to_the_shared_ones_and_to_those_of_the_other_node() {
        let (kunden, customers) =
            (table("kunden", &["kunden_nr", "name", "note"]), table("customers", &["id", "full_name", "note"]));
        let eu = names(7, "kunden", "customers", &[("kunden_nr", "id"), ("name", "full_name"), ("note", "note")]);
        let us = names(9, "clients", "customers", &[("client", "id"), ("memo", "note")]);
        let hq = Names::default();
        assert_eq!(way(&eu, &hq, &kunden), "public.customers id full_name note");
        assert_eq!(way(&hq, &eu, &customers), "public.kunden kunden_nr name note");
        assert_eq!(way(&eu, &us, &kunden), "public.clients client full_name memo");
        let clients = table("clients", &["client", "full_name", "memo"]);
        assert_eq!(way(&us, &eu, &clients), "public.kunden kunden_nr name note");
        for (from, to) in [(&hq, &eu), (&eu, &hq), (&eu, &us)] {
            assert_eq!(way(from, to, &table("other", &["id"])), "as it is");
        }
    }

    #[test]
    fn names_may_change_places() {
        let swapped = names(1, "t", "t", &[("a", "b"), ("b", "a")]);
        let t = table("t", &["k", "a", "b"]);
        assert_eq!(way(&swapped, &Names::default(), &t), "public.t k b a");
        assert_eq!(way(&Names::default(), &swapped, &t), "public.t k b a");
        assert_eq!(way(&swapped, &swapped, &t), "public.t k a b");
    }

    #[test]
    fn what_would_mix_tables_or_columns_up_does_not_fit() {
        let hq = Names::default();
        let eu = names(7, "kunden", "customers", &[("name", "full_name")]);
        // Without this it would go to the table that holds something else here.
        let message = way(&hq, &eu, &table("kunden", &["id"]));
        assert!(
            message.contains("line 7: ") && message.contains("public.kunden is called public.customers"),
            "{message}"
        );
        let message = way(&eu, &hq, &table("kunden", &["id", "nom"]));
        assert!(message.contains("line 7: table_mappings, columns: public.kunden has no column name"), "{message}");
        let message = way(&eu, &hq, &table("kunden", &["id", "name", "full_name"]));
        assert!(message.contains("target column full_name gets a value twice"), "{message}");
        let message = way(&hq, &eu, &table("customers", &["id", "name", "full_name"]));
        assert!(message.contains("target column name gets a value twice"), "{message}");
        // All nodes call `a` something else here, and nothing is called `a`.
        let (here, there) = (names(1, "t", "t", &[("a", "b")]), names(2, "t", "t", &[("x", "a")]));
        let message = way(&here, &there, &table("t", &["k", "a"]));
        assert!(message.contains("line 2: table_mappings, columns: public.t has no column that all"), "{message}");
    }

    #[test]
    fn own_names_are_found_by_the_shared_ones() {
        let eu = names(7, "kunden", "customers", &[("name", "full_name")]);
        assert_eq!(
            (eu.own_table("public.customers"), eu.own_table("public.t")),
            ("public.kunden".into(), "public.t".into())
        );
        let own = |shared| eu.tables[0].own_column(shared);
        assert_eq!([own("full_name"), own("id"), own("name")], [Some("name"), Some("id"), None]);
        let kunden = table("kunden", &["id", "name"]);
        let customers = eu.shared_definition(&kunden);
        assert_eq!(
            (customers.qualified_name(), customers.columns[1].name.as_str()),
            ("public.customers".into(), "full_name")
        );
        assert_eq!(eu.own_definition(&customers), kunden);
    }
}
