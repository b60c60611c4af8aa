//! Pattern: pieces of text that look as if they change from call to call.

use regex::{Captures, Regex, RegexBuilder};

use crate::random::digest;

/// What a piece of text looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A time of day, with or without its date.
    Time,
    /// A day.
    Date,
    /// Seconds or milliseconds since 1970, between 2017 and 2033.
    Epoch,
    /// A UUID.
    Uuid,
    /// 32 hexadecimal digits or more.
    Hex,
    /// Files with their sizes and times.
    Listing,
}

/// A piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// What it looks like.
    pub kind: Kind,
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// What stands for the text before it.
    pub before: u64,
    /// What stands for itself.
    pub value: u64,
}

impl Kind {
    /// In the order of the groups of [`PATTERN`].
    const ALL: [Self; 6] = [Self::Listing, Self::Time, Self::Uuid, Self::Date, Self::Epoch, Self::Hex];

    /// What it is called in a message.
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "a time",
            Self::Date => "a date",
            Self::Epoch => "a count of seconds or milliseconds since 1970",
            Self::Uuid => "a UUID",
            Self::Hex => "a digest or an id in hexadecimal",
            Self::Listing => "a listing of files with their times",
        }
    }

    /// Whether it usually changes with every call; otherwise by the day, by the version, or not at all.
    pub fn is_of_a_call(self) -> bool {
        matches!(self, Self::Time | Self::Epoch | Self::Uuid)
    }
}

/// One group for each kind; at one place the first that fits counts.
const PATTERN: &str = r#"(?x)
  # A line of `ls -l`, or a file time by its name.
  ( ^[-dlbcps](?:[r-][w-][xsStT-]){3}[.@+]?[\ \t]+[0-9]+[\ \t]
  | \b[mc]time\b["']?[\ \t]*[:=] )
  # 2026-11-20T20:43, 20/11/2026 20:43, 20 Nov 2026 20:43, Nov 20 20:43:43 2026, 20:43:43, 8:43 pm
| ( \b(?:19|20)[0-9]{2}[-/][01]?[0-9][-/][0-3]?[0-9][T\ ]{1,2}[0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]{1,9})?)?(?:\ ?Z\b|\ ?[+-][0-2][0-9]:?[0-5][0-9])?
  | \b[0-3]?[0-9][-/.][0-3]?[0-9][-/.](?:19|20)[0-9]{2},?\ [0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9])?
  | \b[0-2]?[0-9]:[0-5][0-9]:[0-5][0-9]\b
  | \b[01]?[0-9]:[0-5][0-9]\ ?[AaPp]\.?[Mm]\b )
| ( \b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b )
| ( \b(?:19|20)[0-9]{2}[-/.][01]?[0-9][-/.][0-3]?[0-9]\b
  | \b[0-3]?[0-9][-/.][0-3]?[0-9][-/.](?:19|20)[0-9]{2}\b
  | \b(?:[0-3]?[0-9](?:st|nd|rd|th)?\ (?:of\ )?)?(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\.?\ (?:[0-3]?[0-9](?:st|nd|rd|th)?,?\ )?(?:19|20)[0-9]{2}\b )
| ( \b1[5-9][0-9]{8}(?:[0-9]{3})?\b )
| ( \b[0-9a-fA-F]{32,}\b )
"#;

/// Matches of one text that are looked at: what changes shows in the first.
const MOST_MATCHES: usize = 32;

/// Finds what looks volatile.
#[derive(Debug)]
pub struct Patterns(Regex);

impl Default for Patterns {
    fn default() -> Self {
        let built = RegexBuilder::new(PATTERN).unicode(false).multi_line(true).build();
        Self(built.expect("a pattern that a test has built"))
    }
}

impl Patterns {
    /// The first pieces of a text that look volatile, in its order.
    pub fn find(&self, text: &str) -> Vec<Match> {
        let kind = |found: &Captures<'_>| {
            let group = (1..=Kind::ALL.len()).find(|group| found.get(*group).is_some())?;
            Some(Kind::ALL[group - 1])
        };
        let matches = self.0.captures_iter(text).filter_map(|found| {
            let (kind, whole) = (kind(&found)?, found.get(0)?);
            // A word of letters only is no digest, and a number of 32 digits no more so.
            let bytes = whole.as_str().as_bytes();
            let mixed = bytes.iter().any(u8::is_ascii_digit) && bytes.iter().any(u8::is_ascii_alphabetic);
            if kind == Kind::Hex && !mixed {
                return None;
            }
            let (start, end) = (whole.start(), whole.end());
            Some(Match { kind, start, end, before: digest(&text[..start]), value: digest(&text[start..end]) })
        });
        matches.take(MOST_MATCHES).collect()
    }

    /// What a key looks like that is made for one call.
    pub fn kind(&self, text: &str) -> Option<Kind> {
        self.find(text).first().map(|found| found.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_told_from_what_does_not() {
        let patterns = Patterns::default();
        let kinds = |text: &str| patterns.find(text).iter().map(|found| found.kind).collect::<Vec<_>>();
        for (text, kind) in [
            ("now: 2026-11-20T20:43:43.123Z", Kind::Time),
            ("now: 2026-11-20 20:43", Kind::Time),
            ("Local time is 20:43:43", Kind::Time),
            ("it is 8:43 pm", Kind::Time),
            ("on 20/11/2026 20:43 exactly", Kind::Time),
            ("Today's date: 2026-11-20", Kind::Date),
            ("Today is November 20, 2026.", Kind::Date),
            ("Friday, 20 Nov 2026", Kind::Date),
            ("t=1763671423 and", Kind::Epoch),
            ("t=1763671423000;", Kind::Epoch),
            ("session 0190f5fe-7c00-7a00-8000-0123456789ab", Kind::Uuid),
            ("commit da39a3ee5e6b4b0d3255bfef95601890afd80709", Kind::Hex),
            ("total 8\n-rw-r--r-- 1 me me 120 Nov 20 main.rs\n", Kind::Listing),
            ("{\"name\":\"a\",\"mtime\": 17}", Kind::Listing),
        ] {
            assert_eq!(kinds(text), [kind], "{text}");
        }
        let plain = "Version 5.6 of 2026 costs 1,500,000,000; call 1234567890 or 12:30; ratio 16:9, range 10-12-14, \
                     naïve 🎉 deadbeef, abcdefabcdefabcdefabcdefabcdefabcdef, 12345678901234567890123456789012345";
        assert_eq!(kinds(plain), []);
        assert!(kinds(&"1763671423 ".repeat(100)).len() == MOST_MATCHES);
    }

    #[test]
    fn a_match_knows_what_stands_before_it() {
        let find = |text: &str| Patterns::default().find(text)[0];
        let [one, other, elsewhere] = ["at 20:43:43", "at 20:43:44", "AT 20:43:43"].map(find);
        assert!(one.before == other.before && one.value != other.value);
        assert!(one.before != elsewhere.before && one.value == elsewhere.value);
        assert_eq!((one.start, one.end), (3, 11));
    }
}
