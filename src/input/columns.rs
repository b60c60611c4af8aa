//! Columns: a trace as Parquet, compact and fast to read.
//!
//! One row is one request, with all that a replay needs and nothing else: the columns are those of [`SCHEMA`], and the
//! file's key-value metadata describes the numbers (`cachecast.block_tokens`, `cachecast.time_unit`, `cachecast.ids`).
//! Names of sessions, keys and `first256` are kept as they were written, because a replay hashes them.

use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData, KeyValue};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, Type};
use serde::de::DeserializeOwned;

use crate::input::trace::{Blocks, Description, MOST_TOKENS, Record, TIME_LIMIT};
use crate::units::{SimTime, Tokens};

/// How a Parquet file begins.
pub(super) const PARQUET_MAGIC: [u8; 4] = *b"PAR1";

/// The columns. `line` is the request's line in JSONL; `runs` are stretches of consecutive ids.
pub const SCHEMA: &str = "
    message trace {
        required int64 line (INTEGER(64, false));
        required int64 time_ns (INTEGER(64, false));
        required int32 prompt_tokens (INTEGER(32, false));
        required int32 output_tokens (INTEGER(32, false));
        required int32 named_tokens (INTEGER(32, false));
        optional binary session (STRING);
        optional binary key (STRING);
        optional binary first256 (STRING);
        required group runs (LIST) {
            repeated group list {
                required group element {
                    required int64 first (INTEGER(64, false));
                    required int32 count (INTEGER(32, false));
                }
            }
        }
    }";

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 1024;
/// Rows, and runs, that are written at a time: what the writer holds in memory.
const GROUP_ROWS: usize = 1 << 16;
const GROUP_RUNS: usize = 1 << 19;

/// What a bad row gets: what is wrong, without its place.
type Parsed<T> = std::result::Result<T, String>;

fn schema() -> Arc<Type> {
    Arc::new(parse_message_type(SCHEMA).expect("the schema is a schema"))
}

/// Reads by the Parquet crate, which asserts in its decoders what a damaged file may break.
pub(crate) fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let broken = |_| Err(ParquetError::General("its pages contradict themselves".into()));
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(broken)
}

fn caught<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Parsed<T> {
    guarded(read).map_err(damaged)
}

fn damaged(error: impl std::fmt::Display) -> String {
    format!("cannot read the Parquet trace: {error}; the file is damaged or cut off")
}

/// Reads a trace row by row.
pub(super) struct Columns {
    pub(super) description: Description,
    /// Number of the current row, from 1.
    pub(super) row: u64,
    last_line: u64,
    /// Length of the file.
    bytes: u64,
    file: SerializedFileReader<File>,
    next_group: usize,
    /// Rows of the group that are not decoded, and decoded ones that are not read.
    undecoded: usize,
    decoded: usize,
    rows: Rows,
}

/// Decoded rows, column by column.
#[derive(Default)]
struct Rows {
    line: Column<Int64Type>,
    time: Column<Int64Type>,
    prompt_tokens: Column<Int32Type>,
    output_tokens: Column<Int32Type>,
    named_tokens: Column<Int32Type>,
    session: Column<ByteArrayType>,
    key: Column<ByteArrayType>,
    first256: Column<ByteArrayType>,
    run_first: Column<Int64Type>,
    run_count: Column<Int32Type>,
}

impl std::fmt::Debug for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { description, row, .. } = self;
        f.debug_struct("Columns").field("description", description).field("row", row).finish_non_exhaustive()
    }
}

impl Columns {
    /// The rows of a file.
    pub fn new(file: File) -> Parsed<Self> {
        let bytes = file.metadata().map_err(damaged)?.len();
        let file = caught(|| SerializedFileReader::new(file))?;
        let metadata = file.metadata().file_metadata();
        if *metadata.schema() != *schema() {
            return Err(
                "the columns of this Parquet file are not those of a trace: make one of a JSONL trace by \
                `cachecast convert`"
                    .into(),
            );
        }
        let description = describe(metadata)?;
        let (row, last_line, next_group, undecoded, decoded) = (0, 0, 0, 0, 0);
        Ok(Self {
            description,
            row,
            last_line,
            bytes,
            file,
            next_group,
            undecoded,
            decoded,
            rows: Rows::default(),
        })
    }

    /// Moves to the next row; false at the end of the file.
    pub fn advance(&mut self) -> Parsed<bool> {
        self.row += 1;
        while self.decoded == 0 {
            if self.undecoded == 0 && !caught(|| self.open_group())? {
                return Ok(false);
            }
            caught(|| self.decode())?;
        }
        self.decoded -= 1;
        Ok(true)
    }

