//! `transform test`: what mappings make of given changes, compared with what is expected. Asks no server.

mod cases;
mod judge;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use syncline_transforms::mapping::Mappings;

use self::cases::Cases;
use crate::cli::File;
use crate::config::SyncConfig;
use crate::failure::Failure;

/// Options of `transform`.
#[derive(Debug, Args)]
pub(crate) struct Transform {
    #[command(subcommand)]
    verb: TransformVerb,
}

#[derive(Debug, Subcommand)]
enum TransformVerb {
    /// Run cases: given changes, and the writes that `table_mappings` must make of them
    #[command(
        after_help = "Example:\n  syncline transform test -f sync.yaml cases.yaml\n\nThe form of the cases is in \
        docs/transforms.md. Exits with 1 if a case fails."
    )]
    Test {
        #[command(flatten)]
        file: File,

        /// Files of cases
        #[arg(required = true, value_name = "CASES")]
        cases: Vec<PathBuf>,
    },
}

/// Runs all cases of all files and prints what became of each.
///
/// # Errors
/// A file cannot be used, or a case fails.
pub(crate) fn transform(options: Transform) -> Result<(), Failure> {
    let TransformVerb::Test { file, cases } = options.verb;
    let mappings = SyncConfig::mappings(&file.path)?;
    let (mut passed, mut failed) = (0_usize, 0_usize);
    let mut out = std::io::stdout().lock();
    for path in &cases {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Failure::System { what: "cannot read a file of cases", source })?;
        for (name, fault) in run(&mappings, path, &text)? {
            // Whoever reads may have stopped reading; the exit code still tells.
            match fault {
                None => {
                    passed += 1;
                    writeln!(out, "ok      {name}").ok();
                }
                Some(fault) => {
                    failed += 1;
                    writeln!(out, "FAILED  {name}\n    {}", fault.replace('\n', "\n    ")).ok();
                }
            }
        }
    }
    writeln!(out, "{passed} passed, {failed} failed").ok();
    match failed {
        0 => Ok(()),
        1 => Err(Failure::Failed("1 case failed".to_owned())),
        count => Err(Failure::Failed(format!("{count} cases failed"))),
    }
}

/// The cases of a text, each with its fault, if it has one.
fn run(mappings: &Mappings, path: &Path, text: &str) -> Result<Vec<(String, Option<String>)>, Failure> {
    let malformed = |reason: String| Failure::Usage(format!("{}: {reason}", path.display()));
    let Cases { tables, cases } = cases::read(text).map_err(malformed)?;
    let mut verdicts = Vec::with_capacity(cases.len());
    for case in cases {
        let table = tables.iter().find(|table| case.is_of(table)).ok_or_else(|| {
            malformed(format!("case `{}` is of table {}, which `tables` does not describe", case.name, case.table))
        })?;
        let fault = judge::fault(mappings, table, &case);
        verdicts.push((case.name, fault));
    }
    Ok(verdicts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::mappings_of;

    /// The page's blocks of YAML, by what they begin with: mappings, and cases for the mappings before them.
    #[test]
    fn the_examples_of_the_page_do_what_it_says() {
        let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/transforms.md");
        let text = std::fs::read_to_string(&page).unwrap();
        let mut mappings = None;
        let mut ran = 0;
        for block in text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            if block.starts_with("table_mappings:") {
                mappings = Some(mappings_of(block).unwrap());
            } else if block.starts_with("tables:") {
                for (name, fault) in run(mappings.as_ref().unwrap(), &page, block).unwrap() {
                    assert_eq!(fault, None, "{name}");
                    ran += 1;
                }
            }
        }
        assert!(ran >= 10, "{ran} cases");
    }

    const TABLES: &str = "tables:\n  t: {columns: {id: integer, v: text}, key: [id]}\n";

    fn verdict(mapping: &str, case: &str) -> Option<String> {
        let mappings = mappings_of(&format!("table_mappings: [{mapping}]")).unwrap();
        let text = format!("{TABLES}cases:\n  - {{name: n, table: t, {case}}}\n");
        run(&mappings, Path::new("cases.yaml"), &text).unwrap().remove(0).1
    }

    #[test]
    fn a_case_that_differs_says_where() {
        let mapping = "{source_table: t, target_table: u, transformations: [{column: v, transform: UPPER(v)}]}";
        let change = "op: c, after: {id: 1, v: a}, expect: ";
        assert_eq!(verdict(mapping, &format!("{change}[{{upsert: u, row: {{id: 1, v: A}}}}]")), None);
        let fault = |expected: &str| verdict(mapping, &format!("{change}{expected}")).unwrap();
        assert!(fault("[{upsert: u, row: {id: 1, v: a}}]").contains("column v: expected a, found A"));
        assert!(fault("[{upsert: u, row: {id: 1, w: a}}]").contains("no column w"));
        assert!(fault("[]").contains("found upsert of public.u"));
        assert!(fault("[{delete: u, row: {id: 1}}]").contains("expected delete of public.u"));
        assert!(verdict(mapping, "op: c, after: {id: x}, expect: []").unwrap().contains("id"));
        let refused = verdict("{source_table: t, filters: [nope]}", "op: c, after: {id: 1}, expect: []");
        assert!(refused.unwrap().contains("nope"));
    }

    #[test]
    fn cases_that_cannot_be_read_are_refused_by_name() {
        let mappings = Mappings::default();
        for (text, words) in [
            ("[]", "expected keys"),
            ("tables: {t: {columns: {id: nonsense}, key: [id]}}\ncases: []", "nonsense"),
            ("tables: {t: {columns: {id: integer}, key: [x]}}\ncases: []", "key column x"),
            ("tables: {}\ncases: [{name: n, table: t, op: c}]", "does not describe"),
            ("tables: {}\ncases: [{name: n, table: t, op: x}]", "`x` is no operation"),
            ("tables: {}\ncases: [{name: n, table: t, opp: c}]", "opp"),
        ] {
            let refused = run(&mappings, Path::new("cases.yaml"), text).unwrap_err().message();
            assert!(refused.contains(words) && refused.contains("cases.yaml"), "{refused}");
        }
    }
}
