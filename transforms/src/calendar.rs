//! Days, times and timestamps as PostgreSQL counts them: days and microseconds since 2000-01-01, whose lowest and
//! highest numbers are the infinities. The session's time zone is UTC, `DateStyle` ISO.

use std::fmt::Write;

use crate::fault::{self, Fault};
use crate::numeric::is_space;

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Days from 1970-01-01 to 2000-01-01.
pub(crate) const EPOCH_DAYS: i64 = 10_957;

pub(crate) const DATE_INFINITY: i32 = i32::MAX;
pub(crate) const DATE_MINUS_INFINITY: i32 = i32::MIN;
pub(crate) const INFINITY: i64 = i64::MAX;
pub(crate) const MINUS_INFINITY: i64 = i64::MIN;

/// `IS_VALID_DATE` and `IS_VALID_TIMESTAMP`.
const FIRST_DATE: i64 = -2_451_545;
const END_DATE: i64 = 2_147_483_494 - 2_451_545;
const FIRST_TIMESTAMP: i64 = -211_813_488_000_000_000;
const END_TIMESTAMP: i64 = 9_223_371_331_200_000_000;

/// A day of the calendar; year 0 is 1 BC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: u32,
    pub(crate) day: u32,
}

/// The day of a number. (The algorithm is Howard Hinnant's `civil_from_days`.)
pub(crate) fn civil(days: i64) -> Civil {
    let shifted = days + EPOCH_DAYS + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * from_march + 2) / 5 + 1) as u32;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 } as u32;
    Civil { year: year_of_era + era * 400 + i64::from(month <= 2), month, day }
}

