//! Counters at one moment, table by table, with rates against the moment before.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use syncline_runtime::metrics;

use super::Counters;

/// All tables at one moment.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// By name.
    pub(super) rows: Vec<Row>,
    /// Bytes of the source's log that are not confirmed yet, where the producer runs.
    pub(super) log_behind: Option<u64>,
}

/// One table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    /// `schema.table`, or a topic where the table is not known; behind the node's name where there are several.
    pub(super) table: String,
    /// Rows and changes handed to Kafka.
    pub(super) captured: u64,
    /// Of the first copy, while it runs and its size is known.
    pub(super) snapshot_percent: Option<u64>,
    /// Until the first copy is through, at the present rate.
    pub(super) snapshot_left: Option<Duration>,
    /// Records whose change is in the target.
    pub(super) applied: u64,
    /// Records a second since the moment before, applied where a consumer runs, else captured.
    pub(super) rate: u64,
    /// Records in Kafka that this process has yet to apply.
    pub(super) lag_records: Option<i64>,
    /// Age of the last applied change, while there are records to apply.
    pub(super) lag_seconds: Option<u64>,
    /// Conflicts between nodes since the start; a topology's tables only.
    pub(super) conflicts: u64,
    /// Why a partition stopped.
    pub(super) stopped: Option<String>,
    /// Whether anything changed since the moment before.
    pub(super) moved: bool,
}

/// Takes samples.
#[derive(Debug)]
pub(crate) struct Sampler {
    counters: Vec<Counters>,
    begin: Instant,
    before: BTreeMap<String, Row>,
    at: Instant,
}

impl Sampler {
    pub(crate) fn new(counters: Vec<Counters>) -> Self {
        let now = Instant::now();
        Self { counters, begin: now, before: BTreeMap::new(), at: now }
    }

    /// How long it has been there.
    pub(super) fn age(&self) -> Duration {
        self.begin.elapsed()
    }

    pub(super) fn sample(&mut self) -> Sample {
        let now = Instant::now();
        let elapsed = now.duration_since(self.at).max(Duration::from_millis(1));
        self.at = now;
        let mut rows = self.read();
        for (name, row) in &mut rows {
            let before = self.before.get(name);
            compare(row, before, elapsed);
        }
        self.before.clone_from(&rows);
        Sample { rows: rows.into_values().collect(), log_behind: self.log_behind() }
    }

    fn log_behind(&self) -> Option<u64> {
        let behind = self.counters.iter().filter_map(|counters| {
            let confirmed = counters.producer.confirmed_lsn.load(Ordering::Relaxed);
            let server = counters.producer.server_lsn.load(Ordering::Relaxed);
            (confirmed > 0).then(|| server.saturating_sub(confirmed))
        });
        behind.reduce(u64::saturating_add)
    }

    fn read(&self) -> BTreeMap<String, Row> {
        let mut rows = BTreeMap::new();
        for counters in &self.counters {
            let of_part = read(counters);
            for (job, row) in counters.job.iter().flat_map(|job| of_part.values().map(move |row| (job, row))) {
                // Of a table of which nothing has been applied yet no more is known than how long this has tried.
                let tries = row.lag_records.map(|_| self.age().as_secs());
                if let Some(seconds) = row.lag_seconds.or(tries) {
                    metrics::lag(job, &row.table, Duration::from_secs(seconds).as_secs_f64());
                }
            }
            let of_part = of_part.into_iter().map(|(name, row)| match &counters.node {
                Some(node) => (format!("{node}: {name}"), Row { table: format!("{node}: {}", row.table), ..row }),
                None => (name, row),
            });
            rows.extend(of_part);
        }
        rows
    }
}

