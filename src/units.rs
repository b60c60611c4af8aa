//! Integers with units: simulated time in nanoseconds, tokens, money in pico-dollars.
//!
//! Time and tokens are integers so that a run gives the same bytes everywhere; floats appear only in rates
//! and when a result is printed. Text such as `"5m"`, `"250ms"` or `"15/min"` is read exactly.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

/// A count of prompt or output tokens, or a depth in a prompt.
pub type Tokens = u32;

/// The most tokens that a segment of generated traffic, or a parameter of a provider, may have: some sixteen
/// million, so that sums stay far from what a count can hold.
pub const MOST_TOKENS: Tokens = 1 << 24;

/// A prompt never grows beyond this: a session that reaches it ends.
pub const LONGEST_PROMPT: Tokens = 1 << 30;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A moment of simulated time, in nanoseconds since the scenario's (or the trace's) zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimTime(pub u64);

/// A length of simulated time in nanoseconds. Written as `"5m"`, `"1.5h"`, `"250ms"`, or `"unlimited"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

impl SimTime {
    /// The beginning of simulated time.
    pub const ZERO: Self = Self(0);
    /// Later than anything that happens: the expiry of what never expires.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// So long before this; time zero if that is before all time.
    pub fn before(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// Seconds since time zero.
    pub fn seconds(self) -> f64 {
        Span(self.0).seconds()
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// Longer than any run.
    pub const UNLIMITED: Self = Self(u64::MAX);
    /// The window over which requests per minute are counted.
    pub const SECOND: Self = Self(NANOS_PER_SECOND);
    /// A minute.
    pub const MINUTE: Self = Self(60 * NANOS_PER_SECOND);
    /// One day.
    pub const DAY: Self = Self(86_400 * NANOS_PER_SECOND);

    /// `seconds` whole seconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds * NANOS_PER_SECOND)
    }

    /// The nearest whole number of nanoseconds to `seconds`; negative values become zero.
    pub fn from_seconds_f64(seconds: f64) -> Self {
        Self((seconds * NANOS_PER_SECOND as f64 + 0.5) as u64)
    }

    /// Length in seconds.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / NANOS_PER_SECOND as f64
    }

    /// Length in milliseconds.
    pub fn millis(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// This span scaled by a factor, to the nearest nanosecond.
    pub fn scale(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor + 0.5) as u64)
    }

    /// This span `count` times.
    pub fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }
}

