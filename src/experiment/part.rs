//! A part: the rows that one shard of a work gave, and what it says of itself. The checksum covers both.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::experiment::metrics::Row;
use crate::experiment::shard::Shard;

/// How a part begins; the number is that of the form.
pub(super) const TITLE: &str = "cachecast part 1";

/// Which run a row is of: the number of what was played, and of the replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Job {
    /// The cell of a sweep, or whatever else was played, by its number.
    pub cell: u64,
    /// The replication, from 0.
    pub replication: u32,
}

/// What a part says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version of the program that played it.
    pub version: String,
    /// A digest of everything the rows follow from.
    pub digest: String,
    /// Which shard it is.
    pub shard: Shard,
    /// Its rows.
    pub rows: u64,
    /// The rows of all shards, where that is known beforehand.
    pub of: Option<u64>,
    /// The command whose part it is, without what makes it one.
    pub command: Vec<String>,
    /// Names of the numbers.
    pub columns: Vec<String>,
    /// The checksum of header and rows.
    pub checksum: String,
}

/// What rows are a part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// A digest of everything the rows follow from.
    pub digest: String,
    /// How many rows there are, where that is known beforehand.
    pub rows: Option<u64>,
    /// The command that plays all of them.
    pub command: Vec<String>,
    /// Names of the numbers.
    pub columns: Vec<String>,
}

impl Header {
    pub(super) fn new(whole: &Whole, shard: Shard, rows: &BTreeMap<Job, Row>) -> Self {
        let Whole { digest, rows: of, command, columns } = whole.clone();
        let version = env!("CARGO_PKG_VERSION").to_string();
        let rows_here = rows.len() as u64;
        let mut header =
            Self { version, digest, shard, rows: rows_here, of, command, columns, checksum: String::new() };
        let mut sum = Checksum::new(&header);
        rows.iter().for_each(|(job, row)| sum.add(*job, row));
        header.checksum = sum.finish();
        header
    }

    /// Its lines, but for the names of the columns.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let of = self.of.map_or(String::new(), |of| format!(" of {of}"));
        vec![
            ("version", self.version.clone()),
            ("digest", self.digest.clone()),
            ("shard", self.shard.to_string()),
            ("rows", format!("{}{of}", self.rows)),
            ("command", serde_json::to_string(&self.command).expect("words are JSON")),
            ("checksum", self.checksum.clone()),
        ]
    }

    /// Its text.
    pub(super) fn text(&self) -> String {
        let lines = self.lines().into_iter().map(|(word, value)| format!("# {word}: {value}\n"));
        format!("# {TITLE}\n{}", lines.collect::<String>())
    }

    /// Reads its text, and the names of the columns beside it; `None` if it is none.
    pub(super) fn parse(text: &str, columns: Vec<String>) -> Option<Self> {
        let mut lines = text.lines();
        lines.next()?.strip_prefix("# ").filter(|title| *title == TITLE)?;
        let mut value = |word: &str| lines.next()?.strip_prefix(&format!("# {word}: ")).map(String::from);
        let (version, digest, shard) = (value("version")?, value("digest")?, value("shard")?.parse().ok()?);
        let rows = value("rows")?;
        let (rows, of) = match rows.split_once(" of ") {
            Some((rows, of)) => (rows.parse().ok()?, Some(of.parse().ok()?)),
            None => (rows.parse().ok()?, None),
        };
        let (command, checksum) = (serde_json::from_str(&value("command")?).ok()?, value("checksum")?);
        Some(Self { version, digest, shard, rows, of, command, columns, checksum })
    }
}

/// The checksum of a part, row by row.
pub(super) struct Checksum(Sha256);

impl Checksum {
    /// Of a header, whatever checksum it has.
    pub fn new(header: &Header) -> Self {
        let mut sum = Sha256::new();
        for (word, value) in header.lines().iter().filter(|(word, _)| *word != "checksum") {
            sum.update(format!("{word}: {value}\n"));
        }
        sum.update(header.columns.join(","));
        Self(sum)
    }

    /// Adds a row.
    pub fn add(&mut self, job: Job, row: &Row) {
        self.0.update(job.cell.to_le_bytes());
        self.0.update(job.replication.to_le_bytes());
        for value in &row.0 {
            self.0.update([u8::from(value.is_some())]);
            self.0.update(value.unwrap_or(0.0).to_bits().to_le_bytes());
        }
    }

    /// The checksum of all.
    pub fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
