//! `TO_CHAR` of dates and timestamps: a subset of PostgreSQL's patterns. What is not in it is refused at start.

use std::fmt::Write;

use bumpalo::collections::String as BumpString;

use super::node::Prepared;
use crate::calendar::{self, Civil, DAY, HOUR, MINUTE, SECOND};
use crate::datum::Datum;
use crate::fault;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Year,
    Year2,
    Month,
    Day,
    DayOfYear,
    Hour24,
    Hour12,
    Minute,
    Second,
    Milli,
    Micro,
    Meridiem { upper: bool },
    MonthName { form: Form, short: bool },
    DayName { form: Form, short: bool },
    Quarter,
    IsoYear,
    IsoWeek,
    IsoDay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Upper,
    Title,
    Lower,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The patterns, longer ones first.
fn pattern(rest: &str) -> Option<(usize, Part)> {
    let named = |month: bool, short: bool, form: Form| {
        if month { Part::MonthName { form, short } } else { Part::DayName { form, short } }
    };
    let fixed = [
        ("YYYY", Part::Year),
        ("IYYY", Part::IsoYear),
        ("HH24", Part::Hour24),
        ("HH12", Part::Hour12),
        ("MONTH", named(true, false, Form::Upper)),
        ("Month", named(true, false, Form::Title)),
        ("month", named(true, false, Form::Lower)),
        ("MON", named(true, true, Form::Upper)),
        ("Mon", named(true, true, Form::Title)),
        ("mon", named(true, true, Form::Lower)),
        ("DDD", Part::DayOfYear),
        ("DAY", named(false, false, Form::Upper)),
        ("Day", named(false, false, Form::Title)),
        ("day", named(false, false, Form::Lower)),
        ("DY", named(false, true, Form::Upper)),
        ("Dy", named(false, true, Form::Title)),
        ("dy", named(false, true, Form::Lower)),
        ("YY", Part::Year2),
        ("MM", Part::Month),
        ("DD", Part::Day),
        ("HH", Part::Hour12),
        ("MI", Part::Minute),
        ("SS", Part::Second),
        ("MS", Part::Milli),
        ("US", Part::Micro),
        ("AM", Part::Meridiem { upper: true }),
        ("PM", Part::Meridiem { upper: true }),
        ("am", Part::Meridiem { upper: false }),
        ("pm", Part::Meridiem { upper: false }),
        ("IW", Part::IsoWeek),
        ("ID", Part::IsoDay),
        ("Q", Part::Quarter),
    ];
    fixed.into_iter().find(|(name, _)| rest.starts_with(name)).map(|(name, part)| (name.len(), part))
}

fn parse(format: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = format;
    let push_text = |parts: &mut Vec<Part>, text: &str| match parts.last_mut() {
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    };
    while let Some(first) = rest.chars().next() {
        if let Some((length, part)) = pattern(rest) {
            parts.push(part);
            rest = rest.get(length..).unwrap_or_default();
            if ["TH", "th", "SP"].iter().any(|suffix| rest.starts_with(suffix)) {
                return Err(format!("TO_CHAR's suffix at `{rest}` is not supported"));
            }
            continue;
        }
        if first == '"' {
            let (quoted, behind) =
                rest.get(1..).and_then(|rest| rest.split_once('"')).ok_or("a quote is not closed")?;
            if quoted.contains('\\') {
                return Err("a backslash inside of quotes is not supported by TO_CHAR here".into());
            }
            push_text(&mut parts, quoted);
            rest = behind;
            continue;
        }
        if first.is_ascii_alphanumeric()
            && !(first == 'T' && !rest.starts_with("TZ") && !rest.starts_with("TM") && !rest.starts_with("TH"))
        {
            return Err(format!(
                "TO_CHAR's pattern at `{rest}` is not supported; known are YYYY YY MM DD DDD HH24 HH12 HH MI SS MS US \
                 AM PM Month Mon Day Dy Q IYYY IW ID and text in double quotes"
            ));
        }
        if first == '\\' {
            return Err("a backslash is not supported by TO_CHAR here".into());
        }
        push_text(&mut parts, rest.get(..first.len_utf8()).unwrap_or_default());
        rest = rest.get(first.len_utf8()..).unwrap_or_default();
    }
    Ok(parts)
}

/// Compiles a format.
pub(super) fn prepare(format: &str) -> Result<Prepared, String> {
    let parts = parse(format)?;
    Ok(Box::new(move |a, bump| {
        let [Datum::Timestamp(micros)] = a else { return Err(fault::VALUE_FORM) };
        if parts.is_empty() || !calendar::is_finite(*micros) {
            return Ok(Datum::Null);
        }
        let mut out = BumpString::new_in(bump);
        parts.iter().for_each(|part| part.print(*micros, &mut out));
        Ok(Datum::Text(out.into_bump_str()))
    }))
}

impl Part {
    fn print(&self, micros: i64, out: &mut BumpString<'_>) {
        let (day, time) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
        let Civil { year, month, day: of_month } = calendar::civil(day);
        let shown = |year: i64| if year > 0 { year } else { 1 - year };
        let hour = time / HOUR;
        let mut put = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a text takes every write");
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Year => put(format_args!("{:04}", shown(year))),
            Self::Year2 => put(format_args!("{:02}", shown(year) % 100)),
            Self::Month => put(format_args!("{month:02}")),
            Self::Day => put(format_args!("{of_month:02}")),
            Self::DayOfYear => {
                put(format_args!("{:03}", day - calendar::days(Civil { year, month: 1, day: 1 }) + 1));
            }
            Self::Hour24 => put(format_args!("{hour:02}")),
            Self::Hour12 => put(format_args!("{:02}", (hour + 11) % 12 + 1)),
            Self::Minute => put(format_args!("{:02}", time / MINUTE % 60)),
            Self::Second => put(format_args!("{:02}", time / SECOND % 60)),
            Self::Milli => put(format_args!("{:03}", time % SECOND / 1_000)),
            Self::Micro => put(format_args!("{:06}", time % SECOND)),
            Self::Meridiem { upper } => out.push_str(match (hour >= 12, upper) {
                (true, true) => "PM",
                (true, false) => "pm",
                (false, true) => "AM",
                (false, false) => "am",
            }),
            Self::MonthName { form, short } => push_name(MONTHS[month as usize - 1], *form, *short, out),
            Self::DayName { form, short } => push_name(DAYS[calendar::weekday(day) as usize], *form, *short, out),
            Self::Quarter => put(format_args!("{}", (month - 1) / 3 + 1)),
            Self::IsoYear => put(format_args!("{:04}", shown(calendar::iso_week(day).0))),
            Self::IsoWeek => put(format_args!("{:02}", calendar::iso_week(day).1)),
            Self::IsoDay => put(format_args!("{}", (calendar::weekday(day) + 6) % 7 + 1)),
        }
    }
}

/// Long names are padded to nine characters.
fn push_name(name: &str, form: Form, short: bool, out: &mut BumpString<'_>) {
    let name = if short { name.get(..3).unwrap_or(name) } else { name };
    for (index, letter) in name.chars().enumerate() {
        out.push(match form {
            Form::Upper => letter.to_ascii_uppercase(),
            Form::Lower => letter.to_ascii_lowercase(),
            Form::Title if index == 0 => letter,
            Form::Title => letter.to_ascii_lowercase(),
        });
    }
    if !short {
        out.extend(std::iter::repeat_n(' ', 9 - name.len()));
    }
}
