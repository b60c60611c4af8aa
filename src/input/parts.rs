//! Parts: the values of a request's JSON -> the parts of a prompt, in the order in which they are rendered.
//!
//! What both vendors' bodies share: texts, images, files, marks, and anything unknown, which stays in the prompt as its
//! compact JSON. A mark is no part of the text: a client moves it from turn to turn, and the prompt stays the same.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::input::call::{Content, Part, Role};
use crate::input::text_lines::Parsed;
use crate::units::Tokens;

/// An image with `detail: low`, in tokens (`doc`: OpenAI's guide on vision, gpt-4o and its relatives).
const LOW_DETAIL: Tokens = 85;
/// Each tile of 512 x 512 of an image in full detail, beside [`LOW_DETAIL`] (`doc`: same guide).
const TILE: Tokens = 170;
/// An image of OpenAI's without a declared size (`guess`: 1,024 x 1,024, which that guide works out as four tiles).
const OPENAI_IMAGE: Tokens = 765;
/// Pixels of an image for each token of Anthropic's (`doc`: its guide on vision).
const PIXELS_PER_TOKEN: u64 = 750;
/// An image of Anthropic's without a declared size (`guess`: the largest that it does not scale down; `doc`: about 1,600).
const ANTHROPIC_IMAGE: Tokens = 1_600;
/// A file or a recording, whose pages or seconds no body declares (`guess`: one page of a PDF; Anthropic's guide says
/// 1,500 to 3,000 a page).
const FILE: Tokens = 2_000;
/// Characters of encrypted reasoning for each of its tokens (`guess`: base64 of some four bytes a token).
const ENCRYPTED_PER_TOKEN: usize = 6;

/// Fields that mark the end of a value for the cache.
const MARKS: [&str; 2] = ["prompt_cache_breakpoint", "cache_control"];
/// Fields of an item that the API keeps for itself: an item sent back may have them or not.
const BOOKKEEPING: [&str; 2] = ["id", "status"];

/// The parts of a prompt as they come together.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: Vec<Part>,
    /// The first lifetime that a mark asks for (vendors want the longest first).
    ttl: Option<String>,
}

impl Parts {
    /// The parts, and the lifetime that marks ask for.
    pub fn finish(self) -> (Vec<Part>, Option<String>) {
        (self.parts, self.ttl)
    }

    /// One message: whatever `fill` adds; without that, a message without content.
    pub fn message(
        &mut self,
        path: &str,
        role: Role,
        fill: impl FnOnce(&mut Self) -> Parsed<()>,
    ) -> Parsed<()> {
        let first = self.parts.len();
        fill(self)?;
        if self.parts.len() == first {
            self.text(path, role, "");
        }
        if let [only] = &mut self.parts[first..] {
            (only.opens_message, only.ends_message) = (true, true);
        } else if let [first, .., last] = &mut self.parts[first..] {
            (first.opens_message, last.ends_message) = (true, true);
        }
        Ok(())
    }

    /// A text.
    pub fn text(&mut self, path: impl Into<String>, role: Role, text: impl Into<String>) {
        self.parts.push(Part::text(path, role, text));
    }

    /// Anything of declared size, told apart by what stands for it.
    pub fn sized(&mut self, path: impl Into<String>, role: Role, tokens: Tokens, identity: &str) {
        let content = Content::Sized { tokens, digest: digest(identity) };
        self.parts.push(Part { content, ..Part::text(path, role, "") });
    }

    /// The compact JSON of a value.
    pub fn json(&mut self, path: impl Into<String>, role: Role, value: &Value) {
        self.text(path, role, bare(value).to_string());
    }

    /// The list of tools, one part each.
    pub fn tools(&mut self, name: &str, tools: &[Value]) {
        for (number, tool) in tools.iter().enumerate() {
            self.json(format!("{name}[{number}]"), Role::Tools, tool);
            self.mark(tool);
        }
    }