    /// Opens the next group of rows; false if there is none.
    fn open_group(&mut self) -> Result<bool, ParquetError> {
        if self.next_group >= self.file.num_row_groups() {
            return Ok(false);
        }
        let group = self.file.get_row_group(self.next_group)?;
        self.next_group += 1;
        let metadata = group.metadata();
        metadata.columns().iter().try_for_each(|chunk| check_place(chunk, self.bytes))?;
        self.undecoded = usize::try_from(metadata.num_rows())
            .map_err(|_| ParquetError::General("a group has fewer rows than none".into()))?;
        self.rows.open(&*group)?;
        Ok(true)
    }

    /// Decodes some rows of the group.
    fn decode(&mut self) -> Result<(), ParquetError> {
        let rows = self.undecoded.min(BATCH_ROWS);
        self.rows.decode(rows)?;
        self.undecoded -= rows;
        self.decoded = rows;
        Ok(())
    }

    /// Reads the current row into `record`.
    pub fn parse(&mut self, record: &mut Record) -> Parsed<()> {
        let rows = &mut self.rows;
        // Every column moves on, whatever is wrong in one.
        let (line, time) = (rows.line.next()?, rows.time.next()?);
        let (prompt_tokens, output_tokens) = (rows.prompt_tokens.next()?, rows.output_tokens.next()?);
        let named_tokens = rows.named_tokens.next()?;
        let (session, key) = (rows.session.next_optional()?, rows.key.next_optional()?);
        let first256 = rows.first256.next_optional()?;
        let (firsts, counts) = (rows.run_first.next_list()?, rows.run_count.next_list()?);
        record.line = *line as u64;
        let last = std::mem::replace(&mut self.last_line, record.line);
        if record.line <= last {
            return Err(format!(
                "`line` is {} behind {last}: every request has its own, in order",
                record.line
            ));
        }
        record.time = SimTime(*time as u64);
        if record.time.0 >= TIME_LIMIT {
            return Err(format!("`time_ns` is {}: it must be from 0 to 292 years", record.time.0));
        }
        record.prompt_tokens = tokens("prompt_tokens", *prompt_tokens)?;
        record.output_tokens = tokens("output_tokens", *output_tokens)?;
        copy_text("session", session, &mut record.session)?;
        copy_text("key", key, &mut record.key)?;
        copy_text("first256", first256, &mut record.first256)?;
        record.named_tokens = tokens("named_tokens", *named_tokens)?;
        if record.named_tokens > record.prompt_tokens {
            return Err(format!("`named_tokens` is above `prompt_tokens` {}", record.prompt_tokens));
        }
        let length = ("named_tokens", record.named_tokens);
        let mut blocks = Blocks::new(self.description.block_tokens, length, &mut record.runs);
        let counts = counts.iter().map(|count| u64::from(*count as u32));
        blocks.check_count(counts.clone().sum())?;
        if firsts.len() != counts.len() {
            return Err(format!("{} first ids of runs, but {} lengths", firsts.len(), counts.len()));
        }
        firsts.iter().zip(counts).try_for_each(|(first, count)| blocks.push(*first as u64, count))?;
        record.named_tokens = blocks.named_tokens();
        Ok(())
    }
}

impl Rows {
    fn open(&mut self, group: &dyn RowGroupReader) -> Result<(), ParquetError> {
        self.line.open(group, 0)?;
        self.time.open(group, 1)?;
        self.prompt_tokens.open(group, 2)?;
        self.output_tokens.open(group, 3)?;
        self.named_tokens.open(group, 4)?;
        self.session.open(group, 5)?;
        self.key.open(group, 6)?;
        self.first256.open(group, 7)?;
        self.run_first.open(group, 8)?;
        self.run_count.open(group, 9)
    }

    fn decode(&mut self, rows: usize) -> Result<(), ParquetError> {
        self.line.decode(rows)?;
        self.time.decode(rows)?;
        self.prompt_tokens.decode(rows)?;
        self.output_tokens.decode(rows)?;
        self.named_tokens.decode(rows)?;
        self.session.decode(rows)?;
        self.key.decode(rows)?;
        self.first256.decode(rows)?;
        self.run_first.decode(rows)?;
        self.run_count.decode(rows)
    }
}

