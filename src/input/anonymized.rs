//! Anonymized log: JSON lines, a call each, with hashes in place of text and names.
//!
//! Sessions, keys and identities of prompts are names made of salted hashes; of settings, only the vendors' own words are
//! kept. A part of a prompt keeps its role, its marks and where it stands, and in place of its text it has
//! [stretches](crate::input::stretches), each a hash and a number of tokens. Times are integers of nanoseconds, so that
//! what was read is what was written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::input::call::{Body, Call, Content, Part, Role, Settings, Usage};
use crate::input::fields::{Fields, json_trouble};
use crate::input::public_words::{is_public, public_path, public_start};
use crate::input::request_log::Step;
use crate::input::salt::Salt;
use crate::input::text_lines::Parsed;
use crate::input::trace::TIME_LIMIT;
use crate::units::{SimTime, Span, Tokens};

/// The version of this form.
const VERSION: u32 = 1;
/// The most tokens of a prompt.
const LONGEST: u64 = 1 << 23;

/// A call as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The version of this form, by which it is known.
    anonymized: u32,
    /// Line in the log that was anonymized.
    line: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    settings: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retention: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    explicit_only: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    continues: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompt_tokens: Option<Tokens>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<Tokens>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    written_tokens: Option<Tokens>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_tokens: Option<Tokens>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttft_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<Piece>>,
}

/// A part as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Piece {
    path: String,
    role: Role,
    #[serde(default, skip_serializing_if = "is_false")]
    opens_message: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    ends_message: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    marked: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phase: Option<String>,
    /// What stands for all of it.
    hash: Hash,
    stretches: Vec<(Hash, Tokens)>,
}

/// A hash, as sixteen hexadecimal digits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Hash(u64);

impl From<Hash> for String {
    fn from(Hash(hash): Hash) -> Self {
        format!("{hash:016x}")
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let hash = u64::from_str_radix(&text, 16).ok().filter(|_| digits);
        hash.map(Hash).ok_or("a hash has 16 hexadecimal digits")
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Whether an object is a call of this form.
pub(super) fn is_entry(fields: &Fields<'_>) -> bool {
    fields.has("line") && fields.get("anonymized").is_some_and(|version| version.get().parse::<u32>().is_ok())
}

/// Reads a line.
pub(super) fn line(text: &str) -> Parsed<Step> {
    let entry: Entry = serde_json::from_str(text).map_err(|error| json_trouble(&error))?;
    if entry.anonymized != VERSION {
        return Err(format!(
            "is of version {} of this form: it must be {VERSION}, or this program is too old for it",
            entry.anonymized
        ));
    }
    entry.call().map(|call| Step::Call(Box::new(call)))
}

/// A call as a line, without its end. `contents` stand in place of what its parts say.
pub fn write(call: &Call, contents: Option<Vec<Content>>, salt: &Salt) -> String {
    let name = |subject: &str, name: &Option<String>| name.as_ref().map(|name| salt.name(subject, name));
    let public = |setting: &str, value: &String| {
        let subject = setting.rsplit('.').next().unwrap_or(setting);
        match setting {
            _ if is_public(setting, value) => value.clone(),
            // The family stays: a replay takes the provider that it names.
            "model" if !public_start(value).is_empty() => {
                format!("{}-{}", public_start(value), salt.name(subject, value))
            }
            _ => salt.name(subject, value),
        }
    };
    let parts = call.body.as_ref().zip(contents).map(|(body, contents)| {
        let phase = |part: &Part| part.phase.as_ref().map(|phase| public("phase", phase));
        body.parts
            .iter()
            .zip(contents)
            .map(|(part, content)| Piece::new(part, phase(part), content))
            .collect()
    });
    let Settings { prefix, retention, explicit_only } = &call.settings;
    let Usage { prompt_tokens, cached_tokens, written_tokens, output_tokens } = call.usage;
    let entry = Entry {
        anonymized: VERSION,
        line: call.line,
        time_ns: call.time.map(|time| time.0),
        session: name("session", &call.session),
        key: name("key", &call.key),
        prompt: name("prompt", &call.prompt),
        settings: prefix.iter().map(|(name, value)| (name.to_string(), public(name, value))).collect(),
        retention: retention.as_ref().map(|policy| public("retention", policy)),
        explicit_only: *explicit_only,
        continues: call.continues,
        prompt_tokens,
        cached_tokens,
        written_tokens,
        output_tokens,
        ttft_ns: call.ttft.map(|span| span.0),
        total_ns: call.total.map(|span| span.0),
        parts,
    };
    serde_json::to_string(&entry)
        .unwrap_or_else(|_| unreachable!("texts, integers and lists of them are JSON"))
}

impl Piece {
    fn new(part: &Part, phase: Option<String>, content: Content) -> Self {
        let (digest, stretches) = match content {
            Content::Hashed { digest, stretches } => (digest, stretches),
            Content::Text(_) | Content::Sized { .. } => unreachable!("text is cut before it is written"),
        };
        Self {
            path: public_path(&part.path).to_string(),
            role: part.role,
            opens_message: part.opens_message,
            ends_message: part.ends_message,
            marked: part.marked,
            phase,
            hash: Hash(digest),
            stretches: stretches.into_iter().map(|(hash, tokens)| (Hash(hash), tokens)).collect(),
        }
    }

    fn part(self) -> Part {
        let stretches = self.stretches.into_iter().map(|(hash, tokens)| (hash.0, tokens)).collect();
        Part {
            path: self.path,
            role: self.role,
            content: Content::Hashed { digest: self.hash.0, stretches },
            opens_message: self.opens_message,
            ends_message: self.ends_message,
            marked: self.marked,
            phase: self.phase,
        }
    }
}

impl Entry {
    fn call(self) -> Parsed<Call> {
        let usage = Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            written_tokens: self.written_tokens,
            output_tokens: self.output_tokens,
        };
        usage.check()?;
        if self.parts.is_none() && usage.prompt_tokens.is_none() {
            return Err("has neither `parts` nor `prompt_tokens`".into());
        }
        if self.time_ns.is_some_and(|time| time >= TIME_LIMIT) {
            return Err("`time_ns` is no time of ours".into());
        }
        let stretches = self.parts.iter().flatten().flat_map(|part| &part.stretches);
        if stretches.map(|(_, tokens)| u64::from(*tokens)).sum::<u64>() > LONGEST {
            return Err(format!("the prompt is longer than {LONGEST} tokens"));
        }
        let body = self.parts.map(|parts| Body { parts: parts.into_iter().map(Piece::part).collect() });
        Ok(Call {
            line: self.line,
            time: self.time_ns.map(SimTime),
            session: self.session,
            key: self.key,
            prompt: self.prompt,
            head: None,
            settings: Settings {
                prefix: prefix(self.settings)?,
                retention: self.retention,
                explicit_only: self.explicit_only,
            },
            body,
            continues: self.continues,
            usage,
            ttft: self.ttft_ns.map(Span),
            total: self.total_ns.map(Span),
        })
    }
}

/// The settings under the names that they have here.
fn prefix(settings: BTreeMap<String, String>) -> Parsed<BTreeMap<&'static str, String>> {
    let named = settings.into_iter().map(|(name, value)| {
        let known = Settings::NAMES.iter().find(|known| **known == name);
        known
            .map(|name| (*name, value))
            .ok_or_else(|| format!("`settings` has a name that is none of {}", Settings::NAMES.join(", ")))
    });
    named.collect()
}
