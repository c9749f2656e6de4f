//! What a snapshot of the source sees: `pg_snapshot`, against transaction ids as the log gives them.

/// A value of `pg_current_snapshot()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Everything below is over.
    xmin: u64,
    /// Everything from here on had not begun.
    xmax: u64,
    /// What ran between the two, ascending.
    running: Vec<u64>,
}

impl Seen {
    /// Parses PostgreSQL's text form, `xmin:xmax:xip,xip…`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let xmin = parts.next()?.parse().ok()?;
        let xmax = parts.next()?.parse().ok()?;
        let list = parts.next()?;
        let mut running = Vec::new();
        if !list.is_empty() {
            for id in list.split(',') {
                running.push(id.parse().ok()?);
            }
        }
        running.sort_unstable();
        Some(Self { xmin, xmax, running })
    }

    /// Whether the snapshot sees what a committed transaction did. The log gives the lower half of an id; the upper
    /// half follows from the snapshot, since no two ids in use are further apart than half of the lower's range.
    #[must_use]
    pub fn sees(&self, transaction: u32) -> bool {
        let distance = transaction.wrapping_sub(self.xmax as u32).cast_signed();
        let Some(full) = self.xmax.checked_add_signed(i64::from(distance)) else { return true };
        full < self.xmin || (full < self.xmax && self.running.binary_search(&full).is_err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_or_had_not_begun_is_not_seen() {
        let seen = Seen::parse("100:105:100,103").unwrap();
        let answers: Vec<bool> = (98..107).map(|id| seen.sees(id)).collect();
        assert_eq!(answers, [true, true, false, true, true, false, true, false, false]);
        assert!(Seen::parse("7:7:").unwrap().sees(6));
        assert!(!Seen::parse("7:7:").unwrap().sees(7));
    }

    #[test]
    fn ids_wrap_around() {
        let epoch = 1_u64 << 32;
        let seen = Seen::parse(&format!("{}:{}:{}", epoch - 2, epoch + 3, epoch - 2)).unwrap();
        assert!(!seen.sees(u32::MAX - 1), "it runs");
        assert!(seen.sees(u32::MAX) && seen.sees(0) && seen.sees(2));
        assert!(!seen.sees(3));
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for text in ["", "1", "1:2", "a:2:", "1:2:x"] {
            assert_eq!(Seen::parse(text), None, "{text}");
        }
    }
}
