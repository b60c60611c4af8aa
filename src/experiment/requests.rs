//! One row for each request, in the order of processing.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::experiment::results::Unpublished;
use crate::simulation::outcome::{Cause, Outcome};
use crate::units::Span;

/// A CSV file of requests that appears, whole, when it is finished.
pub struct RequestLog {
    path: PathBuf,
    writer: csv::Writer<BufWriter<File>>,
    file: Unpublished,
    failed: Option<csv::Error>,
}

const COLUMNS: [&str; 17] = [
    "request",
    "line",
    "arrival_s",
    "workload",
    "session",
    "turn",
    "key",
    "partition",
    "machine",
    "overflowed",
    "prompt_tokens",
    "cached_tokens",
    "written_tokens",
    "output_tokens",
    "wait_ms",
    "ttft_ms",
    "total_ms",
];

impl RequestLog {
    /// Begins a file.
    pub fn create(path: &Path) -> Result<Self> {
        let file = Unpublished::beside(path)?;
        let mut writer = csv::Writer::from_writer(BufWriter::new(file.handle()?));
        let lost = Cause::ALL.iter().map(|cause| format!("lost_{}_tokens", cause.name()));
        let ceilings = ["ceiling_infinite_tokens", "ceiling_lifetime_tokens"].map(String::from);
        let later = ["occasion", "attempt", "failed", "contaminated"].map(String::from);
        let header = COLUMNS.map(String::from).into_iter().chain(lost).chain(ceilings).chain(later);
        let failed = writer.write_record(header).err();
        Ok(Self { path: path.to_path_buf(), writer, file, failed })
    }

    /// Where the unfinished file stands.
    pub fn unfinished(&self) -> PathBuf {
        self.file.unfinished()
    }

    /// Adds a request. A failure is reported when the file is finished.
    pub fn write(&mut self, outcome: &Outcome) {
        if self.failed.is_some() {
            return;
        }
        let seconds = Span(outcome.arrival.0);
        let mut fields = vec![
            outcome.call.to_string(),
            if outcome.line == 0 { String::new() } else { outcome.line.to_string() },
            format!("{}.{:09}", seconds.0 / 1_000_000_000, seconds.0 % 1_000_000_000),
            outcome.workload.to_string(),
            outcome.session.to_string(),
            outcome.turn.to_string(),
            outcome.key.to_string(),
            outcome.partition.to_string(),
            outcome.machine.0.to_string(),
            u8::from(outcome.overflowed).to_string(),
            outcome.prompt.to_string(),
            outcome.cached.to_string(),
            outcome.written.to_string(),
            outcome.output.to_string(),
        ];
        let timing = outcome.timing;
        fields.extend([timing.wait, timing.ttft, timing.total].map(|span| span.millis().to_string()));
        match &outcome.attribution {
            Some(attribution) => {
                fields.extend(attribution.lost.iter().map(ToString::to_string));
                fields.push(attribution.ceiling_infinite.to_string());
                fields.push(attribution.ceiling_lifetime.to_string());
            }
            None => fields.extend(std::iter::repeat_n(String::new(), Cause::ALL.len() + 2)),
        }
        fields.extend([
            outcome.occasion.name().to_string(),
            outcome.attempt.to_string(),
            u8::from(outcome.failed).to_string(),
            u8::from(outcome.contaminated).to_string(),
        ]);
        self.failed = self.writer.write_record(fields).err();
    }

    /// Publishes the file.
    pub fn finish(mut self) -> Result<()> {
        let flushed = match self.failed.take() {
            Some(error) => Err(error.into()),
            None => self.writer.flush(),
        };
        flushed.map_err(|error| Error::io(&self.path, "write", &error))?;
        drop(self.writer);
        self.file.publish()
    }
}