/// The rows of one part.
fn read(counters: &Counters) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    let snapshot_running = counters.producer.snapshot_running.load(Ordering::Relaxed);
    for (table, stats) in counters.producer.tables() {
        let row = row(&mut rows, &table);
        row.captured = stats.rows();
        let estimate = stats.snapshot_estimate.load(Ordering::Relaxed);
        if snapshot_running && estimate > 0 {
            let read = stats.snapshot_rows.load(Ordering::Relaxed);
            row.snapshot_percent = Some((read.saturating_mul(100) / estimate).min(100));
            // Until `compare` knows the rate this holds the rows that are left.
            row.snapshot_left = Some(Duration::from_secs(estimate.saturating_sub(read)));
        }
    }
    let consumer = counters.consumer.snapshot();
    let mut times = BTreeMap::new();
    for (table, stats) in &consumer.tables {
        let row = row(&mut rows, table);
        row.applied = stats.applied;
        times.insert(topic_part(table), stats.source_time_us);
    }
    for ((table, _), count) in &consumer.conflicts {
        row(&mut rows, table).conflicts += count;
    }
    for ((topic, _), partition) in &consumer.partitions {
        let mut prefixes = counters.topic_prefixes.iter();
        let of_prefix = prefixes.find_map(|prefix| topic.strip_prefix(prefix.as_str())?.strip_prefix('.'));
        let table = of_prefix.unwrap_or(&partition.table);
        let row = row(&mut rows, table);
        if let Some(lag) = partition.lag() {
            row.lag_records = Some(row.lag_records.unwrap_or(0) + lag);
        }
        if let Some((_, reason)) = &partition.stopped {
            row.stopped.get_or_insert_with(|| reason.clone());
        }
    }
    for (name, row) in &mut rows {
        let behind = row.lag_records.is_some_and(|lag| lag > 0);
        let time = times.get(name).copied().filter(|time| *time > 0);
        row.lag_seconds = match (behind, row.lag_records, time) {
            (true, _, Some(time)) => Some(seconds_since(time)),
            (false, Some(_), _) => Some(0),
            _ => None,
        };
    }
    rows
}

/// The row of a table; a topic's last parts and the table's name meet under the letters that topics allow.
fn row<'a>(rows: &'a mut BTreeMap<String, Row>, table: &str) -> &'a mut Row {
    let row = rows.entry(topic_part(table)).or_default();
    if row.table.is_empty() {
        table.clone_into(&mut row.table);
    }
    row
}

fn topic_part(table: &str) -> String {
    table.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' }).collect()
}

fn compare(row: &mut Row, before: Option<&Row>, elapsed: Duration) {
    let (captured, applied) = before.map_or((0, 0), |before| (before.captured, before.applied));
    let captured = row.captured.saturating_sub(captured);
    let applied = row.applied.saturating_sub(applied);
    let consumes = row.applied > 0 || row.lag_records.is_some();
    row.rate = per_second(if consumes { applied } else { captured }, elapsed);
    let capture_rate = per_second(captured, elapsed);
    row.snapshot_left =
        row.snapshot_left.and_then(|left| left.as_secs().checked_div(capture_rate)).map(Duration::from_secs);
    let told = |before: &Row| before.stopped == row.stopped && before.conflicts == row.conflicts;
    row.moved = captured > 0 || applied > 0 || !before.is_some_and(told);
}

fn per_second(count: u64, elapsed: Duration) -> u64 {
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    count.saturating_mul(1000) / milliseconds
}

fn seconds_since(micros: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    now.saturating_sub(then).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_against_the_moment_before() {
        let mut row =
            Row { captured: 500, applied: 300, snapshot_left: Some(Duration::from_secs(1000)), ..Row::default() };
        let before = Row { captured: 300, applied: 200, ..Row::default() };
        compare(&mut row, Some(&before), Duration::from_secs(2));
        assert_eq!((row.rate, row.snapshot_left, row.moved), (50, Some(Duration::from_secs(10)), true));
        let before = row.clone();
        compare(&mut row, Some(&before), Duration::from_secs(2));
        assert_eq!((row.rate, row.snapshot_left, row.moved), (0, None, false));
    }

    #[test]
    fn a_producer_alone_shows_its_own_rate() {
        let mut row = Row { captured: 100, ..Row::default() };
        compare(&mut row, None, Duration::from_secs(1));
        assert_eq!(row.rate, 100);
    }

    #[test]
    fn a_table_of_the_producer_has_a_row() {
        let counters = Counters::default();
        counters.producer.table("public.Größe").changes.store(7, Ordering::Relaxed);
        let sample = Sampler::new(vec![counters]).sample();
        let row = sample.rows.first().unwrap();
        assert_eq!((row.table.as_str(), row.captured, row.lag_seconds), ("public.Größe", 7, None));
    }

    #[test]
    fn nodes_have_rows_of_their_own() {
        let part = |node, captured| {
            let counters = Counters::new(Some(node), None, None);
            counters.producer.table("public.a").changes.store(captured, Ordering::Relaxed);
            counters.producer.confirmed_lsn.store(5, Ordering::Relaxed);
            counters.producer.server_lsn.store(8, Ordering::Relaxed);
            counters
        };
        let sample = Sampler::new(vec![part("hq", 7), part("eu", 3)]).sample();
        let rows: Vec<_> = sample.rows.iter().map(|row| (row.table.as_str(), row.captured)).collect();
        assert_eq!(rows, [("eu: public.a", 3), ("hq: public.a", 7)]);
        assert_eq!(sample.log_behind, Some(6));
    }
}
