//! One page with everything in it: style, script and data, no network. Text of the data is only ever set as text; the data
//! stands in the page once, as JSON in which nothing can end the element that holds it.

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::report::Report;
use crate::report::draw::escaped;

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &[&str] = &[
    include_str!("page/data.js"),
    include_str!("page/draw.js"),
    include_str!("page/forms.js"),
    include_str!("page/tables.js"),
    include_str!("page/page.js"),
];

/// The page of a report.
pub fn html(report: &Report) -> Result<String> {
    let data = serde_json::to_string(report).map_err(|error| Error::input(super::PAGE, error))?;
    let name = report.about.as_ref().map_or(report.folder.as_str(), |about| about.name.as_str());
    let script = format!("\"use strict\";\n{}", SCRIPT.concat());
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; base-uri 'none'; form-action 'none'",
        source(&script),
        source(STYLE)
    );
    let filled = |slot: &str| match slot {
        "policy" => policy.clone(),
        "title" => escaped(&format!("{name}: cachecast report")),
        "style" => STYLE.to_string(),
        "script" => script.clone(),
        "data" => inert(&data),
        _ => String::new(),
    };
    // Filled once from the front to the end, so that nothing in the data is taken for a slot.
    let mut page = String::with_capacity(HTML.len() + data.len() + script.len() + STYLE.len());
    let mut pieces = HTML.split("{{");
    page.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (slot, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        page.push_str(&filled(slot));
        page.push_str(rest);
    }
    Ok(page)
}

/// JSON that is JSON still, and in which neither HTML nor an old script sees anything but letters.
fn inert(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{7f}'..='\u{9f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// How a content security policy names a text.
fn source(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digest = Sha256::digest(text.as_bytes());
    let mut base64 = String::from("sha256-");
    for bytes in digest.chunks(3) {
        let three = [bytes[0], *bytes.get(1).unwrap_or(&0), *bytes.get(2).unwrap_or(&0)];
        let word = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..=bytes.len() {
            base64.push(char::from(DIGITS[(word >> (18 - 6 * place)) as usize & 63]));
        }
        base64.extend(std::iter::repeat_n('=', 3 - bytes.len()));
    }
    base64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_data_ends_its_element() {
        let hostile = serde_json::json!({ "a": "</script><!--<script>&\u{2028}\u{2029}" }).to_string();
        let inert = inert(&hostile);
        assert!(inert.is_ascii() && !inert.contains(['<', '>', '&']));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&inert).unwrap(),
            serde_json::from_str::<serde_json::Value>(&hostile).unwrap()
        );
    }

    #[test]
    fn a_text_is_named_as_browsers_name_it() {
        // The example of the specification.
        assert_eq!(source("alert('Hello, world.');"), "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
    }

    #[test]
    fn the_script_cannot_end_its_element() {
        assert!(SCRIPT.iter().all(|script| !script.contains("</script") && !script.contains("<!--")));
        assert!(!STYLE.contains("</style"));
    }
}