/// The number of a day.
pub(crate) fn days(civil: Civil) -> i64 {
    let year = civil.year - i64::from(civil.month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month = i64::from(civil.month);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + i64::from(civil.day) - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468 - EPOCH_DAYS
}

pub(crate) fn month_length(year: i64, month: u32) -> u32 {
    match month {
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// 0 is Sunday.
pub(crate) fn weekday(days: i64) -> i64 {
    (days + 6).rem_euclid(7)
}

/// The ISO 8601 year and week.
pub(crate) fn iso_week(day: i64) -> (i64, i64) {
    // The week's Thursday decides its year.
    let thursday = day - (weekday(day) + 6).rem_euclid(7) + 3;
    let year = civil(thursday).year;
    (year, (thursday - days(Civil { year, month: 1, day: 1 })) / 7 + 1)
}

/// A date in PostgreSQL's range.
pub(crate) fn date(days: i64) -> Result<i32, Fault> {
    if (FIRST_DATE..END_DATE).contains(&days) { Ok(days as i32) } else { Err(fault::DATETIME_RANGE) }
}

/// A timestamp in PostgreSQL's range.
pub(crate) fn timestamp(micros: i128) -> Result<i64, Fault> {
    match i64::try_from(micros) {
        Ok(micros) if (FIRST_TIMESTAMP..END_TIMESTAMP).contains(&micros) => Ok(micros),
        _ => Err(fault::DATETIME_RANGE),
    }
}

pub(crate) fn is_finite(micros: i64) -> bool {
    micros != INFINITY && micros != MINUS_INFINITY
}

/// `date::timestamp`.
pub(crate) fn date_to_timestamp(date: i32) -> Result<i64, Fault> {
    match date {
        DATE_INFINITY => Ok(INFINITY),
        DATE_MINUS_INFINITY => Ok(MINUS_INFINITY),
        days => timestamp(i128::from(days) * i128::from(DAY)),
    }
}

/// `timestamp::date`.
pub(crate) fn timestamp_to_date(micros: i64) -> i32 {
    match micros {
        INFINITY => DATE_INFINITY,
        MINUS_INFINITY => DATE_MINUS_INFINITY,
        micros => micros.div_euclid(DAY) as i32,
    }
}

pub(crate) fn print_date(date: i32, out: &mut impl Write) {
    match date {
        DATE_INFINITY => put(out, format_args!("infinity")),
        DATE_MINUS_INFINITY => put(out, format_args!("-infinity")),
        date => {
            let day = civil(i64::from(date));
            let (year, era) = shown_year(day.year);
            put(out, format_args!("{year:04}-{:02}-{:02}{era}", day.month, day.day));
        }
    }
}

pub(crate) fn print_time(micros: i64, out: &mut impl Write) {
    let (hours, minutes, seconds) = (micros / HOUR, micros / MINUTE % 60, micros / SECOND % 60);
    put(out, format_args!("{hours:02}:{minutes:02}:{seconds:02}"));
    print_fraction(micros % SECOND, out);
}

pub(crate) fn print_fraction(micros: i64, out: &mut impl Write) {
    if micros != 0 {
        let (mut digits, mut width) = (micros, 6);
        while digits % 10 == 0 {
            digits /= 10;
            width -= 1;
        }
        put(out, format_args!(".{digits:0width$}"));
    }
}

pub(crate) fn print_timestamp(micros: i64, zone: &str, out: &mut impl Write) {
    match micros {
        INFINITY => put(out, format_args!("infinity")),
        MINUS_INFINITY => put(out, format_args!("-infinity")),
        micros => {
            let day = civil(micros.div_euclid(DAY));
            let (year, era) = shown_year(day.year);
            put(out, format_args!("{year:04}-{:02}-{:02} ", day.month, day.day));
            print_time(micros.rem_euclid(DAY), out);
            put(out, format_args!("{zone}{era}"));
        }
    }
}

fn shown_year(year: i64) -> (i64, &'static str) {
    if year > 0 { (year, "") } else { (1 - year, " BC") }
}

fn put(out: &mut impl Write, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a text takes every write");
}

/// What a text says: a day, a time of day, a zone in seconds east.
struct Moment {
    days: i64,
    micros: i64,
    zone: Option<i64>,
}

enum Read {
    Infinity,
    MinusInfinity,
    Moment(Moment),
}

/// `YYYY-MM-DD[( |T)HH:MM[:SS[.f…]][zone]][ BC]`, `infinity`, `-infinity`: the forms of ISO 8601 that PostgreSQL
/// prints. Others that it would read are refused.
fn read(text: &str) -> Result<Read, Fault> {
    let text = text.trim_matches(is_space);
    if text.eq_ignore_ascii_case("infinity") || text.eq_ignore_ascii_case("+infinity") {
        return Ok(Read::Infinity);
    }
    if text.eq_ignore_ascii_case("-infinity") {
        return Ok(Read::MinusInfinity);
    }
    let (text, before_christ) = match text.strip_suffix("BC").or_else(|| text.strip_suffix("bc")) {
        Some(rest) => (rest.trim_end_matches(is_space), true),
        None => (text, false),
    };
    let mut input = Input(text.as_bytes());
    let (year, width) = input.number(7)?;
    if width < 4 {
        return Err(fault::NO_DATETIME);
    }
    input.expect(b'-')?;
    let (month, _) = input.number(2)?;
    input.expect(b'-')?;
    let (day, _) = input.number(2)?;
    if year == 0 || !(1..=12).contains(&month) {
        return Err(fault::DATETIME_FIELD);
    }
    let year = if before_christ { 1 - year } else { year };
    if day < 1 || day > i64::from(month_length(year, month as u32)) {
        return Err(fault::DATETIME_FIELD);
    }
    let days = days(Civil { year, month: month as u32, day: day as u32 });
    let (mut micros, mut zone) = (0, None);
    if !input.0.is_empty() {
        let spaces = input.spaces();
        if !spaces && !input.take(b'T') && !input.take(b't') {
            return Err(fault::NO_DATETIME);
        }
        micros = input.time_of_day()?;
        zone = input.zone()?;
    }
    Ok(Read::Moment(Moment { days, micros, zone }))
}

pub(crate) fn parse_date(text: &str) -> Result<i32, Fault> {
    match read(text)? {
        Read::Infinity => Ok(DATE_INFINITY),
        Read::MinusInfinity => Ok(DATE_MINUS_INFINITY),
        Read::Moment(moment) => date(moment.days),
    }
}

/// A `timestamp` drops the text's zone, a `timestamptz` without one is in UTC.
pub(crate) fn parse_timestamp(text: &str, zoned: bool) -> Result<i64, Fault> {
    match read(text)? {
        Read::Infinity => Ok(INFINITY),
        Read::MinusInfinity => Ok(MINUS_INFINITY),
        Read::Moment(Moment { days, micros, zone }) => {
            let zone = if zoned { zone.unwrap_or(0) } else { 0 };
            timestamp(i128::from(days) * i128::from(DAY) + i128::from(micros) - i128::from(zone * SECOND))
        }
    }
}

pub(crate) fn parse_time(text: &str) -> Result<i64, Fault> {
    let mut input = Input(text.trim_matches(is_space).as_bytes());
    let micros = input.time_of_day()?;
    if input.0.is_empty() { Ok(micros) } else { Err(fault::NO_DATETIME) }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.take(byte) { Ok(()) } else { Err(fault::NO_DATETIME) }
    }

    fn spaces(&mut self) -> bool {
        let before = self.0.len();
        while self.take(b' ') {}
        self.0.len() != before
    }

    /// A number of at most `most` digits, and how many it has.
    fn number(&mut self, most: usize) -> Result<(i64, usize), Fault> {
        let width = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if width == 0 || width > most {
            return Err(fault::NO_DATETIME);
        }
        let (digits, rest) = self.0.split_at(width);
        self.0 = rest;
        Ok((digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')), width))
    }

    fn time_of_day(&mut self) -> Result<i64, Fault> {
        let (hours, _) = self.number(2)?;
        self.expect(b':')?;
        let (minutes, _) = self.number(2)?;
        let (mut seconds, mut fraction) = (0, 0);
        if self.take(b':') {
            (seconds, _) = self.number(2)?;
            if self.take(b'.') {
                fraction = self.fraction()?;
            }
        }
        if minutes > 59 || seconds > 60 || hours > 24 || (hours == 24 && minutes + seconds + fraction > 0) {
            return Err(fault::DATETIME_FIELD);
        }
        Ok(hours * HOUR + minutes * MINUTE + seconds * SECOND + fraction)
    }

    fn fraction(&mut self) -> Result<i64, Fault> {
        let width = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if width == 0 || width > 30 {
            return Err(fault::NO_DATETIME);
        }
        let (digits, rest) = self.0.split_at(width);
        self.0 = rest;
        let mut value = 0.0;
        let mut unit = 1.0;
        for digit in digits {
            value = value * 10.0 + f64::from(digit - b'0');
            unit *= 10.0;
        }
        Ok((value / unit * 1e6).round_ties_even() as i64)
    }

    /// `Z`, `±HH`, `±HH:MM`, `±HH:MM:SS`, ` UTC`, or nothing: seconds east.
    fn zone(&mut self) -> Result<Option<i64>, Fault> {
        self.spaces();
        match self.0 {
            [] => return Ok(None),
            [b'Z' | b'z'] | [b'U' | b'u', b'T' | b't', b'C' | b'c'] => {
                self.0 = &[];
                return Ok(Some(0));
            }
            _ => {}
        }
        let sign = if self.take(b'-') { -1 } else { 1 };
        if sign == 1 {
            self.expect(b'+')?;
        }
        let (hours, _) = self.number(2)?;
        let (mut minutes, mut seconds) = (0, 0);
        if self.take(b':') || !self.0.is_empty() {
            (minutes, _) = self.number(2)?;
            if self.take(b':') {
                (seconds, _) = self.number(2)?;
            }
        }
        if !self.0.is_empty() {
            return Err(fault::NO_DATETIME);
        }
        if hours > 15 || minutes > 59 || seconds > 59 {
            return Err(fault::DATETIME_FIELD);
        }
        Ok(Some(sign * (hours * 3600 + minutes * 60 + seconds)))
    }
}
