//! Decides rows of tables whose rule looks at more than stamps.

use sqlx::PgConnection;
use syncline_runtime::retry::ErrorClass;
use syncline_transforms::resolve::show::Write;

use super::columns::{self, Resolution};
use super::decide::{Contest, Decided, Decision, Entrant, Keys, Parts, Verdict, as_turns, before_the_first_sync};
use super::fold::Found;
use super::look::look;
use super::table::{ContestTable, Image, RowAt, rows_of, texts};
use super::trial::taken;
use super::{described, entries};
use crate::config::NodeSettings;
use crate::targets::TargetError;

/// What deciding by columns needs of a table.
pub(super) struct ByColumns {
    /// The table with all values as texts.
    pub(super) table: ContestTable,
    /// Of each entrant: its row and its old one.
    pub(super) images: Vec<(Image, Option<Image>)>,
}

/// Decides a table's keys.
pub(super) async fn by_columns<'a>(
    conn: &mut PgConnection,
    node: &NodeSettings,
    name: &'a str,
    (entrants, contests, mut found): Parts<'a>,
    known: Keys,
) -> Result<Decided<'a>, TargetError> {
    let (mine, before) = (entries::my_xmin(conn).await?, before_the_first_sync(node));
    let Some(first) = contests.first().map(|contest| contest.row.table) else {
        return Ok(Decided { name, entrants, keys: Vec::new(), by_columns: None, known });
    };
    let (table, plan) = described::planned(conn, node, name, &first.names).await?;
    let images = images(conn, &entrants, &first.names).await?;
    let resolve = |contest: &Contest<'_>, found: &Found| {
        let turns = as_turns(&entrants[contest.turns.clone()]);
        let images = &images[contest.turns.clone()];
        let resolved = columns::resolve(&plan, found, (&turns, images), (mine, &before));
        resolved.map_err(|error| incomparable(name, entrants.get(contest.turns.start), &error))
    };
    let (mut quiet, mut loud): (Vec<usize>, Vec<usize>) = (0..contests.len()).partition(|index| contests[*index].quiet);
    // Nothing is written over what is read without a lock; a write that comes between leaves another `xmin`.
    look(conn, name, &contests, &mut found, &quiet, (false, true)).await?;
    let mut resolutions: Vec<Option<Resolution>> = contests.iter().map(|_| None).collect();
    for index in quiet.drain(..) {
        let resolution = resolve(&contests[index], &found[index])?;
        if resolution.write == Write::None && !resolution.asks {
            resolutions[index] = Some(resolution);
        } else {
            loud.push(index);
        }
    }
    look(conn, name, &contests, &mut found, &loud, (true, true)).await?;
    for index in loud {
        resolutions[index] = Some(resolve(&contests[index], &found[index])?);
    }
    if let Some(longest) = known.trial() {
        let inserted = |(index, resolution): (usize, &Option<Resolution>)| match &resolution.as_ref()?.write {
            Write::Insert(image) => Some((index, image.clone())),
            _ => None,
        };
        let (indexes, images): (Vec<usize>, Vec<Image>) = resolutions.iter().enumerate().filter_map(inserted).unzip();
        let rows = rows_of(&table, images.iter());
        let rows: Vec<RowAt<'_>> =
            (0..).take(images.len()).map(|row| RowAt { table: &table, rows: &rows, row }).collect();
        for index in taken(conn, &rows, longest).await?.into_iter().map(|place| indexes[place]) {
            found[index].locked = false;
            resolutions[index] = Some(resolve(&contests[index], &found[index])?);
        }
    }
    let keys = contests.into_iter().zip(found).zip(resolutions).filter_map(|((contest, found), resolution)| {
        let Contest { key, row, turns, .. } = contest;
        Some(Decision { key, row, turns, found, verdict: Verdict::Columns(resolution?) })
    });
    let keys = keys.collect();
    Ok(Decided { name, entrants, keys, by_columns: Some(ByColumns { table, images }), known })
}

/// Decides keys whose rows are looked at again. `rows` have the keys' columns.
pub(super) async fn look_again<'a>(
    conn: &mut PgConnection,
    node: &NodeSettings,
    name: &'a str,
    rows: Vec<(&'a [u8], RowAt<'a>)>,
    known: Keys,
) -> Result<Decided<'a>, TargetError> {
    let keys: Vec<&[u8]> = rows.iter().map(|(key, _)| *key).collect();
    let found = entries::lock(conn, name, &keys, known, |_| None).await?;
    let contests = rows.into_iter().map(|(key, row)| Contest { key, row, turns: 0..0, quiet: false }).collect();
    by_columns(conn, node, name, (Vec::new(), contests, found), known).await
}

/// Of each change: its row and its old one.
async fn images(
    conn: &mut PgConnection,
    entrants: &[Entrant<'_>],
    columns: &[String],
) -> Result<Vec<(Image, Option<Image>)>, TargetError> {
    let rows: Vec<RowAt<'_>> = entrants.iter().flat_map(|entrant| [Some(entrant.row), entrant.old]).flatten().collect();
    let mut texts = texts(conn, &rows).await?.into_iter();
    let mut images = Vec::with_capacity(entrants.len());
    for entrant in entrants {
        let arranged = |image| arranged(image, &entrant.row.table.names, columns);
        let row = arranged(texts.next().unwrap_or_default());
        images.push((row, entrant.old.and_then(|_| texts.next()).map(arranged)));
    }
    Ok(images)
}

/// A row's values in the order of other columns, which nodes may have in other places; nothing where they are not the
/// same ones.
pub(super) fn arranged(image: Image, from: &[String], to: &[String]) -> Image {
    if from == to {
        return image;
    }
    let value = |name: &String| from.iter().position(|other| other == name).and_then(|place| image.get(place).cloned());
    let values = to.iter().map(value).collect::<Option<Image>>();
    values.filter(|_| from.len() == to.len()).unwrap_or_default()
}

fn incomparable(
    name: &str,
    entrant: Option<&Entrant<'_>>,
    error: &syncline_transforms::resolve::columns::ResolveError,
) -> TargetError {
    let from = entrant.map_or_else(String::new, |entrant| {
        format!(" from {}/{}", entrant.partition.topic, entrant.partition.partition)
    });
    TargetError {
        class: ErrorClass::BadRecord,
        message: format!("table {name}: a change{from} cannot be compared with what is known of its row: {error}"),
        table: None,
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_to_their_columns_wherever_those_are() {
        let names = |names: [&str; 3]| names.map(str::to_owned);
        let image = ["1", "x", "-"].map(|value| (value != "-").then(|| value.to_owned())).to_vec();
        let here = names(["id", "name", "note"]);
        assert_eq!(arranged(image.clone(), &here, &here), image);
        let there = arranged(image.clone(), &here, &names(["note", "id", "name"]));
        assert_eq!(there, [None, Some("1".into()), Some("x".into())]);
        // Such a change is refused for lack of its row.
        assert_eq!(arranged(image.clone(), &here, &names(["id", "name", "other"])), Image::new());
        assert_eq!(arranged(image, &here, &here[..2]), Image::new());
    }
}