/// What a file says of its numbers.
fn describe(metadata: &FileMetaData) -> Parsed<Description> {
    let word = |name: &str| {
        let name = format!("cachecast.{name}");
        let mut pairs = metadata.key_value_metadata().into_iter().flatten();
        let value = pairs.find(|pair| pair.key == name).and_then(|pair| pair.value.clone());
        value.ok_or_else(|| format!("the file does not say its {name}: `cachecast convert` writes it"))
    };
    fn read<T: DeserializeOwned>(word: String) -> Parsed<T> {
        let wrong = format!("the file describes itself by `{word}`, which means nothing here");
        serde_json::from_value(word.into()).map_err(|_| wrong)
    }
    let block_tokens = word("block_tokens")?;
    Ok(Description {
        block_tokens: block_tokens
            .parse()
            .ok()
            .filter(|tokens| (1..=MOST_TOKENS).contains(tokens))
            .ok_or_else(|| format!("the file says that a block has {block_tokens} tokens"))?,
        time_unit: read(word("time_unit")?)?,
        ids: read(word("ids")?)?,
    })
}

/// Checks that a chunk of a column lies within the file: the reader takes that for granted.
pub(crate) fn check_place(chunk: &ColumnChunkMetaData, bytes: u64) -> Result<(), ParquetError> {
    let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
    let end = start.checked_add(chunk.compressed_size());
    let lies_within = end.and_then(|end| u64::try_from(end).ok()).is_some_and(|end| end <= bytes);
    if start < 0 || chunk.compressed_size() < 0 || !lies_within {
        return Err(ParquetError::General("a column lies outside of the file".into()));
    }
    Ok(())
}

fn tokens(name: &str, value: i32) -> Parsed<Tokens> {
    let tokens = value as Tokens;
    if tokens > MOST_TOKENS {
        return Err(format!("`{name}` is {tokens}: it must be a whole number from 0 to {MOST_TOKENS}"));
    }
    Ok(tokens)
}

/// Puts a text, if there is one, into the buffer of the one before.
fn copy_text(name: &str, value: Option<&ByteArray>, to: &mut Option<String>) -> Parsed<()> {
    let Some(value) = value else {
        *to = None;
        return Ok(());
    };
    let text = std::str::from_utf8(value.data()).map_err(|_| format!("`{name}` is not UTF-8 text"))?;
    let buffer = to.get_or_insert_default();
    buffer.clear();
    buffer.push_str(text);
    Ok(())
}

/// One column: some decoded rows, and where the current one is among them.
pub(crate) struct Column<T: DataType> {
    reader: Option<ColumnReaderImpl<T>>,
    values: Vec<T::T>,
    /// Definition levels: 0 is missing, or an empty list.
    defined: Vec<i16>,
    /// Repetition levels: 1 goes on with the list before it.
    repeated: Vec<i16>,
    value: usize,
    level: usize,
}

// Derived, this would ask for a default of the type's marker.
impl<T: DataType> Default for Column<T> {
    fn default() -> Self {
        Self {
            reader: None,
            values: Vec::new(),
            defined: Vec::new(),
            repeated: Vec::new(),
            value: 0,
            level: 0,
        }
    }
}

impl<T: DataType> Column<T> {
    pub(crate) fn open(&mut self, group: &dyn RowGroupReader, index: usize) -> Result<(), ParquetError> {
        self.reader = Some(get_typed_column_reader(group.get_column_reader(index)?));
        Ok(())
    }

    pub(crate) fn decode(&mut self, rows: usize) -> Result<(), ParquetError> {
        self.values.clear();
        self.defined.clear();
        self.repeated.clear();
        (self.value, self.level) = (0, 0);
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let levels = (Some(&mut self.defined), Some(&mut self.repeated));
        let (there, ..) = reader.read_records(rows, levels.0, levels.1, &mut self.values)?;
        if there < rows {
            return Err(ParquetError::General("a column has fewer rows than the others".into()));
        }
        Ok(())
    }

    /// The current row of a required column.
    pub(crate) fn next(&mut self) -> Parsed<&T::T> {
        self.value += 1;
        self.values.get(self.value - 1).ok_or_else(|| damaged("a value is missing"))
    }

    /// The current row of an optional column.
    pub(crate) fn next_optional(&mut self) -> Parsed<Option<&T::T>> {
        self.level += 1;
        match self.defined.get(self.level - 1) {
            Some(0) => Ok(None),
            _ => self.next().map(Some),
        }
    }

    /// The current row of a list.
    fn next_list(&mut self) -> Parsed<&[T::T]> {
        let (level, value) = (self.level, self.value);
        self.level += 1;
        if self.defined.get(level) == Some(&0) {
            return Ok(&[]);
        }
        self.level += self.repeated[self.level.min(self.repeated.len())..]
            .iter()
            .take_while(|level| **level == 1)
            .count();
        self.value += self.level - level;
        self.values.get(value..self.value).ok_or_else(|| damaged("a value is missing"))
    }
}

/// Writes a trace in groups of rows.
pub(super) struct ColumnWriter<W: Write + Send> {
    file: SerializedFileWriter<W>,
    group: Group,
}

