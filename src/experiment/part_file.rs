//! Parts in files. As CSV a part begins with the lines of its header, each `# word: value`; as Parquet it has the same text
//! in its metadata.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::experiment::metrics::Row;
use crate::experiment::part::{Checksum, Header, Job, TITLE, Whole};
use crate::experiment::part_columns::{ColumnReader, write_columns};
use crate::experiment::results::{Unpublished, number};
use crate::experiment::shard::Shard;

/// How a Parquet file begins.
const PARQUET: [u8; 4] = *b"PAR1";

/// Writes a part beside its place and renames it: as Parquet where the name ends so, as CSV elsewhere. Whoever writes
/// the same rows writes the same bytes.
pub fn write_part(path: &Path, whole: &Whole, shard: Shard, rows: &BTreeMap<Job, Row>) -> Result<()> {
    let header = Header::new(whole, shard, rows);
    let file = Unpublished::beside(path)?;
    let out = std::io::BufWriter::new(file.handle()?);
    let written = match path.extension() {
        Some(ending) if ending.eq_ignore_ascii_case("parquet") => write_columns(out, &header, rows),
        _ => write_lines(out, &header, rows),
    };
    written.map_err(|error| file.failed(&error))?;
    file.publish()
}

fn write_lines(mut out: impl Write, header: &Header, rows: &BTreeMap<Job, Row>) -> std::io::Result<()> {
    out.write_all(header.text().as_bytes())?;
    writeln!(out, "cell,replication,{}", header.columns.join(","))?;
    for (Job { cell, replication }, row) in rows {
        let numbers: Vec<_> = row.0.iter().map(|value| number(*value)).collect();
        writeln!(out, "{cell},{replication},{}", numbers.join(","))?;
    }
    out.flush()
}

/// Reads a part row by row, in memory that does not grow with it.
pub struct Part {
    /// Where it stands.
    pub path: PathBuf,
    /// What it says of itself.
    pub header: Header,
    rows: Reader,
    sum: Option<Checksum>,
    read: u64,
}

enum Reader {
    Lines(Box<Lines>),
    Columns(Box<ColumnReader>),
}

struct Lines {
    file: BufReader<File>,
    line: String,
}

/// The longest line of a part: more is none.
const LONGEST_LINE: u64 = 1 << 24;

impl Lines {
    /// The next line, without its end; `None` at the end. One that has no end is an error.
    fn read(&mut self) -> std::io::Result<Option<&str>> {
        self.line.clear();
        if (&mut self.file).take(LONGEST_LINE).read_line(&mut self.line)? == 0 {
            return Ok(None);
        }
        self.line
            .strip_suffix('\n')
            .map(Some)
            .ok_or_else(|| std::io::Error::other("its last line has no end"))
    }
}

impl Part {
    /// Opens a part; `None` if the file is none.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let failed = |error: &std::io::Error| Error::io(path, "read the part", error);
        // Whoever opens a pipe waits until somebody writes into it.
        if !path.metadata().map_err(|error| failed(&error))?.is_file() {
            return Err(Error::input(
                path.display(),
                "is no part but a folder, a pipe or a device: move it away",
            ));
        }
        let mut file = File::open(path).map_err(|error| failed(&error))?;
        let mut begin = [0; 4];
        let is_columns = match file.read_exact(&mut begin) {
            Ok(()) => begin == PARQUET,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let file = File::open(path).map_err(|error| failed(&error))?;
        let opened = if is_columns {
            ColumnReader::open(file).map(|(header, reader)| (header, Reader::Columns(Box::new(reader))))
        } else {
            let lines = Lines { file: BufReader::new(file), line: String::new() };
            open_lines(lines).map(|(header, lines)| (header, Reader::Lines(Box::new(lines))))
        };
        Ok(opened.map(|(header, rows)| {
            let sum = Some(Checksum::new(&header));
            Self { path: path.to_path_buf(), header, rows, sum, read: 0 }
        }))
    }

