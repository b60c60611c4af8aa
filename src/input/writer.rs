//! Writing a trace, as lines or in columns.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use crate::input::columns::ColumnWriter;
use crate::input::lines::LineWriter;
use crate::input::trace::{Description, Record};

/// How a trace is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line.
    Lines {
        /// Whether they are packed.
        gzip: bool,
    },
    /// Parquet.
    Columns,
}

impl Form {
    /// The form that the name of a file asks for; the error says which names do.
    pub fn of(path: &Path) -> Result<Self, &'static str> {
        let name = path.file_name().map_or(String::new(), |name| name.to_string_lossy().to_lowercase());
        match name {
            name if name.ends_with(".parquet") => Ok(Self::Columns),
            name if name.ends_with(".jsonl") => Ok(Self::Lines { gzip: false }),
            name if name.ends_with(".jsonl.gz") => Ok(Self::Lines { gzip: true }),
            _ => Err("says no form of a trace: let its name end in .parquet, .jsonl or .jsonl.gz"),
        }
    }
}

/// Writes a trace, request by request.
pub struct TraceWriter(Writer);

enum Writer {
    Lines(LineWriter<BufWriter<File>>),
    Columns(Box<ColumnWriter<BufWriter<File>>>),
}

impl TraceWriter {
    /// A trace of this form and description into a file.
    pub fn new(file: File, form: Form, description: &Description) -> io::Result<Self> {
        let out = BufWriter::new(file);
        Ok(Self(match form {
            Form::Lines { gzip } => Writer::Lines(LineWriter::new(out, gzip, description.time_unit)),
            Form::Columns => Writer::Columns(Box::new(ColumnWriter::new(out, description)?)),
        }))
    }

    /// Writes a request, which comes no earlier than the one before.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        match &mut self.0 {
            Writer::Lines(lines) => lines.write(record),
            Writer::Columns(columns) => Ok(columns.write(record)?),
        }
    }

    /// Writes what is left.
    pub fn finish(self) -> io::Result<()> {
        match self.0 {
            Writer::Lines(lines) => lines.finish(),
            Writer::Columns(columns) => Ok(columns.finish()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_says_its_form() {
        let form = |name: &str| Form::of(Path::new(name));
        assert_eq!(form("a.b/t.jsonl"), Ok(Form::Lines { gzip: false }));
        assert_eq!(form("t.JSONL.gz"), Ok(Form::Lines { gzip: true }));
        assert_eq!(form("t.parquet"), Ok(Form::Columns));
        for name in ["t.json", "parquet", "t.gz", "a.parquet/t", ""] {
            assert!(form(name).is_err(), "{name}");
        }
    }
}
