//! The requests of a run as a trace, which `replay` plays in open loop.

use std::path::{Path, PathBuf};

use crate::client::key::PromptCacheKey;
use crate::client::request::Request;
use crate::error::{Error, Result};
use crate::experiment::convert::TraceFile;
use crate::experiment::scenario::Loaded;
use crate::input::trace::{Description, IdScope, Record, TimeUnit};
use crate::prompt::{PathStep, PrefixTree, Run};
use crate::units::SimTime;

/// Prompts are cut anywhere, so that an id must stand for one token; runs of them cost no more.
const DESCRIPTION: Description =
    Description { block_tokens: 1, time_unit: TimeUnit::Ns, ids: IdScope::Global };

/// A trace that is being written while a run is played.
pub struct TraceLog {
    file: TraceFile,
    record: Record,
    path: Vec<PathStep>,
    failed: Option<Error>,
}

impl TraceLog {
    /// Begins a file for a run of this scenario.
    pub fn create(path: &Path, loaded: &Loaded) -> Result<Self> {
        let client = &loaded.scenario.client;
        if client.partitions().len() > 1 || client.gateway.accounts > 1 {
            let message =
                "a trace has no partitions or accounts, and this scenario has several: leave --trace out";
            return Err(Error::input(path.display(), message));
        }
        let file = TraceFile::create(path, &DESCRIPTION)?;
        Ok(Self { file, record: Record::default(), path: Vec::new(), failed: None })
    }

    /// Where the unfinished file stands.
    pub fn unfinished(&self) -> PathBuf {
        self.file.unfinished()
    }

    /// Adds a request that arrives at a time; its prompt stands in `tree`. A failure is reported when the file is
    /// finished.
    pub fn write(&mut self, arrival: SimTime, request: &Request, tree: &PrefixTree) {
        if self.failed.is_some() {
            return;
        }
        let Record {
            line,
            time,
            prompt_tokens,
            output_tokens,
            runs,
            named_tokens,
            session,
            key,
            first256,
            ..
        } = &mut self.record;
        *line += 1;
        *time = arrival;
        *prompt_tokens = request.prompt.tokens();
        *output_tokens = request.output_tokens;
        // What no other request contains needs no ids.
        *named_tokens = request.prompt.shareable.depth;
        *session = Some(format!("{}-{}", request.workload, request.session));
        *key = (request.key != PromptCacheKey::None).then(|| request.key.to_string());
        *first256 = Some(format!("{:016x}", request.prompt.head));
        self.path.clear();
        self.path.extend(tree.path(request.prompt.shareable));
        runs.clear();
        let steps = self.path.iter().rev().filter(|step| step.leave > step.start);
        runs.extend(steps.map(|step| on_edge(step, tree)));
        self.failed = self.file.write(&self.record).err();
    }

    /// Publishes the file.
    pub fn finish(self) -> Result<()> {
        match self.failed {
            Some(error) => Err(error),
            None => self.file.finish(),
        }
    }
}

/// A stretch of an edge: prompts share what they share of their edges, and every edge ever made has ids of its own.
fn on_edge(step: &PathStep, tree: &PrefixTree) -> Run {
    Run { content: u64::from(tree.serial(step.edge)) << 32, pieces: step.leave - step.start, piece_tokens: 1 }
}
