//! Dates and times between Debezium's forms, ISO text and PostgreSQL's binary form (days or microseconds since
//! 2000-01-01, proleptic Gregorian; `src/include/datatype/timestamp.h`).

/// Days from 1970-01-01 to 2000-01-01.
pub(super) const EPOCH_DAYS: i64 = 10_957;
/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;
/// PostgreSQL's first day (4714-11-24 BC), as days since 2000-01-01.
const FIRST_DAY: i64 = -2_451_545;
/// Behind PostgreSQL's last day of a `date` (5874897-12-31), as days since 2000-01-01.
const END_DATE: i64 = 2_145_031_949;
/// PostgreSQL's first timestamp, as microseconds since 2000-01-01.
const FIRST_TIMESTAMP: i64 = -211_813_488_000_000_000;
/// Behind PostgreSQL's last timestamp (294276-12-31), as microseconds since 2000-01-01.
const END_TIMESTAMP: i64 = 9_223_371_331_200_000_000;

/// Days since 1970-01-01 as PostgreSQL's `date`; `None` outside its range.
pub(super) fn pg_date(days: i32) -> Option<i32> {
    date_in_range(i64::from(days) - EPOCH_DAYS)
}

fn date_in_range(days: i64) -> Option<i32> {
    if (FIRST_DAY..END_DATE).contains(&days) { i32::try_from(days).ok() } else { None }
}

/// Microseconds since 1970-01-01 as PostgreSQL's `timestamp`; `None` outside its range.
pub(super) fn pg_timestamp(micros: i64) -> Option<i64> {
    timestamp_in_range(micros.checked_sub(EPOCH_DAYS * DAY_US)?)
}

/// [`pg_timestamp`] of milliseconds.
pub(super) fn pg_timestamp_of_millis(millis: i64) -> Option<i64> {
    timestamp_in_range(millis.checked_sub(EPOCH_DAYS * DAY_US / 1_000)?.checked_mul(1_000)?)
}

fn timestamp_in_range(micros: i64) -> Option<i64> {
    (FIRST_TIMESTAMP..END_TIMESTAMP).contains(&micros).then_some(micros)
}

/// Days since 2000-01-01 of a proleptic Gregorian date (year 0 is 1 BC).
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // Years start in March, so that the leap day is the last one: the month's first day is then linear.
    let shifted = if month > 2 { year } else { year - 1 };
    let month_of_year = (month + 9) % 12;
    let day_of_year = (153 * month_of_year + 2) / 5 + day - 1;
    let leap_days = shifted.div_euclid(4) - shifted.div_euclid(100) + shifted.div_euclid(400);
    // 0000-03-01 is 730,425 days before 2000-01-01.
    shifted * 365 + leap_days + day_of_year - 730_425
}

/// The date (year, month, day) of a number of days since 2000-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let since = days + 730_425;
    let era = since.div_euclid(146_097);
    let day_of_era = since.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_of_year = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_of_year + 2) / 5 + 1;
    let month = if month_of_year < 10 { month_of_year + 3 } else { month_of_year - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn push_digits(out: &mut Vec<u8>, value: i64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[at.min(digits.len() - width)..]);
}

fn push_calendar(out: &mut Vec<u8>, days: i64) -> bool {
    let (year, month, day) = date_of(days);
    let before_christ = year <= 0;
    push_digits(out, if before_christ { 1 - year } else { year }, 4);
    out.push(b'-');
    push_digits(out, month, 2);
    out.push(b'-');
    push_digits(out, day, 2);
    before_christ
}

/// Appends days since 2000-01-01 as `YYYY-MM-DD`, with ` BC` where needed.
pub(super) fn push_date(out: &mut Vec<u8>, days: i64) {
    if push_calendar(out, days) {
        out.extend_from_slice(b" BC");
    }
}

/// Appends microseconds as `HH:MM:SS.ffffff`; hours have no upper bound, so that it serves intervals too.
pub(super) fn push_time(out: &mut Vec<u8>, micros: i64) {
    let seconds = micros / 1_000_000;
    push_digits(out, seconds / 3600, 2);
    out.push(b':');
    push_digits(out, seconds / 60 % 60, 2);
    out.push(b':');
    push_digits(out, seconds % 60, 2);
    out.push(b'.');
    push_digits(out, micros % 1_000_000, 6);
}

/// Appends microseconds since 2000-01-01 as a timestamp, with `zone` before ` BC`.
pub(super) fn push_timestamp(out: &mut Vec<u8>, micros: i64, zone: &[u8]) {
    let before_christ = push_calendar(out, micros.div_euclid(DAY_US));
    out.push(b' ');
    push_time(out, micros.rem_euclid(DAY_US));
    out.extend_from_slice(zone);
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// Reads a `date` in PostgreSQL's ISO text form, `infinity` included.
pub(super) fn parse_date(text: &str) -> Option<i32> {
    match text {
        "infinity" => return Some(i32::MAX),
        "-infinity" => return Some(i32::MIN),
        _ => {}
    }
    let (mut input, before_christ) = Input::new(text);
    let days = input.calendar(before_christ)?;
    if input.rest.is_empty() { date_in_range(days) } else { None }
}

/// Reads a `time` as microseconds since midnight; 24:00:00 is allowed.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let mut input = Input { rest: text.as_bytes() };
    let micros = input.clock()?;
    (input.rest.is_empty() && micros <= DAY_US).then_some(micros)
}

