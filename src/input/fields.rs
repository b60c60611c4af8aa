//! Fields: a JSON object of a log, whose values stay as they are written until someone asks for them.
//!
//! Numbers keep every digit that way, and what nobody asks for costs nothing. No message here shows a text of the file:
//! prompts are private, and a log may hold them anywhere.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::input::text_lines::Parsed;
use crate::input::trace::{MOST_TOKENS, TIME_LIMIT};
use crate::units::{SimTime, Span, Tokens, decimal_times};

/// The fields of an object by their names. `null` counts as absent; of a name given twice the last one counts.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    /// The object that a line is.
    pub fn parse(text: &'a str) -> Parsed<Self> {
        Self::parse_whole(text).map_err(|(_, message)| message)
    }

    /// The object that a text is; or on which of its lines, from 1, what is wrong.
    pub fn parse_whole(text: &'a str) -> std::result::Result<Self, (u64, String)> {
        if !text.starts_with('{') {
            return Err((1, "is not a JSON object".into()));
        }
        serde_json::from_str(text).map(Self).map_err(|error| (error.line() as u64, json_trouble(&error)))
    }

    /// The object that a value is.
    fn of(value: &'a RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).map(Self).ok()
    }

    /// A value.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }

    /// Whether there is such a field, and not `null`.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A field that is an object.
    pub fn object(&self, name: &str) -> Option<Fields<'a>> {
        self.get(name).and_then(Fields::of)
    }

    /// The object at a path of names.
    pub fn at(&self, path: &[&str]) -> Option<Fields<'a>> {
        let (first, rest) = path.split_first()?;
        let inner = self.object(first)?;
        if rest.is_empty() { Some(inner) } else { inner.at(rest) }
    }

    /// Looks into the object of a name, which some logs keep as a text of JSON.
    pub fn within<R>(&self, name: &str, look: impl FnOnce(&Fields<'_>) -> R) -> Option<R> {
        if let Some(object) = self.object(name) {
            return Some(look(&object));
        }
        let text = self.text(name)?;
        Fields::parse(text.trim()).ok().map(|object| look(&object))
    }

    /// These fields, and those of another object that are not among them.
    pub fn beside(&self, other: &Self) -> Self {
        let mut all = other.clone();
        all.0.extend(self.0.iter().map(|(name, value)| (name.clone(), *value)));
        all
    }

    /// A field that is a list, its values as they are written.
    pub fn list(&self, name: &str) -> Option<Vec<&'a RawValue>> {
        self.get(name).and_then(|value| serde_json::from_str(value.get()).ok())
    }

    /// A string, or the digits of an integer.
    pub fn text(&self, name: &str) -> Option<String> {
        text(self.get(name)?)
    }

    /// The first of these names that has a text which is not empty.
    pub fn first_text(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name).filter(|text| !text.is_empty()))
    }

    /// Whether a field is `true`, the word for it, or 1.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value.get(), "true" | "\"true\"" | "\"True\"" | "1"))
    }

    /// A count of tokens; dots in `name` lead into objects.
    pub fn count(&self, name: &str) -> Parsed<Option<Tokens>> {
        match name.split_once('.') {
            Some((outer, inner)) => self.object(outer).map_or(Ok(None), |object| object.count(inner)),
            None => self.get(name).map(|value| count(name, value.get())).transpose(),
        }
    }

    /// The first of these names that holds a moment.
    pub fn time(&self, names: &[&str]) -> Parsed<Option<SimTime>> {
        let found = names.iter().find_map(|name| Some((*name, self.get(name)?)));
        found.map(|(name, value)| moment(name, &bare(value))).transpose()
    }

    /// The first of these names that holds a number of milliseconds.
    pub fn millis(&self, names: &[&str]) -> Option<Span> {
        let value = names.iter().find_map(|name| self.get(name))?;
        decimal_times(value.get(), 1_000_000).map(Span)
    }
}

/// What is wrong with a JSON text, without a word of it.
pub(super) fn json_trouble(error: &serde_json::Error) -> String {
    let place = format!("column {}", error.column());
    match error.classify() {
        Category::Eof => format!("is cut off: its JSON object does not end by {place}"),
        // A message about a value would show it.
        Category::Data => format!("is not the JSON that is expected at {place}"),
        Category::Syntax | Category::Io => {
            let message = error.to_string();
            let what = message.split(" at line ").next().unwrap_or_default();
            format!("is not valid JSON at {place}: {what}")
        }
    }
}

/// The text of a JSON string, or the digits of an integer.
pub(super) fn text(value: &RawValue) -> Option<String> {
    let json = value.get();
    if json.starts_with('"') {
        return serde_json::from_str(json).ok();
    }
    let digits = json.strip_prefix('-').unwrap_or(json);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| json.to_string())
}