/// Rows that are not written yet, column by column.
#[derive(Default)]
struct Group {
    line: Vec<i64>,
    time: Vec<i64>,
    prompt_tokens: Vec<i32>,
    output_tokens: Vec<i32>,
    named_tokens: Vec<i32>,
    session: Texts,
    key: Texts,
    first256: Texts,
    run_first: Vec<i64>,
    run_count: Vec<i32>,
    run_defined: Vec<i16>,
    run_repeated: Vec<i16>,
}

#[derive(Default)]
struct Texts {
    values: Vec<ByteArray>,
    defined: Vec<i16>,
}

impl Texts {
    fn push(&mut self, text: Option<&String>) {
        self.defined.push(i16::from(text.is_some()));
        self.values.extend(text.map(|text| ByteArray::from(text.as_str())));
    }
}

impl<W: Write + Send> ColumnWriter<W> {
    /// A trace of this description into `out`.
    pub fn new(out: W, description: &Description) -> Result<Self, ParquetError> {
        let Description { block_tokens, time_unit, ids } = description;
        let said = |name: &str, value: String| KeyValue::new(format!("cachecast.{name}"), value);
        let described = vec![
            said("block_tokens", block_tokens.to_string()),
            said("time_unit", time_unit.word().into()),
            said("ids", ids.word().into()),
        ];
        let column = |name: &str| ColumnPath::from(name.split('.').map(String::from).collect::<Vec<_>>());
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("cachecast ", env!("CARGO_PKG_VERSION")).into())
            .set_key_value_metadata(Some(described))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .set_compression(Compression::SNAPPY);
        // Numbers are near the one before them; names come again and again.
        let numbers = ["line", "time_ns", "prompt_tokens", "output_tokens", "named_tokens"];
        for name in numbers.into_iter().chain(["runs.list.element.first", "runs.list.element.count"]) {
            properties = properties
                .set_column_dictionary_enabled(column(name), false)
                .set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
        }
        let file = SerializedFileWriter::new(out, schema(), Arc::new(properties.build()))?;
        Ok(Self { file, group: Group::default() })
    }

    /// Takes a request, whose runs are as they were read.
    pub fn write(&mut self, record: &Record) -> Result<(), ParquetError> {
        self.group.push(record);
        let is_full = self.group.line.len() >= GROUP_ROWS || self.group.run_first.len() >= GROUP_RUNS;
        if is_full { self.write_group() } else { Ok(()) }
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<(), ParquetError> {
        self.write_group()?;
        self.file.close().map(|_| ())
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let group = std::mem::take(&mut self.group);
        if group.line.is_empty() {
            return Ok(());
        }
        let mut out = self.file.next_row_group()?;
        write_column::<Int64Type, W>(&mut out, &group.line, None, None)?;
        write_column::<Int64Type, W>(&mut out, &group.time, None, None)?;
        write_column::<Int32Type, W>(&mut out, &group.prompt_tokens, None, None)?;
        write_column::<Int32Type, W>(&mut out, &group.output_tokens, None, None)?;
        write_column::<Int32Type, W>(&mut out, &group.named_tokens, None, None)?;
        for texts in [group.session, group.key, group.first256] {
            write_column::<ByteArrayType, W>(&mut out, &texts.values, Some(&texts.defined), None)?;
        }
        let (defined, repeated) = (Some(&group.run_defined[..]), Some(&group.run_repeated[..]));
        write_column::<Int64Type, W>(&mut out, &group.run_first, defined, repeated)?;
        write_column::<Int32Type, W>(&mut out, &group.run_count, defined, repeated)?;
        out.close().map(|_| ())
    }
}

impl Group {
    fn push(&mut self, record: &Record) {
        // The bits stay: the schema says that they are unsigned.
        self.line.push(record.line as i64);
        self.time.push(record.time.0 as i64);
        self.prompt_tokens.push(record.prompt_tokens as i32);
        self.output_tokens.push(record.output_tokens as i32);
        self.named_tokens.push(record.named_tokens as i32);
        self.session.push(record.session.as_ref());
        self.key.push(record.key.as_ref());
        self.first256.push(record.first256.as_ref());
        for (index, run) in record.runs.iter().enumerate() {
            self.run_first.push(run.content as i64);
            self.run_count.push(run.pieces as i32);
            self.run_defined.push(1);
            self.run_repeated.push(i16::from(index > 0));
        }
        if record.runs.is_empty() {
            self.run_defined.push(0);
            self.run_repeated.push(0);
        }
    }
}

/// Writes the next column of a group of rows.
pub(crate) fn write_column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    defined: Option<&[i16]>,
    repeated: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.expect("as many columns as the schema has");
    column.typed::<T>().write_batch(values, defined, repeated)?;
    column.close()
}
