//! The CSV files of a results folder, as far as they can be read: what is wrong with one is said, and the rest is shown.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::experiment::metrics;

/// The most rows of a file that a page takes in.
const MOST_ROWS: usize = 20_000;

/// One CSV file, as text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Name of the file in its folder.
    pub file: String,
    /// What its rows are.
    pub about: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows, each as long as the header.
    pub rows: Vec<Vec<String>>,
}

/// One column of a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    /// Its name in the file.
    pub name: String,
    /// Its unit, if it has one.
    pub unit: &'static str,
    /// What it says, where that is known.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub meaning: &'static str,
    /// The column with the half-width of its 95 % interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ci: Option<usize>,
}

/// A file that a report knows how to show.
pub struct Known {
    /// Its name.
    pub file: &'static str,
    /// What its rows are.
    pub about: &'static str,
    /// The columns without which nothing can be shown of it.
    pub needed: &'static [&'static str],
}

impl Table {
    /// Reads what there is of a file in a folder: nothing if it is not there. What is wrong is added to `problems`.
    pub fn read(folder: &Path, known: &Known, problems: &mut Vec<String>) -> Option<Self> {
        match std::fs::read(folder.join(known.file)) {
            Ok(bytes) => Self::parse(known, &bytes, None, problems),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                problems.push(format!("{}: cannot be read ({error}); it is left out", known.file));
                None
            }
        }
    }

    /// The same from the content of a file, lines that begin with `comment` left out.
    pub fn parse(
        known: &Known,
        bytes: &[u8],
        comment: Option<u8>,
        problems: &mut Vec<String>,
    ) -> Option<Self> {
        let Known { file, about, needed } = *known;
        let mut say = |message: String| problems.push(format!("{file}: {message}"));
        if bytes.iter().all(u8::is_ascii_whitespace) {
            say("is empty; it is left out. Make it again with the command that wrote this folder".into());
            return None;
        }
        let mut reader = csv::ReaderBuilder::new().flexible(true).comment(comment).from_reader(bytes);
        let names: Vec<String> = match reader.headers() {
            Ok(header) => header.iter().map(str::to_string).collect(),
            Err(error) => {
                say(format!("its header is no text in UTF-8 ({error}); it is left out"));
                return None;
            }
        };
        let missing: Vec<_> =
            needed.iter().filter(|name| !names.iter().any(|known| known == *name)).copied().collect();
        let (mut rows, mut bad, mut more) = (Vec::new(), Vec::new(), 0usize);
        for (number, record) in reader.records().enumerate() {
            match record {
                Ok(record) if record.len() == names.len() && rows.len() < MOST_ROWS => {
                    rows.push(record.iter().map(str::to_string).collect());
                }
                Ok(record) if record.len() == names.len() => more += 1,
                _ => bad.push(number + 2),
            }
        }
        if !missing.is_empty() {
            say(format!(
                "has no column {}: it is of another version, or damaged; what needs it is left out",
                missing.join(", ")
            ));
        }
        if let Some(first) = bad.first() {
            say(format!("{} rows do not fit the header, the first at record {first}: left out", bad.len()));
        }
        if more > 0 {
            say(format!("only the first {MOST_ROWS} rows are shown, of {}", MOST_ROWS + more));
        }
        if rows.is_empty() {
            say("has a header and no rows".into());
            return None;
        }
        Some(Self { file: file.into(), about: about.into(), columns: columns(&names), rows })
    }

    /// Position of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// A field as text; nothing where there is no such row or column.
    pub fn text(&self, row: usize, column: usize) -> &str {
        self.rows.get(row).and_then(|row| row.get(column)).map_or("", String::as_str)
    }

    /// A field as a number; missing is missing.
    pub fn number(&self, row: usize, column: usize) -> Option<f64> {
        self.text(row, column).parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// The value of a named column.
    pub fn named(&self, row: usize, name: &str) -> &str {
        self.column(name).map_or("", |column| self.text(row, column))
    }

    /// The distinct texts of a column, in the order in which they come first.
    pub fn distinct(&self, column: usize) -> Vec<String> {
        let mut seen = Vec::new();
        for row in 0..self.rows.len() {
            let text = self.text(row, column);
            if !seen.iter().any(|known| known == text) {
                seen.push(text.to_string());
            }
        }
        seen
    }

    /// Rows put together by what they have in some columns, in the order in which they come first.
    pub fn groups(&self, columns: &[usize]) -> Vec<(Vec<String>, Vec<usize>)> {
        let mut places = BTreeMap::new();
        let mut groups: Vec<(Vec<String>, Vec<usize>)> = Vec::new();
        for row in 0..self.rows.len() {
            let key: Vec<_> = columns.iter().map(|column| self.text(row, *column).to_string()).collect();
            let place = *places.entry(key.clone()).or_insert(groups.len());
            if place == groups.len() {
                groups.push((key, Vec::new()));
            }
            groups[place].1.push(row);
        }
        groups
    }
}

