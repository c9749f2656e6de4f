//! Values of columns as PostgreSQL's texts: which is higher, what they add up to, which items a list has.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bumpalo::Bump;

use crate::datum;
use crate::fault::Fault;
use crate::numeric::Numeric;
use crate::sql_type::SqlType;
use crate::text_form;

/// Whether values of the type have an order here that is the same on every node: text by its bytes, numbers and times
/// by what they mean.
pub(super) fn is_ordered(sql_type: SqlType) -> bool {
    use SqlType::{Bool, Bpchar, Bytea, Date, Interval, Text, Time, Timestamp, Timestamptz, Uuid};
    sql_type.is_number()
        || matches!(sql_type, Bool | Bpchar | Bytea | Date | Interval | Text | Time | Timestamp | Timestamptz | Uuid)
}

/// Whether exact sums of the type's values do not depend on the order in which they are added.
pub(super) fn is_summed(sql_type: SqlType) -> bool {
    sql_type.is_integer() || sql_type == SqlType::Numeric
}

/// Compares two values; NULL is below everything. Texts that are no values of the type are above those that are.
pub(super) fn compare(sql_type: SqlType, a: Option<&str>, b: Option<&str>) -> Ordering {
    let (Some(a), Some(b)) = (a, b) else { return a.cmp(&b) };
    if a == b {
        return Ordering::Equal;
    }
    let bump = Bump::new();
    match (text_form::parse(a, sql_type, &bump), text_form::parse(b, sql_type, &bump)) {
        (Ok(a), Ok(b)) => datum::compare(a, b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.as_bytes().cmp(b.as_bytes()),
    }
}

/// Whether two values are the same.
pub(super) fn equal(sql_type: SqlType, a: Option<&str>, b: Option<&str>) -> bool {
    a == b || (a.is_some() && b.is_some() && compare(sql_type, a, b) == Ordering::Equal)
}

/// `a + b - c`; NULL counts as 0.
pub(super) fn add_difference(a: Option<&str>, b: Option<&str>, c: Option<&str>) -> Result<String, Fault> {
    let bump = Bump::new();
    let number = |text: Option<&str>| text.map_or(Ok(Numeric::integer(0)), |text| Numeric::parse(text, &bump));
    let sum = number(a)?.add(number(b)?, &bump)?.sub(number(c)?, &bump)?;
    Ok(sum.print(&bump).to_owned())
}

/// Whether a sum has a place in a column of the type.
pub(super) fn check_range(sql_type: SqlType, text: &str) -> Result<(), Fault> {
    text_form::parse(text, sql_type, &Bump::new()).map(drop)
}

/// The items of a list: what stands between commas, without the spaces around.
pub(super) fn items(list: &str) -> BTreeSet<&str> {
    list.split(',').map(|item| item.trim_matches(' ')).filter(|item| !item.is_empty()).collect()
}

/// The items of two lists, each once and in the order of their bytes. NULL has none.
pub(super) fn union(a: Option<&str>, b: Option<&str>) -> Option<String> {
    let lists: Vec<&str> = a.into_iter().chain(b).collect();
    if lists.is_empty() {
        return None;
    }
    let all: BTreeSet<&str> = lists.into_iter().flat_map(items).collect();
    Some(all.into_iter().collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_compare_by_their_type() {
        let less = |sql_type, a, b| compare(sql_type, Some(a), Some(b)) == Ordering::Less;
        assert!(less(SqlType::Int4, "9", "10") && less(SqlType::Text, "10", "9"));
        assert!(less(SqlType::Numeric, "-1.5", "1e2") && less(SqlType::Float8, "1e300", "NaN"));
        assert!(less(SqlType::Timestamptz, "2024-01-01 10:00:00+02", "2024-01-01 09:00:00+00"));
        assert!(less(SqlType::Int4, "7", "no number"));
        assert_eq!(compare(SqlType::Text, None, Some("")), Ordering::Less);
        assert!(equal(SqlType::Numeric, Some("1.0"), Some("1.00")) && !equal(SqlType::Numeric, None, Some("0")));
    }

    #[test]
    fn sums_keep_the_scale_and_the_range() {
        assert_eq!(add_difference(Some("1.50"), Some("2"), Some("0.25")).unwrap(), "3.25");
        assert_eq!(add_difference(None, Some("7"), None).unwrap(), "7");
        assert!(check_range(SqlType::Int2, "32767").is_ok() && check_range(SqlType::Int2, "32768").is_err());
    }

    #[test]
    fn lists_have_each_item_once() {
        assert_eq!(union(Some("b, a,"), Some("c,a")).unwrap(), "a,b,c");
        assert_eq!(union(None, Some("")).unwrap(), "");
        assert_eq!(union(None, None), None);
    }
}
