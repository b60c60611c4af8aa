//! Traces from one form into another. Files are written beside and renamed.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::experiment::results::Unpublished;
use crate::input::trace::{Description, Record, TraceReader};
use crate::input::writer::{Form, TraceWriter};

/// A trace that appears, whole, when it is finished.
pub struct TraceFile {
    path: PathBuf,
    writer: TraceWriter,
    file: Unpublished,
}

impl TraceFile {
    /// Begins a file, whose name says its form.
    pub fn create(path: &Path, description: &Description) -> Result<Self> {
        let form = Form::of(path).map_err(|message| Error::input(path.display(), message))?;
        let file = Unpublished::beside(path)?;
        let writer = TraceWriter::new(file.handle()?, form, description);
        let writer = writer.map_err(|error| Error::io(path, "write the trace", &error))?;
        Ok(Self { path: path.to_path_buf(), writer, file })
    }

    /// Where the unfinished file stands.
    pub fn unfinished(&self) -> PathBuf {
        self.file.unfinished()
    }

    /// Adds a request, which comes no earlier than the one before.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        self.writer.write(record).map_err(|error| Error::io(&self.path, "write the trace", &error))
    }

    /// Publishes the file.
    pub fn finish(self) -> Result<()> {
        self.writer.finish().map_err(|error| Error::io(&self.path, "write the trace", &error))?;
        self.file.publish()
    }
}

/// Copies a trace to its end and publishes it; the number of requests.
pub fn convert(from: &mut TraceReader, mut to: TraceFile) -> Result<u64> {
    let mut record = Record::default();
    let mut requests = 0;
    while from.read(&mut record)? {
        to.write(&record)?;
        requests += 1;
    }
    to.finish()?;
    Ok(requests)
}
