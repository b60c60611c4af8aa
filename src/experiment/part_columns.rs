//! A part as Parquet: one column for each number, and the header's text in the file's metadata.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, Repetition, Type as Physical};
use parquet::data_type::{DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};

use crate::experiment::metrics::Row;
use crate::experiment::part::{Header, Job};
use crate::input::columns::{Column, check_place, guarded, write_column};

/// The key of the metadata that holds the header.
const KEY: &str = "cachecast.part";

/// Rows that are written, and held when they are read, at a time.
const GROUP_ROWS: usize = 4_096;

/// Writes a part.
pub(super) fn write_columns(
    out: impl Write + Send,
    header: &Header,
    rows: &BTreeMap<Job, Row>,
) -> io::Result<()> {
    let properties = WriterProperties::builder()
        .set_created_by(concat!("cachecast ", env!("CARGO_PKG_VERSION")).into())
        .set_key_value_metadata(Some(vec![KeyValue::new(KEY.into(), header.text())]))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_compression(Compression::SNAPPY);
    let mut file = SerializedFileWriter::new(out, schema(&header.columns)?, Arc::new(properties.build()))?;
    let rows: Vec<_> = rows.iter().collect();
    for group in rows.chunks(GROUP_ROWS) {
        let mut written = file.next_row_group()?;
        let cells: Vec<i64> = group.iter().map(|(job, _)| job.cell as i64).collect();
        let replications: Vec<i32> = group.iter().map(|(job, _)| job.replication as i32).collect();
        write_column::<Int64Type, _>(&mut written, &cells, None, None)?;
        write_column::<Int32Type, _>(&mut written, &replications, None, None)?;
        for column in 0..header.columns.len() {
            let values = || group.iter().map(|(_, row)| row.0[column]);
            let defined: Vec<i16> = values().map(|value| i16::from(value.is_some())).collect();
            let there: Vec<f64> = values().flatten().collect();
            write_column::<DoubleType, _>(&mut written, &there, Some(&defined), None)?;
        }
        written.close()?;
    }
    file.close()?;
    Ok(())
}

fn schema(columns: &[String]) -> Result<TypePtr, ParquetError> {
    let column = |name: &str, physical, repetition| {
        Type::primitive_type_builder(name, physical).with_repetition(repetition).build().map(Arc::new)
    };
    let mut fields = vec![
        column("cell", Physical::INT64, Repetition::REQUIRED)?,
        column("replication", Physical::INT32, Repetition::REQUIRED)?,
    ];
    for name in columns {
        fields.push(column(name, Physical::DOUBLE, Repetition::OPTIONAL)?);
    }
    Ok(Arc::new(Type::group_type_builder("part").with_fields(fields).build()?))
}

/// Reads a part, group by group.
pub(super) struct ColumnReader {
    file: SerializedFileReader<File>,
    bytes: u64,
    next_group: usize,
    left: usize,
    cells: Column<Int64Type>,
    replications: Column<Int32Type>,
    numbers: Vec<Column<DoubleType>>,
}

impl ColumnReader {
    /// Opens a part; `None` if the file is none.
    pub fn open(file: File) -> Option<(Header, Self)> {
        let bytes = file.metadata().ok()?.len();
        let file = guarded(|| SerializedFileReader::new(file)).ok()?;
        let metadata = file.metadata().file_metadata();
        let said = metadata.key_value_metadata()?.iter().find(|said| said.key == KEY)?;
        let names = metadata.schema().get_fields().iter().skip(2).map(|field| field.name().to_string());
        let header = Header::parse(said.value.as_ref()?, names.collect())?;
        let is_one = *metadata.schema() == *schema(&header.columns).ok()?;
        let numbers = header.columns.iter().map(|_| Column::default()).collect();
        let (cells, replications) = (Column::default(), Column::default());
        let reader = Self { file, bytes, next_group: 0, left: 0, cells, replications, numbers };
        is_one.then_some((header, reader))
    }

    /// The next row; the error says what is wrong.
    pub fn read(&mut self) -> Result<Option<(Job, Row)>, String> {
        while self.left == 0 {
            if !guarded(|| self.open_group()).map_err(|error| error.to_string())? {
                return Ok(None);
            }
        }
        self.left -= 1;
        let (cell, replication) = (*self.cells.next()? as u64, *self.replications.next()? as u32);
        let row: Vec<Option<f64>> = self
            .numbers
            .iter_mut()
            .map(|column| column.next_optional().map(Option::<&f64>::copied))
            .collect::<Result<_, _>>()?;
        Ok(Some((Job { cell, replication }, Row(row))))
    }

    /// Decodes the next group of rows; false if there is none.
    fn open_group(&mut self) -> Result<bool, ParquetError> {
        if self.next_group >= self.file.num_row_groups() {
            return Ok(false);
        }
        let group = self.file.get_row_group(self.next_group)?;
        self.next_group += 1;
        group.metadata().columns().iter().try_for_each(|chunk| check_place(chunk, self.bytes))?;
        let rows = group.metadata().num_rows();
        let rows = usize::try_from(rows).ok().filter(|rows| *rows <= GROUP_ROWS);
        let rows = rows.ok_or(ParquetError::General("a group has too many rows".into()))?;
        self.cells.open(&*group, 0)?;
        self.cells.decode(rows)?;
        self.replications.open(&*group, 1)?;
        self.replications.decode(rows)?;
        for (index, column) in self.numbers.iter_mut().enumerate() {
            column.open(&*group, index + 2)?;
            column.decode(rows)?;
        }
        self.left = rows;
        Ok(true)
    }
}
