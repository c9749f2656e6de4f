//! PostgreSQL's `interval`: months, days and microseconds that stay apart.

use std::cmp::Ordering;
use std::fmt::Write;

use crate::calendar::{self, Civil, DAY, HOUR, MINUTE, SECOND};
use crate::fault::{self, Fault};

/// An `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Interval {
    pub(crate) months: i32,
    pub(crate) days: i32,
    pub(crate) micros: i64,
}

impl Interval {
    pub(crate) const INFINITY: Self = Self { months: i32::MAX, days: i32::MAX, micros: i64::MAX };
    pub(crate) const MINUS_INFINITY: Self = Self { months: i32::MIN, days: i32::MIN, micros: i64::MIN };

    pub(crate) fn is_finite(self) -> bool {
        self != Self::INFINITY && self != Self::MINUS_INFINITY
    }

    /// An interval that is not by accident one of the infinities.
    fn finite(self) -> Result<Self, Fault> {
        if self.is_finite() { Ok(self) } else { Err(fault::INTERVAL_RANGE) }
    }

    /// A month counts 30 days.
    fn span(self) -> i128 {
        (i128::from(self.months) * 30 + i128::from(self.days)) * i128::from(DAY) + i128::from(self.micros)
    }

    pub(crate) fn compare(self, other: Self) -> Ordering {
        self.span().cmp(&other.span())
    }

    pub(crate) fn neg(self) -> Result<Self, Fault> {
        match self {
            Self::INFINITY => return Ok(Self::MINUS_INFINITY),
            Self::MINUS_INFINITY => return Ok(Self::INFINITY),
            _ => {}
        }
        let (Some(months), Some(days), Some(micros)) =
            (self.months.checked_neg(), self.days.checked_neg(), self.micros.checked_neg())
        else {
            return Err(fault::INTERVAL_RANGE);
        };
        Self { months, days, micros }.finite()
    }

    pub(crate) fn add(self, other: Self) -> Result<Self, Fault> {
        match (self.is_finite(), other.is_finite()) {
            (true, true) => {}
            (true, false) => return Ok(other),
            (false, false) if self != other => return Err(fault::INTERVAL_RANGE),
            (false, _) => return Ok(self),
        }
        let (Some(months), Some(days), Some(micros)) = (
            self.months.checked_add(other.months),
            self.days.checked_add(other.days),
            self.micros.checked_add(other.micros),
        ) else {
            return Err(fault::INTERVAL_RANGE);
        };
        Self { months, days, micros }.finite()
    }

    /// `timestamp - timestamp`
    pub(crate) fn between(a: i64, b: i64) -> Result<Self, Fault> {
        match (a, b) {
            (calendar::INFINITY, calendar::INFINITY) | (calendar::MINUS_INFINITY, calendar::MINUS_INFINITY) => {
                Err(fault::INTERVAL_RANGE)
            }
            (calendar::INFINITY, _) | (_, calendar::MINUS_INFINITY) => Ok(Self::INFINITY),
            (calendar::MINUS_INFINITY, _) | (_, calendar::INFINITY) => Ok(Self::MINUS_INFINITY),
            _ => a.checked_sub(b).map(Self::justified_hours).ok_or(fault::INTERVAL_RANGE),
        }
    }

    /// `timestamp + interval`: months first, whose day is cut to the month's length, then days, then the time.
    pub(crate) fn after(self, timestamp: i64) -> Result<i64, Fault> {
        let infinite = match self {
            Self::INFINITY => Some(calendar::INFINITY),
            Self::MINUS_INFINITY => Some(calendar::MINUS_INFINITY),
            _ => None,
        };
        match infinite {
            Some(end) if calendar::is_finite(timestamp) || timestamp == end => return Ok(end),
            Some(_) => return Err(fault::DATETIME_RANGE),
            None if !calendar::is_finite(timestamp) => return Ok(timestamp),
            None => {}
        }
        let (mut day, time) = (timestamp.div_euclid(DAY), timestamp.rem_euclid(DAY));
        if self.months != 0 {
            let Civil { year, month, day: of_month } = calendar::civil(day);
            let months = year * 12 + i64::from(month) - 1 + i64::from(self.months);
            let (year, month) = (months.div_euclid(12), months.rem_euclid(12) as u32 + 1);
            day = calendar::days(Civil { year, month, day: of_month.min(calendar::month_length(year, month)) });
            calendar::timestamp(i128::from(day) * i128::from(DAY) + i128::from(time))?;
        }
        let moved = (i128::from(day) + i128::from(self.days)) * i128::from(DAY) + i128::from(time);
        calendar::timestamp(i128::from(calendar::timestamp(moved)?) + i128::from(self.micros))
    }

