//! The table on a terminal. Log lines go through it, so that the two do not write over each other.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

use super::sample::{Row, Sample};

/// More rows than this do not help anyone.
const ROWS: usize = 16;

/// A part of the terminal at its lower end.
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    screen: MultiProgress,
    bar: ProgressBar,
}

impl Terminal {
    /// If standard error is a terminal.
    pub(crate) fn open() -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let screen = MultiProgress::new();
        let bar = screen.add(ProgressBar::new_spinner());
        bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is a constant"));
        Some(Self { screen, bar })
    }

    pub(super) fn draw(&self, sample: &Sample) {
        self.bar.set_message(table(sample));
        self.bar.tick();
    }

    /// Draws for the last time.
    pub(super) fn leave(&self, sample: &Sample) {
        self.bar.abandon_with_message(table(sample));
    }
}

/// A log line: the table makes room for it.
impl Write for Terminal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.screen.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn table(sample: &Sample) -> String {
    let mut rows: Vec<&Row> = sample.rows.iter().collect();
    if rows.is_empty() {
        return "connecting …".to_owned();
    }
    // Stopped tables first, then what is busy; the order must not change with every tick.
    rows.sort_by_key(|row| (row.stopped.is_none(), row.lag_records.unwrap_or(0) == 0, row.table.clone()));
    let width = rows.iter().take(ROWS).map(|row| row.table.chars().count()).max().unwrap_or(0).max(5);
    let mut text =
        format!("{:width$} {:>12} {:>12} {:>10} {:>12}  state", "table", "captured", "applied", "rows/s", "lag");
    for row in rows.iter().take(ROWS) {
        let lag = match (row.lag_records, row.lag_seconds) {
            (None, _) => "-".to_owned(),
            (Some(records), Some(seconds)) if seconds > 0 => format!("{} {seconds}s", count(records)),
            (Some(records), _) => count(records),
        };
        let (captured, applied, rate) = (HumanCount(row.captured), HumanCount(row.applied), HumanCount(row.rate));
        text.push_str(&format!(
            "\n{:width$} {:>12} {:>12} {:>10} {lag:>12}  {}",
            row.table,
            captured.to_string(),
            applied.to_string(),
            rate.to_string(),
            state(row)
        ));
    }
    if rows.len() > ROWS {
        text.push_str(&format!("\nand {} more tables", rows.len() - ROWS));
    }
    if let Some(bytes) = sample.log_behind {
        text.push_str(&format!("\nlog of the source not confirmed yet: {}", HumanBytes(bytes)));
    }
    text
}

fn state(row: &Row) -> String {
    match (&row.stopped, row.snapshot_percent) {
        (Some(reason), _) => format!("stopped: {}", reason.chars().take(60).collect::<String>()),
        (None, Some(percent)) => match row.snapshot_left {
            Some(left) if left > Duration::ZERO => format!("copying {percent}%, {} left", HumanDuration(left)),
            _ => format!("copying {percent}%"),
        },
        (None, None) => match row.conflicts {
            0 => "streaming".to_owned(),
            1 => "streaming, 1 conflict".to_owned(),
            count => format!("streaming, {} conflicts", HumanCount(count)),
        },
    }
}

fn count(records: i64) -> String {
    HumanCount(u64::try_from(records).unwrap_or(0)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_needs_attention_first() {
        let row = |table: &str, lag, stopped: Option<&str>| Row {
            table: table.to_owned(),
            captured: 12_345,
            lag_records: Some(lag),
            stopped: stopped.map(str::to_owned),
            ..Row::default()
        };
        let rows = vec![row("a.quiet", 0, None), row("b.busy", 5, None), row("c.broken", 0, Some("a missing row"))];
        let text = table(&Sample { rows, log_behind: Some(2048) });
        let order: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(order, ["c.broken", "b.busy", "a.quiet", "log"]);
        assert!(
            text.contains("12,345") && text.contains("stopped: a missing row") && text.contains("2.00 KiB"),
            "{text}"
        );
    }

    #[test]
    fn conflicts_are_counted_where_there_are_any() {
        let row = |conflicts| Row { conflicts, ..Row::default() };
        let shown = [0, 1, 1234].map(|count| state(&row(count)));
        assert_eq!(shown, ["streaming", "streaming, 1 conflict", "streaming, 1,234 conflicts"]);
    }

    #[test]
    fn a_first_copy_shows_how_far_it_is() {
        let row = Row { snapshot_percent: Some(40), snapshot_left: Some(Duration::from_secs(90)), ..Row::default() };
        assert_eq!(state(&row), "copying 40%, 2 minutes left");
    }
}
