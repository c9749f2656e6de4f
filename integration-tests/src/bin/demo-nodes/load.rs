//! What the applications do: each node something else with the same row.

/// As docs/examples/nodes.sql says.
pub(crate) const TABLES: [&str; 3] = ["customers", "prices", "stock"];

/// Adds a row, or changes it if it is there.
pub(crate) fn insert(table: &str, number: u64, who: &str, value: u64) -> String {
    match table {
        "customers" => format!(
            "INSERT INTO customers VALUES (md5('{number}')::uuid, 'Customer {number} of {who}', '{number}@{who}.example', '{value}')
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, phone = excluded.phone"
        ),
        "prices" => format!(
            "INSERT INTO prices VALUES ('sku-{number}', {value} / 10.0)
             ON CONFLICT (sku) DO UPDATE SET price = excluded.price"
        ),
        _ => format!(
            "INSERT INTO stock VALUES ('sku-{number}', {value}, 'available', now())
             ON CONFLICT (sku) DO UPDATE SET quantity = excluded.quantity"
        ),
    }
}

/// What a node does in a round.
pub(crate) fn statement(round: u64, number: u64, place: usize, node: &str, value: u64) -> String {
    let table = TABLES[usize::try_from(value % 3).unwrap_or_default()];
    let key =
        if table == "customers" { format!("id = md5('{number}')::uuid") } else { format!("sku = 'sku-{number}'") };
    match round % 6 {
        0 => format!("UPDATE prices SET price = {} / 10.0 WHERE sku = 'sku-{number}'", value + place as u64),
        1 => format!(
            "UPDATE stock SET quantity = quantity + {}, status = '{}', last_counted = now() WHERE sku = 'sku-{number}'",
            place + 1,
            ["blocked", "available", "low"][place % 3]
        ),
        // One column at one node, the other at another.
        2 if place.is_multiple_of(2) => {
            format!("UPDATE customers SET phone = '{value}' WHERE id = md5('{number}')::uuid")
        }
        2 | 3 => format!("UPDATE customers SET name = 'Customer {value} of {node}' WHERE id = md5('{number}')::uuid"),
        4 if place as u64 == round / 6 % 2 => format!("DELETE FROM {table} WHERE {key}"),
        _ => insert(table, number, node, value + place as u64),
    }
}
