//! A log of a user's own as one that can be shared: hashes in place of text and names, the same numbers when it is
//! replayed.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::experiment::results::Unpublished;
use crate::input::anonymized;
use crate::input::call::Call;
use crate::input::calls::{Calls, LogKind};
use crate::input::log::LogFormat;
use crate::input::salt::Salt;
use crate::input::stretches::Stretches;
use crate::input::trace::Skipped;
use crate::units::{SimTime, Span};

/// How a log is anonymized.
pub struct Anonymizer<'a> {
    /// The log.
    pub log: &'a Path,
    /// How it is read; no message overhead is needed.
    pub format: LogFormat,
    /// Times are rounded down to multiples of this.
    pub round_times: Option<Span>,
}

/// What was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The form of the log.
    pub kind: LogKind,
    /// Calls that were written.
    pub calls: u64,
    /// Of them, those with a body.
    pub bodies: u64,
    /// Distinct stretches that stand for their text.
    pub stretches: usize,
    /// Distinct sessions.
    pub sessions: usize,
    /// Distinct keys.
    pub keys: usize,
    /// Bad lines that were left out.
    pub skipped: Skipped,
    /// Calls that failed, or of which nothing is known.
    pub without_usage: u64,
}

impl Anonymizer<'_> {
    /// Reads the log twice, first for where its prompts part, and publishes what is written.
    pub fn write(&self, salt: Salt, file: Unpublished) -> Result<Replaced> {
        let mut stretches = Stretches::new(self.format.vocabulary, salt);
        let learned = self.learn(&mut stretches)?;
        let mut out = BufWriter::new(file.handle()?);
        let mut put = |line: String| writeln!(out, "{line}").map_err(|error| file.failed(&error));
        // Rounding makes different times equal: in the order of time, equal ones stay as they were.
        let mut in_time: Vec<(Option<SimTime>, String)> = Vec::new();
        let replaced = self.cut(&mut stretches, |time, line| {
            if self.round_times.is_none() {
                return put(line);
            }
            in_time.push((time, line));
            Ok(())
        })?;
        in_time.sort_by_key(|(time, _)| *time);
        in_time.into_iter().try_for_each(|(_, line)| put(line))?;
        out.flush().map_err(|error| file.failed(&error))?;
        drop(out);
        if replaced.calls != learned {
            return Err(self.changed());
        }
        file.publish()?;
        Ok(replaced)
    }

    fn open(&self) -> Result<Calls> {
        Calls::open(self.log, self.format.kind, self.format.skip_bad)
    }

    /// The first reading; the number of calls.
    fn learn(&self, stretches: &mut Stretches) -> Result<u64> {
        let mut calls = self.open()?;
        let mut learned = 0;
        while let Some(call) = calls.next_call()? {
            if let Some(body) = &call.body {
                stretches.learn(body);
            }
            learned += 1;
        }
        Ok(learned)
    }

    /// The second reading; each line with the time that it was at.
    fn cut(
        &self,
        stretches: &mut Stretches,
        mut put: impl FnMut(Option<SimTime>, String) -> Result<()>,
    ) -> Result<Replaced> {
        let mut calls = self.open()?;
        let (mut written, mut bodies) = (0, 0);
        let (mut sessions, mut keys) = (BTreeSet::new(), BTreeSet::new());
        while let Some(mut call) = calls.next_call()? {
            let contents = match &call.body {
                Some(body) => Some(stretches.cut(body).ok_or_else(|| self.changed())?),
                None => None,
            };
            let time = call.time;
            self.round(&mut call);
            put(time, anonymized::write(&call, contents, stretches.salt()))?;
            written += 1;
            bodies += u64::from(call.body.is_some());
            sessions.extend(call.session);
            keys.extend(call.key);
        }
        Ok(Replaced {
            kind: calls.kind(),
            calls: written,
            bodies,
            stretches: stretches.hashed(),
            sessions: sessions.len(),
            keys: keys.len(),
            skipped: calls.skipped().clone(),
            without_usage: calls.without_usage(),
        })
    }

    fn round(&self, call: &mut Call) {
        if let (Some(time), Some(Span(unit))) = (&mut call.time, self.round_times.filter(|unit| unit.0 > 0)) {
            time.0 -= time.0 % unit;
        }
    }

    fn changed(&self) -> Error {
        Error::input(self.log.display(), "has changed while it was read: try again")
    }
}