/// Reads a timestamp in PostgreSQL's or ISO 8601's text form (also with a sign before the year, as Java prints years
/// beyond 9999 and before 1) as microseconds since 2000-01-01. A zone, where one is given, is taken into account.
pub(super) fn parse_timestamp(text: &str) -> Option<i64> {
    match text {
        "infinity" => return Some(i64::MAX),
        "-infinity" => return Some(i64::MIN),
        _ => {}
    }
    let (mut input, before_christ) = Input::new(text);
    let days = input.calendar(before_christ)?;
    if !input.eat(b'T') && !input.eat(b' ') {
        return None;
    }
    let clock = input.clock()?;
    let offset = input.zone()?;
    if !input.rest.is_empty() {
        return None;
    }
    timestamp_in_range(days.checked_mul(DAY_US)?.checked_add(clock)?.checked_sub(offset)?)
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn new(text: &'a str) -> (Self, bool) {
        match text.strip_suffix(" BC") {
            Some(text) => (Self { rest: text.as_bytes() }, true),
            None => (Self { rest: text.as_bytes() }, false),
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn number(&mut self, least: usize, most: usize) -> Option<i64> {
        let mut value = 0;
        let mut digits = 0;
        while digits < most {
            match self.rest.split_first() {
                Some((byte @ b'0'..=b'9', rest)) => {
                    value = value * 10 + i64::from(byte - b'0');
                    self.rest = rest;
                    digits += 1;
                }
                _ => break,
            }
        }
        (digits >= least).then_some(value)
    }

    fn calendar(&mut self, before_christ: bool) -> Option<i64> {
        let negative = self.eat(b'-');
        if !negative {
            self.eat(b'+');
        }
        let year = self.number(4, 9)?;
        let year = if before_christ {
            1 - year
        } else if negative {
            -year
        } else {
            year
        };
        self.eat(b'-').then_some(())?;
        let month = self.number(2, 2)?;
        self.eat(b'-').then_some(())?;
        let day = self.number(2, 2)?;
        let days = days_of(year, month, day);
        // A day that the month does not have comes back as another date.
        ((1..=12).contains(&month) && date_of(days) == (year, month, day)).then_some(days)
    }

    fn clock(&mut self) -> Option<i64> {
        let hours = self.number(2, 2)?;
        self.eat(b':').then_some(())?;
        let minutes = self.number(2, 2)?;
        let seconds = if self.eat(b':') { self.number(2, 2)? } else { 0 };
        let mut micros = 0;
        if self.eat(b'.') {
            let before = self.rest.len();
            micros = self.number(1, 6)?;
            for _ in before - self.rest.len()..6 {
                micros *= 10;
            }
            // Nanoseconds are beyond PostgreSQL; digits behind the sixth must be zeros.
            while self.eat(b'0') {}
        }
        (hours <= 24 && minutes < 60 && seconds <= 60)
            .then_some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros)
    }

    /// Microseconds east of Greenwich; none for no zone.
    fn zone(&mut self) -> Option<i64> {
        if self.rest.is_empty() || self.eat(b'Z') {
            return Some(0);
        }
        let sign = if self.eat(b'+') {
            1
        } else if self.eat(b'-') {
            -1
        } else {
            return None;
        };
        let mut seconds = self.number(2, 2)? * 3600;
        if self.eat(b':') {
            seconds += self.number(2, 2)? * 60;
            if self.eat(b':') {
                seconds += self.number(2, 2)?;
            }
        }
        Some(sign * seconds * 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_dates() {
        assert_eq!(parse_date("2000-01-01"), Some(0));
        assert_eq!(parse_date("1970-01-01"), Some(-10_957));
        assert_eq!(parse_date("4713-01-01 BC"), Some(-2_451_507));
        assert_eq!(parse_date("5874897-12-31"), Some(2_145_031_948));
        assert_eq!(parse_date("5874898-01-01"), None);
        assert_eq!(parse_date("2023-02-29"), None);
        assert_eq!(parse_date("infinity"), Some(i32::MAX));
        assert_eq!(pg_date(0), Some(-10_957));
        assert_eq!(pg_date(i32::MIN), None);
    }

    #[test]
    fn known_timestamps() {
        assert_eq!(parse_timestamp("2000-01-01T00:00:00.000001Z"), Some(1));
        assert_eq!(parse_timestamp("2000-01-01 02:00:00+02"), Some(0));
        assert_eq!(parse_timestamp("294276-12-31 23:59:59.999999+00"), Some(END_TIMESTAMP - 1));
        assert_eq!(parse_timestamp("+294276-12-31T23:59:59.999999Z"), Some(END_TIMESTAMP - 1));
        assert_eq!(parse_timestamp("294277-01-01 00:00:00+00"), None);
        assert_eq!(parse_timestamp("-infinity"), Some(i64::MIN));
        // ISO's year 0 is 1 BC.
        assert_eq!(parse_timestamp("0000-01-01T00:00:00Z"), parse_timestamp("0001-01-01 00:00:00+00 BC"));
        assert_eq!(parse_timestamp("-4712-01-01T00:00:00Z"), parse_timestamp("4713-01-01 00:00:00 BC"));
        assert_eq!(parse_time("24:00:00"), Some(DAY_US));
        assert_eq!(parse_time("24:00:00.000001"), None);
    }

    proptest! {
        #[test]
        fn dates_round_trip(days in FIRST_DAY..END_DATE) {
            prop_assert_eq!(parse_date(&text(|out| push_date(out, days))), Some(i32::try_from(days).unwrap()));
        }

        #[test]
        fn timestamps_round_trip(micros in FIRST_TIMESTAMP..END_TIMESTAMP) {
            prop_assert_eq!(parse_timestamp(&text(|out| push_timestamp(out, micros, b"+00"))), Some(micros));
        }

        #[test]
        fn times_round_trip(micros in 0..=DAY_US) {
            prop_assert_eq!(parse_time(&text(|out| push_time(out, micros))), Some(micros));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (parse_date(&text), parse_time(&text), parse_timestamp(&text));
        }
    }
}
