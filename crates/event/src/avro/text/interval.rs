//! `interval` under `IntervalStyle` postgres: `1 year 2 mons -3 days +04:05:06.789`.

use super::{Malformed, temporal};

/// Days of Debezium's month (`MicroDuration.DAYS_PER_MONTH_AVG`).
const DAYS_PER_MONTH: f64 = 365.25 / 12.0;

/// An interval in Debezium's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::avro) struct Duration {
    /// Microseconds.
    pub(in crate::avro) micros: i64,
    /// Whether the interval has no years, months or days and `micros` is exact, so that `micros` gives it back.
    pub(in crate::avro) exact: bool,
}

/// Reads an interval. The infinite ones of PostgreSQL 17 have no microseconds, and none is what Debezium makes of them.
///
/// The arithmetic is that of Debezium's `MicroDuration.durationMicros`, in doubles and in its order, since its results
/// are rounded.
pub(in crate::avro) fn interval(text: &[u8]) -> Result<Duration, Malformed> {
    let Some(Parts { years, months, days, clock }) = Parts::read(text)? else {
        return Ok(Duration { micros: 0, exact: false });
    };
    let months = years * 12 + months;
    let time_only = months == 0 && days == 0;
    let number_of_days = months as f64 * DAYS_PER_MONTH + days as f64;
    let hours = number_of_days * 24.0 + clock.sign * clock.hours as f64;
    let seconds = (hours * 60.0 + clock.sign * clock.minutes as f64) * 60.0 + clock.sign * clock.seconds();
    let micros = (seconds * 1e6) as i64;
    Ok(Duration { micros, exact: time_only && clock.micros() == i128::from(micros) })
}

/// An interval as ISO 8601 text with all its parts (`io.debezium.time.Interval`): `P1Y2M-3DT4H5M6.789S`; `None` for the
/// infinite ones.
pub(in crate::avro) fn iso(text: &[u8]) -> Result<Option<String>, Malformed> {
    let Some(Parts { years, months, days, clock }) = Parts::read(text)? else { return Ok(None) };
    let signed = |value: i64| if clock.sign < 0.0 { -value } else { value };
    let (hours, minutes) = (signed(clock.hours), signed(clock.minutes));
    let minus = if clock.sign < 0.0 && clock.rest > 0 { "-" } else { "" };
    let (whole, fraction) = (clock.rest / temporal::SECOND, clock.rest % temporal::SECOND);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    let seconds = format!("{minus}{whole}{}", fraction.trim_end_matches('0'));
    Ok(Some(format!("P{years}Y{months}M{days}DT{hours}H{minutes}M{seconds}S")))
}

#[derive(Debug, Default)]
struct Parts {
    years: i64,
    months: i64,
    days: i64,
    clock: Clock,
}

impl Parts {
    fn read(text: &[u8]) -> Result<Option<Self>, Malformed> {
        if let b"infinity" | b"-infinity" = text {
            return Ok(None);
        }
        let mut parts = Self::default();
        let mut clock = None;
        let mut tokens = text.split(|byte| *byte == b' ');
        while let Some(token) = tokens.next() {
            if token.contains(&b':') {
                if clock.replace(Clock::read(token)?).is_some() {
                    return Err(Malformed);
                }
                continue;
            }
            let amount = signed(token)?;
            match tokens.next() {
                Some(b"year" | b"years") => parts.years += amount,
                Some(b"mon" | b"mons") => parts.months += amount,
                Some(b"day" | b"days") => parts.days += amount,
                _ => return Err(Malformed),
            }
        }
        parts.clock = clock.unwrap_or_default();
        Ok(Some(parts))
    }
}

#[derive(Debug, Default)]
struct Clock {
    sign: f64,
    hours: i64,
    minutes: i64,
    /// Microseconds behind the minute.
    rest: i64,
}

impl Clock {
    fn read(token: &[u8]) -> Result<Self, Malformed> {
        let (sign, token) = match token {
            [b'-', rest @ ..] => (-1.0, rest),
            [b'+', rest @ ..] => (1.0, rest),
            rest => (1.0, rest),
        };
        let colon = token.iter().position(|byte| *byte == b':').ok_or(Malformed)?;
        let (hours, rest) = token.split_at(colon);
        let (micros, rest) = temporal::minutes(rest)?;
        if hours.len() < 2 || !rest.is_empty() {
            return Err(Malformed);
        }
        let minute = 60 * temporal::SECOND;
        Ok(Self { sign, hours: super::number::digits(hours)?, minutes: micros / minute, rest: micros % minute })
    }

