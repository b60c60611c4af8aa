//! Lines of a text file, plain or gzip: one at a time, none longer than a limit, whatever the file is.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// The longest line that is read into memory, in bytes.
pub(super) const LINE_LIMIT: usize = 64 << 20;
/// Bytes read at once.
pub(super) const BUFFER: usize = 256 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What a bad line gets: what is wrong, without its place.
pub(super) type Parsed<T> = std::result::Result<T, String>;

/// The bytes of a file, unpacked if it is gzip.
#[derive(Debug)]
pub(super) enum Unpacked {
    Plain(BufReader<File>),
    Gzip(Box<BufReader<MultiGzDecoder<BufReader<File>>>>),
}

/// Reads a file line by line.
#[derive(Debug)]
pub(super) struct TextLines {
    source: Unpacked,
    /// The bytes of the current line; more than the limit if it is too long.
    pub line: Vec<u8>,
    /// Its number, from 1.
    pub number: u64,
}

impl Unpacked {
    /// The bytes of a file that was opened and looked into.
    pub fn new(mut plain: BufReader<File>) -> io::Result<Self> {
        Ok(if plain.fill_buf()?.starts_with(&GZIP_MAGIC) {
            Self::Gzip(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(plain))))
        } else {
            Self::Plain(plain)
        })
    }

    /// The reader.
    pub fn bytes(&mut self) -> &mut dyn BufRead {
        match self {
            Self::Plain(file) => file,
            Self::Gzip(decoder) => decoder,
        }
    }

    /// What a failure to read means.
    pub fn trouble(&self, error: &io::Error) -> String {
        match self {
            Self::Plain(_) => format!("cannot read the file: {error}"),
            Self::Gzip(_) => {
                format!("cannot unpack the file: {error}; the gzip file is damaged or cut off")
            }
        }
    }
}

impl TextLines {
    /// The lines of a file that was opened and looked into.
    pub fn new(plain: BufReader<File>) -> io::Result<Self> {
        Ok(Self { source: Unpacked::new(plain)?, line: Vec::new(), number: 0 })
    }

    /// Moves to the next line that is not blank; false at the end of the file.
    pub fn advance(&mut self) -> Parsed<bool> {
        loop {
            self.number += 1;
            self.line.clear();
            match fill_line(self.source.bytes(), &mut self.line) {
                Ok(false) => return Ok(false),
                Ok(true) if self.line.trim_ascii().is_empty() => (),
                Ok(true) => return Ok(true),
                Err(error) => return Err(self.source.trouble(&error)),
            }
        }
    }

    /// The current line as text, without a byte order mark and the blanks before it.
    pub fn text(&self) -> Parsed<&str> {
        if self.line.len() > LINE_LIMIT {
            let limit = LINE_LIMIT >> 20;
            return Err(format!("the line is longer than {limit} MiB, the limit of one request"));
        }
        text_of(&self.line)
    }
}

/// Bytes as text. Some editors put a byte order mark before it.
pub(super) fn text_of(bytes: &[u8]) -> Parsed<&str> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let byte = error.valid_up_to() + 1;
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            format!("the line is not UTF-8 text at byte {byte}: it looks like UTF-16; save the file as UTF-8")
        } else if error.error_len().is_none() {
            "the line is cut off in the middle of a character".into()
        } else {
            format!("the line is not UTF-8 text at byte {byte}: save the file as UTF-8, plain or gzip")
        }
    })?;
    Ok(text.trim_start_matches('\u{feff}').trim_ascii_start())
}

/// Appends the next line without its end to `line`; false at the end of the file. Of a line over the limit, only
/// the first byte too many is kept.
fn fill_line(source: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    let read = Read::take(&mut *source, LINE_LIMIT as u64 + 1).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > LINE_LIMIT {
        source.skip_until(b'\n')?;
    }
    Ok(read > 0)
}