    /// The next row; `None` after the last one, once the checksum is found to be right.
    pub fn read(&mut self) -> Result<Option<(Job, Row)>> {
        let columns = self.header.columns.len();
        let next = match &mut self.rows {
            Reader::Lines(lines) => next_line(lines, columns),
            Reader::Columns(reader) => reader.read(),
        };
        let next = next.map_err(|why| self.damaged(&why))?;
        match next {
            Some((job, row)) => {
                self.read += 1;
                self.sum.as_mut().expect("not at the end").add(job, &row);
                Ok(Some((job, row)))
            }
            None if self.read != self.header.rows => {
                Err(self.damaged(&format!("it has {} rows of {}", self.read, self.header.rows)))
            }
            None => match self.sum.take().map(Checksum::finish) {
                Some(sum) if sum != self.header.checksum => {
                    Err(self.damaged("its checksum is another than that of its rows"))
                }
                _ => Ok(None),
            },
        }
    }

    fn damaged(&self, why: &str) -> Error {
        Error::input(
            self.path.display(),
            format!("the part is damaged: {why}; play shard {} again", self.header.shard),
        )
    }

    /// All rows.
    pub fn read_all(mut self) -> Result<BTreeMap<Job, Row>> {
        let mut rows = BTreeMap::new();
        while let Some((job, row)) = self.read()? {
            rows.insert(job, row);
        }
        Ok(rows)
    }

    /// Reads to the end, so as to know that it is whole.
    pub fn check(mut self) -> Result<()> {
        while self.read()?.is_some() {}
        Ok(())
    }
}

/// Whether a file that is no part is the beginning of one: what a copy that was interrupted, or a damaged disk, has left.
pub fn is_torn(path: &Path) -> Result<bool> {
    let failed = |error: std::io::Error| Error::io(path, "read the part", &error);
    let title = format!("# {TITLE}\n");
    let mut begin = Vec::new();
    File::open(path).map_err(failed)?.take(title.len() as u64).read_to_end(&mut begin).map_err(failed)?;
    if !begin.starts_with(&PARQUET) {
        return Ok(title.as_bytes().starts_with(&begin) || PARQUET.starts_with(&begin));
    }
    // Columns end with the same word; what has it is the table of somebody else.
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::End(-(PARQUET.len() as i64))).map_err(failed)?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).map_err(failed)?;
    Ok(end != PARQUET || begin == PARQUET)
}

fn open_lines(mut lines: Lines) -> Option<(Header, Lines)> {
    let mut text = String::new();
    let columns = loop {
        // What is not text is no part.
        let line = lines.read().ok()??;
        match line.strip_prefix("# ") {
            Some(_) if text.len() < LONGEST_LINE as usize => text += &format!("{line}\n"),
            Some(_) => return None,
            None => break line.strip_prefix("cell,replication,")?.split(',').map(String::from).collect(),
        }
    };
    Some((Header::parse(&text, columns)?, lines))
}

fn next_line(lines: &mut Lines, columns: usize) -> std::result::Result<Option<(Job, Row)>, String> {
    let Some(line) = lines.read().map_err(|error| error.to_string())? else { return Ok(None) };
    let bad = || format!("`{}` is no row", line.chars().take(40).collect::<String>());
    let mut fields = line.split(',');
    let cell = fields.next().and_then(|field| field.parse().ok()).ok_or_else(bad)?;
    let replication = fields.next().and_then(|field| field.parse().ok()).ok_or_else(bad)?;
    let number = |field: &str| match field {
        "" => Ok(None),
        field => field.parse().map(Some).map_err(|_| bad()),
    };
    let row: Vec<Option<f64>> = fields.map(number).collect::<std::result::Result<_, _>>()?;
    if row.len() == columns { Ok(Some((Job { cell, replication }, Row(row)))) } else { Err(bad()) }
}