impl Add<Span> for SimTime {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Span {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Span {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// The units a span may be written in, longest first, with their length in nanoseconds.
const SPAN_UNITS: [(&str, u64); 7] = [
    ("d", 86_400 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("s", NANOS_PER_SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "unlimited" {
            return Ok(Self::UNLIMITED);
        }
        let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = (text[..digits].trim(), &text[digits..]);
        let unit = if unit == "min" { "m" } else { unit };
        let wrong = || {
            format!(
                "`{text}` is not a length of time: write a number and a unit, such as \"250ms\", \"30s\", \"5m\", \"24h\" or \"2d\", or \"unlimited\""
            )
        };
        let (_, nanos) = SPAN_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        decimal_times(number, *nanos).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Span {
    /// The shortest exact form: the largest unit that divides the span (one day stays "24h", as retention is
    /// named).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::UNLIMITED {
            return f.write_str("unlimited");
        }
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let fits = |nanos: u64| self.0.is_multiple_of(nanos) && self.0 > nanos / Self::DAY.0 * nanos;
        let (unit, nanos) = SPAN_UNITS.iter().find(|(_, nanos)| fits(*nanos)).expect("1 ns divides");
        write!(f, "{}{unit}", self.0 / nanos)
    }
}

/// Reads a plain decimal number (`"12"`, `"0.25"`, `"1.5e3"`) times an integer scale, exactly, rounded half up
/// to a whole number; `None` if it is no such number, negative, or too large.
///
/// This is how timestamps past 2^53 ns keep every digit.
pub fn decimal_times(text: &str, scale: u64) -> Option<u64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.is_empty() && fraction.is_empty() || !digits().all(|c| c.is_ascii_digit()) {
        return None;
    }
    // Digits beyond what fits are dropped: they are far below half of the unit, or the value is too large anyway.
    let room = u128::MAX / u128::from(scale.max(1)) / 100;
    let mut shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let mut value: u128 = 0;
    let mut dropped = 0i32;
    for digit in digits().map(|c| u128::from(c - b'0')) {
        if value > room {
            dropped += 1;
            continue;
        }
        value = value * 10 + digit;
    }
    shift = shift.checked_add(dropped)?;
    if value == 0 {
        return Some(0);
    }
    let mut scaled = value.checked_mul(u128::from(scale))?;
    for _ in 0..shift.max(0) {
        scaled = scaled.checked_mul(10)?;
    }
    if shift < 0 {
        let divisor = 10u128.checked_pow(shift.unsigned_abs());
        scaled = divisor.map_or(0, |d| scaled / d + u128::from(scaled % d >= d.div_ceil(2)));
    }
    u64::try_from(scaled).ok()
}

/// How often something happens, in events a second. Written as `"15/min"`, `"1.4/s"`, `"200/h"`, `"5/d"` or
/// `"every 7m"`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(pub f64);

/// The highest rate: gaps of some nanoseconds.
const MOST_PER_SECOND: f64 = 1e7;

impl Rate {
    /// Events a minute.
    pub fn per_minute(self) -> f64 {
        self.0 * 60.0
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a rate: write a number above zero over a unit, such as \"15/min\", \"1.4/s\" or \"200/h\", or a gap, such as \"every 7m\""
            )
        };
        if let Some(gap) = text.trim().strip_prefix("every ") {
            let gap: Span = gap.parse().map_err(|_| wrong())?;
            return if gap < Span(100) || gap == Span::UNLIMITED {
                Err(wrong())
            } else {
                Ok(Self(1.0 / gap.seconds()))
            };
        }
        let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let rate = number / seconds;
        if rate > MOST_PER_SECOND {
            return Err(format!("`{text}` is too fast: at most {MOST_PER_SECOND}/s"));
        }
        if rate > 0.0 { Ok(Self(rate)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/min", round_to(self.per_minute(), 9))
    }
}

/// Money in pico-dollars (10^-12 USD): a price of 0.005 USD per million tokens is 5,000 a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usd(pub i128);

impl Usd {
    /// Dollars, for printing.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e12
    }
}

impl std::iter::Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), |sum, amount| Self(sum.0 + amount.0))
    }
}

impl Sub for Usd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

/// `value` rounded to `places` decimal places, so that printed numbers stay short.
pub fn round_to(value: f64, places: u32) -> f64 {
    let scale = 10u64.pow(places) as f64;
    (value * scale).round() / scale
}

/// Serializes a type through its text form, and describes it as a pattern of text in the schema.
macro_rules! text_form {
    ($type:ty, $description:literal, $example:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                        f.write_str(concat!("a ", $description, " such as ", $example))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "format": $description })
            }
        }
    };
}
pub(crate) use text_form;

text_form!(Span, "time span", "\"30s\" or \"5m\"");
text_form!(Rate, "rate", "\"30/min\" or \"every 7m\"");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_exactly_and_print_back() {
        for (text, nanos) in [("5m", 300_000_000_000), ("1.5h", 5_400_000_000_000), ("20100ns", 20_100)] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, Span(nanos));
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        assert_eq!("unlimited".parse::<Span>().unwrap(), Span::UNLIMITED);
        for text in ["5", "5 minutes", "-5m", "m", "", "1..5s", "99999999999999d"] {
            assert!(text.parse::<Span>().unwrap_err().contains("unit"), "{text}");
        }
    }

    #[test]
    fn decimals_keep_every_digit_past_two_to_the_53() {
        assert_eq!(decimal_times("1760428221546000001", 1), Some(1_760_428_221_546_000_001));
        assert_eq!(decimal_times("1760428221.546000001", 1_000_000_000), Some(1_760_428_221_546_000_001));
        assert_eq!(decimal_times("0.30000000000000004", 1_000_000_000), Some(300_000_000));
        assert_eq!(decimal_times("1.5e3", 1), Some(1500));
        assert_eq!(decimal_times("25e-1", 1), Some(3), "half rounds up");
        for text in ["", ".", "-1", "1x", "nan", "1e400"] {
            assert_eq!(decimal_times(text, 1), None, "{text}");
        }
    }

    #[test]
    fn rates_need_a_unit_and_a_positive_number() {
        assert_eq!("30/min".parse::<Rate>().unwrap(), Rate(0.5));
        assert_eq!("every 8s".parse::<Rate>().unwrap(), Rate(0.125));
        for text in ["30", "every 0s", "every unlimited", "every", "30/fortnight", "0/s", "-1/s", "inf/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
