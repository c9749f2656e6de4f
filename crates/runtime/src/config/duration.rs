//! Durations as people write them.

use std::time::Duration;

/// Reads `5m`, `5_minutes`, `5 minutes`, `300s`, `1h`, `250ms`. A bare number is refused: nobody could tell its unit.
///
/// # Errors
/// What is wrong, in words that follow "`<value>` ".
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "is not a duration: write a number and a unit, such as 30s, 5m, 5_minutes or 1h";
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let count: u64 = digits.parse().map_err(|_| FORM.to_owned())?;
    let unit = unit.trim_start_matches([' ', '_']);
    let milliseconds: u64 = match unit {
        "ms" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        "" => return Err(format!("has no unit: write {count}s, {count}m or {count}h")),
        _ => return Err(FORM.to_owned()),
    };
    let total = count.checked_mul(milliseconds).ok_or_else(|| "is too long".to_owned())?;
    Ok(Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_durations_in_many_ways() {
        for text in ["5m", "5_minutes", "5 minutes", "300s", "300_seconds", "300000ms", "5min"] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(300)), "{text}");
        }
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse_duration("1_day"), Ok(Duration::from_secs(86_400)));
    }

    #[test]
    fn a_duration_without_a_unit_or_beyond_time_is_refused() {
        assert!(parse_duration("300").unwrap_err().contains("300s"));
        for text in ["", "m", "-5m", "5.5m", "5 fortnights", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