    fn seconds(&self) -> f64 {
        (self.rest / temporal::SECOND) as f64 + (self.rest % temporal::SECOND) as f64 / 1e6
    }

    fn micros(&self) -> i128 {
        let micros = (i128::from(self.hours) * 60 + i128::from(self.minutes)) * 60_000_000 + i128::from(self.rest);
        if self.sign < 0.0 { -micros } else { micros }
    }
}

fn signed(token: &[u8]) -> Result<i64, Malformed> {
    let amount = super::number::integer(token.strip_prefix(b"+").unwrap_or(token))?;
    // PostgreSQL keeps months and days in 32 bits; more would overflow above.
    i32::try_from(amount).map(i64::from).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> (i64, bool) {
        let duration = interval(text.as_bytes()).unwrap();
        (duration.micros, duration.exact)
    }

    #[test]
    fn iso_text_has_every_part() {
        for (text, expected) in [
            ("1 year 2 mons 3 days 04:05:06.78", "P1Y2M3DT4H5M6.78S"),
            ("-1 years -2 mons +3 days -04:05:06", "P-1Y-2M3DT-4H-5M-6S"),
            ("00:00:00", "P0Y0M0DT0H0M0S"),
            ("-00:00:00.000001", "P0Y0M0DT0H0M-0.000001S"),
            ("100:00:00", "P0Y0M0DT100H0M0S"),
        ] {
            assert_eq!(iso(text.as_bytes()).unwrap().as_deref(), Some(expected));
        }
        assert_eq!(iso(b"infinity"), Ok(None));
    }

    #[test]
    fn months_have_debeziums_length() {
        assert_eq!(read("1 year 2 mons 3 days 04:05:06.789012"), (37_091_106_789_012, false));
        assert_eq!(read("-1 years -2 mons +3 days -04:05:06"), (-36_572_706_000_000, false));
        assert_eq!(read("1 day"), (86_400_000_000, false));
        assert_eq!(read("1 day -00:00:01"), (86_399_000_000, false));
    }

    #[test]
    fn a_time_alone_comes_back_from_its_microseconds() {
        assert_eq!(read("24:00:00"), (86_400_000_000, true));
        assert_eq!(read("-00:00:00.000001"), (-1, true));
        assert_eq!(read("00:00:00"), (0, true));
        assert_eq!(read("2562047788:00:54.775807"), (i64::MAX, true));
    }

    #[test]
    fn what_is_no_interval_is_malformed() {
        for text in
            ["", "1", "day", "1 fortnight", "1 day 1", "00:00", "1:00:00", "00:00:00 00:00:00", "99999999999 days"]
        {
            assert_eq!(interval(text.as_bytes()), Err(Malformed), "{text}");
        }
        assert_eq!(read("-infinity"), (0, false));
    }

    proptest! {
        /// Doubles lose less than a microsecond for 100 years; where they lose it, `exact` says so.
        #[test]
        fn times_are_within_a_microsecond(micros in -3_155_760_000_000_000_i64..3_155_760_000_000_000) {
            let clock = micros.unsigned_abs();
            let (seconds, fraction) = (clock / 1_000_000, clock % 1_000_000);
            let sign = if micros < 0 { "-" } else { "" };
            let text = format!("{sign}{:02}:{:02}:{:02}.{fraction:06}", seconds / 3600, seconds / 60 % 60, seconds % 60);
            let (read, exact) = read(&text);
            prop_assert!((read - micros).abs() <= 1);
            prop_assert_eq!(exact, read == micros);
        }

        #[test]
        fn days_and_months_are_never_exact(months in -500_i64..500, days in -500_i64..500) {
            prop_assume!(months != 0 || days != 0);
            let (micros, exact) = read(&format!("{months} mons {days} days"));
            prop_assert!(!exact);
            prop_assert_eq!(micros, months * 2_629_800_000_000 + days * 86_400_000_000);
        }
    }
}