    /// Marks the last part if the client marked the value that ends with it.
    pub fn mark(&mut self, value: &Value) {
        let Some(mark) = MARKS.iter().find_map(|name| value.get(name).filter(|mark| is_set(mark))) else {
            return;
        };
        self.mark_last();
        let ttl = mark.get("ttl").and_then(Value::as_str);
        // A mark without a lifetime asks for the vendor's own: five minutes, in the one API whose marks have any.
        let default = value.get("cache_control").map(|_| "5m");
        self.ttl = self.ttl.take().or(ttl.or(default).map(String::from));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Notes the phase of the message that begins with a part. A word of the API's is short; anything else is no phase.
    pub fn phase(&mut self, first: usize, message: &Value) {
        let word =
            |text: &&str| text.len() <= 32 && text.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
        if let Some(part) = self.parts.get_mut(first) {
            part.phase = message.get("phase").and_then(Value::as_str).filter(word).map(String::from);
        }
    }

    /// Marks the last part.
    pub fn mark_last(&mut self) {
        if let Some(last) = self.parts.last_mut() {
            last.marked = true;
        }
    }

    /// The content of a message: a text, or a list of blocks of which `special` takes those that it knows.
    pub fn content(
        &mut self,
        path: &str,
        role: Role,
        content: &Value,
        special: &dyn Fn(&mut Self, &str, &Value) -> Parsed<bool>,
    ) -> Parsed<()> {
        match content {
            Value::Null => (),
            Value::String(text) => self.text(path, role, text),
            Value::Array(blocks) => {
                for (number, block) in blocks.iter().enumerate() {
                    let path = format!("{path}[{number}]");
                    if !special(self, &path, block)? {
                        self.block(&path, role, block)?;
                    }
                    self.mark(block);
                }
            }
            Value::Object(_) => self.json(path, role, content),
            Value::Bool(_) | Value::Number(_) => {
                return Err(format!("`{path}` is no text and no list: it must be one of them"));
            }
        }
        Ok(())
    }

    /// A block of a message that is no call of a tool.
    fn block(&mut self, path: &str, role: Role, block: &Value) -> Parsed<()> {
        let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
        let text = |name: &str| block.get(name).and_then(Value::as_str);
        match (kind, block) {
            (_, Value::String(text)) => self.text(path, role, text),
            ("text" | "input_text" | "output_text" | "summary_text" | "reasoning_text", _) => {
                let text = text("text").ok_or_else(|| format!("`{path}.text` is no text"))?;
                self.text(format!("{path}.text"), role, text);
            }
            ("refusal", _) => self.text(format!("{path}.refusal"), role, text("refusal").unwrap_or_default()),
            ("input_image" | "image_url", _) => {
                self.sized(path, role, openai_image(block), &identity(block));
            }
            ("image", _) => self.sized(path, role, anthropic_image(block), &identity(block)),
            ("document", _) => self.document(path, role, block)?,
            ("input_file" | "file" | "input_audio" | "audio", _) => {
                self.sized(path, role, FILE, &identity(block));
            }
            _ => self.json(path, role, block),
        }
        Ok(())
    }

    /// A document of Anthropic's: a text, blocks, or a file.
    fn document(&mut self, path: &str, role: Role, block: &Value) -> Parsed<()> {
        let source = block.get("source").unwrap_or(&Value::Null);
        match (source.get("type").and_then(Value::as_str), source.get("data"), source.get("content")) {
            (Some("text"), Some(Value::String(text)), _) => {
                self.text(format!("{path}.source.data"), role, text);
            }
            (Some("content"), _, Some(content)) => {
                self.content(&format!("{path}.source.content"), role, content, &|_, _, _| Ok(false))?;
            }
            _ => self.sized(path, role, FILE, &identity(block)),
        }
        Ok(())
    }

    /// Reasoning that is sent back: encrypted, as a summary, or in words.
    pub fn reasoning(&mut self, path: &str, item: &Value) -> Parsed<()> {
        if let Some(encrypted) = item.get("encrypted_content").and_then(Value::as_str) {
            let tokens = encrypted.len().div_ceil(ENCRYPTED_PER_TOKEN).min(1 << 30) as Tokens;
            self.sized(format!("{path}.encrypted_content"), Role::Reasoning, tokens, encrypted);
            return Ok(());
        }
        let before = self.parts.len();
        for name in ["summary", "content"] {
            if let Some(content) = item.get(name) {
                self.content(&format!("{path}.{name}"), Role::Reasoning, content, &|_, _, _| Ok(false))?;
            }
        }
        if self.parts.len() == before {
            self.json(path, Role::Reasoning, item);
        }
        Ok(())
    }
}

/// Whether a mark is there: `false` and `null` take it back.
fn is_set(mark: &Value) -> bool {
    !matches!(mark, Value::Null | Value::Bool(false))
}

/// A value without marks and bookkeeping.
fn bare(value: &Value) -> Value {
    let Value::Object(fields) = value else { return value.clone() };
    let kept = |name: &str| !MARKS.contains(&name) && !BOOKKEEPING.contains(&name);
    let fields = fields.iter().filter(|(name, _)| kept(name));
    Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>())
}