/// What stands in a JSON value without its quotes.
fn bare(value: &RawValue) -> Cow<'_, str> {
    match text(value) {
        Some(text) => Cow::Owned(text),
        None => Cow::Borrowed(value.get()),
    }
}

/// A count of tokens, from its digits. Some tools write whole numbers with a fraction of zero.
pub(super) fn count(name: &str, written: &str) -> Parsed<Tokens> {
    let whole = match written.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
        _ => written,
    };
    let tokens = whole.parse().ok().filter(|tokens| *tokens <= MOST_TOKENS);
    tokens.ok_or_else(|| {
        format!("`{name}` is {}: it must be a whole number from 0 to {MOST_TOKENS}", number_or_kind(written))
    })
}

/// A moment: RFC 3339 (without an offset it is UTC), or a number since 1970 whose unit follows from its size: below
/// 10^11 seconds, below 10^14 milliseconds, below 10^17 microseconds, else nanoseconds; a name that ends in `_ms` says
/// it itself. Small numbers, the clock of an experiment, are seconds too.
pub(super) fn moment(name: &str, written: &str) -> Parsed<SimTime> {
    let written = written.trim();
    let nanos = match decimal_times(written, 1) {
        Some(_) if name.ends_with("_ms") => decimal_times(written, 1_000_000),
        Some(size) => decimal_times(written, unit_of(size)),
        None => calendar(written),
    };
    nanos.filter(|nanos| *nanos < TIME_LIMIT).map(SimTime).ok_or_else(|| {
        let form = "a time such as 2026-01-31T08:09:24.686Z, or a number since 1970 (s, ms, us, ns)";
        format!("`{name}` is {}: it must be {form}", number_or_kind(written))
    })
}

/// Nanoseconds in the unit in which a number of this size counts the time since 1970.
fn unit_of(size: u64) -> u64 {
    match size {
        0..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    }
}

fn calendar(written: &str) -> Option<u64> {
    let stamp = written.parse::<jiff::Timestamp>().or_else(|_| {
        let local = written.strip_suffix(" UTC").unwrap_or(written).parse::<jiff::civil::DateTime>()?;
        jiff::tz::TimeZone::UTC.to_timestamp(local)
    });
    u64::try_from(stamp.ok()?.as_nanosecond()).ok()
}

/// A number as it is written; of anything else only what it is.
fn number_or_kind(written: &str) -> &str {
    let numeric = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    match written.as_bytes().first() {
        Some(_) if written.len() <= 40 && written.bytes().all(numeric) => written,
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        None => "empty",
        Some(_) => match written {
            "true" | "false" => written,
            _ => "no such thing",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_exact_whatever_their_unit() {
        let nanos = 1_761_898_164_686_597_001;
        for (written, cut) in [
            ("1761898164.686597001", 1),
            ("1761898164686.597001", 1),
            ("1761898164686597.001", 1),
            ("1761898164686597001", 1),
            ("2025-10-31T08:09:24.686597001Z", 1),
            ("2025-10-31T09:09:24.686597001+01:00", 1),
            ("2025-10-31 08:09:24.686597001", 1),
            ("2025-10-31 08:09:24.686597 UTC", 1_000),
            ("1761898164686", 1_000_000),
        ] {
            assert_eq!(moment("time", written), Ok(SimTime(nanos / cut * cut)), "{written}");
        }
        assert_eq!(moment("time", "2.5"), Ok(SimTime(2_500_000_000)));
        assert_eq!(moment("admitted_ms", "4002"), Ok(SimTime(4_002_000_000)));
        for wrong in ["", "-5", "1969-12-31T00:00:00Z", "yesterday", "1e300", "{\"a\": 1}", "[1]"] {
            let message = moment("time", wrong).unwrap_err();
            assert!(message.starts_with("`time` is ") && !message.contains("yesterday"), "{message}");
        }
    }

    #[test]
    fn counts_are_whole_and_messages_keep_texts_back() {
        assert_eq!(count("cached_tokens", "12.0"), Ok(12));
        for wrong in ["-5", "1.5", "2147483649", "true"] {
            assert!(
                count("cached_tokens", wrong)
                    .unwrap_err()
                    .starts_with(&format!("`cached_tokens` is {wrong}"))
            );
        }
        for wrong in ["\"secret\"", "{\"secret\": 1}", "[\"secret\"]", ""] {
            assert!(!count("cached_tokens", wrong).unwrap_err().contains("secret"));
        }
        for wrong in ["{\"secret\": 1, x", "{\"a\": \"secret", "\"secret\"", "{\"secret\" 1}"] {
            assert!(!Fields::parse(wrong).unwrap_err().contains("secret"), "{wrong}");
        }
    }
}