fn columns(names: &[String]) -> Vec<Column> {
    let half_width = |name: &String| names.iter().position(|other| *other == format!("{name}_ci95"));
    let meaning =
        |name: &String| metrics::COLUMNS.iter().find(|known| known.name == name).map_or("", |c| c.meaning);
    names
        .iter()
        .map(|name| Column {
            name: name.clone(),
            unit: unit(name),
            meaning: meaning(name),
            ci: half_width(name),
        })
        .collect()
}

/// The unit of a column, which the end of its name says.
pub fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_ci95").trim_end_matches("_vs_baseline");
    let ends: [(&str, &str); 14] = [
        ("usd_per_day", "USD a day"),
        ("_usd", "USD"),
        ("_ms", "ms"),
        ("_us", "µs"),
        ("_s", "s"),
        ("_tokens", "tokens"),
        ("_requests", "requests"),
        ("_rpm", "requests a minute"),
        ("_rpm_mean", "requests a minute"),
        ("_rpm_peak", "requests a minute"),
        ("_ratio", "share"),
        ("_share", "share"),
        ("_in_flight", "requests"),
        ("_lines", "lines"),
    ];
    let whole = match name {
        "requests" | "in_flight" | "queued" | "n_records" | "n_steady_state_records" => "requests",
        "usd_saved" => "USD",
        "points_gained" => "points",
        "max_in_flight_observed" => "requests",
        _ => "",
    };
    if !whole.is_empty() {
        return whole;
    }
    ends.iter().find(|(end, _)| name.ends_with(end)).map_or("", |(_, unit)| unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known { file: "t.csv", about: "rows", needed: &["a", "b"] };

    fn read(content: &[u8]) -> (Option<Table>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.csv"), content).unwrap();
        let mut problems = Vec::new();
        (Table::read(folder.path(), &KNOWN, &mut problems), problems)
    }

    #[test]
    fn what_can_be_read_is_read_and_the_rest_is_said() {
        let (table, problems) = read(b"a,b,a_ci95\n1,2,0.5\n3\n5,6,\n");
        let table = table.unwrap();
        assert_eq!(table.rows.len(), 2);
        assert_eq!(table.columns[0].ci, Some(2));
        assert_eq!((table.number(0, 1), table.number(1, 2)), (Some(2.0), None));
        assert!(problems[0].contains("the first at record 3"), "{problems:?}");
        for (content, said) in [
            (&b""[..], "is empty"),
            (b"\n \n", "is empty"),
            (b"a,b\n", "no rows"),
            (b"\xff,b\n1,2\n", "UTF-8"),
        ] {
            let (table, problems) = read(content);
            assert_eq!(table, None);
            assert!(problems.len() == 1 && problems[0].contains(said), "{problems:?}");
        }
        let (table, problems) = read(b"a\n1\n");
        assert!(table.is_some() && problems[0].contains("has no column b"), "{problems:?}");
    }

    #[test]
    fn units_follow_the_ends_of_names() {
        let known = [
            ("ttft_p95_ms", "ms"),
            ("cost_usd_vs_baseline_ci95", "USD"),
            ("token_hit_ratio", "share"),
            ("keys", ""),
        ];
        assert!(known.iter().all(|(name, is)| unit(name) == *is));
    }
}