    /// Whole days of the time become days.
    fn justified_hours(micros: i64) -> Self {
        Self { months: 0, days: (micros / DAY) as i32, micros: micros % DAY }
    }

    /// `IntervalStyle` postgres.
    pub(crate) fn print(self, out: &mut impl Write) {
        match self {
            Self::INFINITY => return put(out, format_args!("infinity")),
            Self::MINUS_INFINITY => return put(out, format_args!("-infinity")),
            _ => {}
        }
        let mut text = Printer { out, first: true, negative: false };
        let (years, months) = (self.months / 12, self.months % 12);
        text.part(i64::from(years), "year");
        text.part(i64::from(months), "mon");
        text.part(i64::from(self.days), "day");
        if self.micros != 0 || text.first {
            let sign = if self.micros < 0 {
                "-"
            } else if text.negative {
                "+"
            } else {
                ""
            };
            let space = if text.first { "" } else { " " };
            let magnitude = self.micros.unsigned_abs() as i64;
            put(text.out, format_args!("{space}{sign}"));
            calendar::print_time(magnitude, text.out);
        }
    }

    /// Numbers with units (`1 year 2 months 3 days`, `-4 hours`), a time (`04:05:06`), `ago` not included.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        match text.trim().to_ascii_lowercase().as_str() {
            "infinity" | "+infinity" => return Ok(Self::INFINITY),
            "-infinity" => return Ok(Self::MINUS_INFINITY),
            _ => {}
        }
        let mut interval = Self::default();
        let mut words = text.split_ascii_whitespace().peekable();
        if words.peek().is_none() {
            return Err(fault::NO_DATETIME);
        }
        while let Some(word) = words.next() {
            let (negative, digits) = match word.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, word.strip_prefix('+').unwrap_or(word)),
            };
            let part = if digits.contains(':') {
                let micros = calendar::parse_time(digits)?;
                Self { micros, ..Self::default() }
            } else {
                let split = digits.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(digits.len());
                let (number, unit) = digits.split_at_checked(split).ok_or(fault::NO_DATETIME)?;
                let number: i64 = number.parse().map_err(|_| fault::NO_DATETIME)?;
                let unit = if unit.is_empty() { words.next().ok_or(fault::NO_DATETIME)? } else { unit };
                Self::of(number, unit)?
            };
            interval = interval.add(if negative { part.neg()? } else { part })?;
        }
        Ok(interval)
    }

    fn of(number: i64, unit: &str) -> Result<Self, Fault> {
        let months = |each: i64| {
            let months = number.checked_mul(each).and_then(|months| i32::try_from(months).ok());
            Ok(Self { months: months.ok_or(fault::INTERVAL_RANGE)?, ..Self::default() })
        };
        let days = |each: i64| {
            let days = number.checked_mul(each).and_then(|days| i32::try_from(days).ok());
            Ok(Self { days: days.ok_or(fault::INTERVAL_RANGE)?, ..Self::default() })
        };
        let micros = |each: i64| {
            let micros = number.checked_mul(each).ok_or(fault::INTERVAL_RANGE)?;
            Ok(Self { micros, ..Self::default() })
        };
        match unit.to_ascii_lowercase().as_str() {
            "year" | "years" => months(12),
            "month" | "months" | "mon" | "mons" => months(1),
            "week" | "weeks" => days(7),
            "day" | "days" => days(1),
            "hour" | "hours" => micros(HOUR),
            "minute" | "minutes" | "min" | "mins" => micros(MINUTE),
            "second" | "seconds" | "sec" | "secs" => micros(SECOND),
            "millisecond" | "milliseconds" => micros(1_000),
            "microsecond" | "microseconds" => micros(1),
            _ => Err(fault::NO_DATETIME),
        }
    }
}

struct Printer<'o, W> {
    out: &'o mut W,
    first: bool,
    negative: bool,
}

impl<W: Write> Printer<'_, W> {
    fn part(&mut self, number: i64, unit: &str) {
        if number == 0 {
            return;
        }
        let space = if self.first { "" } else { " " };
        // Behind a negative part a positive one shows its sign.
        let sign = if self.negative && number > 0 { "+" } else { "" };
        let plural = if number == 1 { "" } else { "s" };
        put(self.out, format_args!("{space}{sign}{number} {unit}{plural}"));
        self.negative = number < 0;
        self.first = false;
    }
}

fn put(out: &mut impl Write, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a text takes every write");
}