/// What tells an image or a file apart: the value without what may change beside it.
fn identity(block: &Value) -> String {
    let body = ["image_url", "source", "file_data", "file_url", "file_id", "file", "input_audio"];
    let found = body.iter().find_map(|name| block.get(name));
    let found = found.map(|value| value.get("url").unwrap_or(value));
    found.map_or_else(
        || bare(block).to_string(),
        |value| value.as_str().map_or_else(|| value.to_string(), String::from),
    )
}

fn digest(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    u64::from_le_bytes(std::array::from_fn(|byte| digest[byte]))
}

/// Width and height, if the block or what it holds declares them.
fn declared_size(block: &Value) -> Option<(u64, u64)> {
    let side =
        |value: &Value, name: &str| value.get(name)?.as_u64().filter(|side| (1..=1 << 20).contains(side));
    let size = |value: &Value| Some((side(value, "width")?, side(value, "height")?));
    size(block).or_else(|| ["image_url", "source"].iter().find_map(|name| size(block.get(name)?)))
}

/// Tokens of an image by OpenAI's rule for tiles: it is scaled into 2,048 x 2,048, then its shorter side to 768.
fn openai_image(block: &Value) -> Tokens {
    let detail =
        block.get("detail").or_else(|| block.get("image_url")?.get("detail")).and_then(Value::as_str);
    if detail == Some("low") {
        return LOW_DETAIL;
    }
    let Some((width, height)) = declared_size(block) else { return OPENAI_IMAGE };
    let (long, short) = (width.max(height), width.min(height));
    let (long, short) = if long > 2048 { (2048, (short * 2048 / long).max(1)) } else { (long, short) };
    let (long, short) = if short > 768 { (long * 768 / short, 768) } else { (long, short) };
    LOW_DETAIL + TILE * (long.div_ceil(512) * short.div_ceil(512)) as Tokens
}

/// Tokens of an image by Anthropic's rule.
fn anthropic_image(block: &Value) -> Tokens {
    let size = declared_size(block).map(|(width, height)| (width * height).div_ceil(PIXELS_PER_TOKEN));
    // Larger images are scaled down before they are counted.
    size.map_or(ANTHROPIC_IMAGE, |tokens| tokens.min(u64::from(ANTHROPIC_IMAGE)) as Tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn images_count_by_their_declared_size() {
        for (image, tokens) in [
            (json!({"type": "input_image", "detail": "low", "image_url": "u"}), 85),
            (json!({"type": "input_image", "detail": "high", "image_url": "u"}), 765),
            (json!({"type": "image_url", "image_url": {"url": "u", "width": 1024, "height": 1024}}), 765),
            (json!({"type": "image_url", "image_url": {"url": "u", "width": 2048, "height": 4096}}), 1105),
            (json!({"type": "image_url", "image_url": {"url": "u", "detail": "low"}}), 85),
        ] {
            assert_eq!(openai_image(&image), tokens, "{image}");
        }
        let source =
            json!({"type": "image", "source": {"type": "url", "url": "u", "width": 750, "height": 400}});
        assert_eq!(anthropic_image(&source), 400);
        assert_eq!(anthropic_image(&json!({"type": "image"})), 1600);
    }

    #[test]
    fn a_mark_is_no_part_of_the_text() {
        let tool = json!({"name": "a", "cache_control": {"type": "ephemeral"}, "input_schema": {"id": 1}});
        let mut parts = Parts::default();
        parts.tools("tools", &[tool]);
        let (parts, ttl) = parts.finish();
        assert_eq!(parts[0].content, Content::Text(r#"{"name":"a","input_schema":{"id":1}}"#.into()));
        assert!(parts[0].marked && ttl.as_deref() == Some("5m"));
    }
}
