//! All rows of a sweep on the disk: each has its place, so that they can come in any order and be read in any, in memory
//! that does not grow with them.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::experiment::metrics::{COLUMNS, Row};
use crate::experiment::part::Job;
use crate::experiment::sweep::CellRows;

/// A place is as long as a row: which part it is from (counted from 1; 0 is nobody), which numbers there are, the numbers.
const PART_BYTES: usize = 4;
const SHOWN_BYTES: usize = COLUMNS.len().div_ceil(8);
const PLACE_BYTES: usize = PART_BYTES + SHOWN_BYTES + 8 * COLUMNS.len();

/// Rows on the disk.
pub struct Spool {
    folder: PathBuf,
    file: File,
    cells: u64,
    seeds: u32,
    filled: u64,
}

/// What became of a row that was put into its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there.
    Taken,
    /// The same row was there already.
    Known,
    /// Another one is there already, from the part of this number.
    Conflict(u32),
    /// There is no such place.
    Nowhere,
}

impl Spool {
    /// No rows yet of a sweep; the file has no name, and is gone with the process.
    pub fn new(folder: &Path, cells: usize, seeds: u32) -> Result<Self> {
        let file = tempfile::tempfile_in(folder);
        let file = file.map_err(|error| Error::io(folder, "write into the folder", &error))?;
        let spool = Self { folder: folder.to_path_buf(), file, cells: cells as u64, seeds, filled: 0 };
        let bytes = spool.cells * u64::from(seeds) * PLACE_BYTES as u64;
        spool.file.set_len(bytes).map_err(|error| spool.failed(&error))?;
        Ok(spool)
    }

    /// Rows that are there.
    pub fn filled(&self) -> u64 {
        self.filled
    }

    /// Puts a row of a part into its place.
    pub fn put(&mut self, part: u32, job: Job, row: &Row) -> Result<Put> {
        if job.cell >= self.cells || job.replication >= self.seeds || row.0.len() != COLUMNS.len() {
            return Ok(Put::Nowhere);
        }
        let place = encode(part, row);
        let put = || -> io::Result<Put> {
            let mut there = [0; PLACE_BYTES];
            self.at(job)?.read_exact(&mut there)?;
            let known = part_of(&there);
            if known == 0 {
                self.at(job)?.write_all(&place)?;
                return Ok(Put::Taken);
            }
            let is_same = there[PART_BYTES..] == place[PART_BYTES..];
            Ok(if is_same { Put::Known } else { Put::Conflict(known - 1) })
        };
        let put = put().map_err(|error| self.failed(&error))?;
        self.filled += u64::from(put == Put::Taken);
        Ok(put)
    }

    /// The first place, in the order of the cells, without a row.
    pub fn first_hole(&self) -> Result<Option<Job>> {
        for cell in 0..self.cells {
            let places = self.read_cell(cell)?;
            if let Some(hole) = places.chunks(PLACE_BYTES).position(|place| part_of(place) == 0) {
                return Ok(Some(Job { cell, replication: hole as u32 }));
            }
        }
        Ok(None)
    }

    fn at(&self, job: Job) -> io::Result<&File> {
        let place = job.cell * u64::from(self.seeds) + u64::from(job.replication);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(place * PLACE_BYTES as u64))?;
        Ok(file)
    }

    fn read_cell(&self, cell: u64) -> Result<Vec<u8>> {
        let mut places = vec![0; self.seeds as usize * PLACE_BYTES];
        let read = self.at(Job { cell, replication: 0 }).and_then(|mut file| file.read_exact(&mut places));
        read.map_err(|error| self.failed(&error))?;
        Ok(places)
    }

    fn failed(&self, error: &io::Error) -> Error {
        match error.kind() {
            ErrorKind::StorageFull => Error::io(&self.folder, "hold all rows", error),
            _ => Error::io(&self.folder, "keep rows in the folder", error),
        }
    }
}

impl CellRows for Spool {
    fn of_cell(&self, cell: usize) -> Result<Vec<Row>> {
        Ok(self.read_cell(cell as u64)?.chunks(PLACE_BYTES).map(decode).collect())
    }
}

fn part_of(place: &[u8]) -> u32 {
    u32::from_le_bytes(place[..PART_BYTES].try_into().expect("as many bytes"))
}

fn encode(part: u32, row: &Row) -> [u8; PLACE_BYTES] {
    let mut place = [0; PLACE_BYTES];
    place[..PART_BYTES].copy_from_slice(&(part + 1).to_le_bytes());
    for (index, value) in row.0.iter().enumerate() {
        if let Some(value) = value {
            place[PART_BYTES + index / 8] |= 1 << (index % 8);
            let at = PART_BYTES + SHOWN_BYTES + 8 * index;
            place[at..at + 8].copy_from_slice(&value.to_bits().to_le_bytes());
        }
    }
    place
}

fn decode(place: &[u8]) -> Row {
    let value = |index: usize| {
        let is_there = place[PART_BYTES + index / 8] & 1 << (index % 8) != 0;
        let at = PART_BYTES + SHOWN_BYTES + 8 * index;
        let bits = u64::from_le_bytes(place[at..at + 8].try_into().expect("as many bytes"));
        is_there.then_some(f64::from_bits(bits))
    };
    Row((0..COLUMNS.len()).map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_from_their_places_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), 3, 2).unwrap();
        let row = |shift: usize| {
            let values =
                [None, Some(-0.0), Some(0.1 + 0.2), Some(f64::INFINITY), Some(1e300), None, Some(7.0)];
            Row((0..COLUMNS.len()).map(|index| values[(index + shift) % values.len()]).collect())
        };
        let job = |cell, replication| Job { cell, replication };
        let jobs = [job(2, 1), job(0, 0), job(1, 1), job(2, 0), job(1, 0)];
        for (part, job) in (0..).zip(jobs) {
            assert_eq!(spool.put(part, job, &row(part as usize)).unwrap(), Put::Taken);
        }
        assert_eq!((spool.filled(), spool.first_hole().unwrap()), (5, Some(job(0, 1))));
        assert_eq!(spool.put(9, job(2, 1), &row(0)).unwrap(), Put::Known);
        assert_eq!(spool.put(9, job(1, 1), &row(3)).unwrap(), Put::Conflict(2));
        assert_eq!(spool.put(9, job(3, 0), &row(0)).unwrap(), Put::Nowhere);
        assert_eq!(spool.put(9, job(0, 2), &row(0)).unwrap(), Put::Nowhere);
        assert_eq!(spool.put(9, job(0, 1), &row(5)).unwrap(), Put::Taken);
        assert_eq!(spool.first_hole().unwrap(), None);
        let bits = |rows: Vec<Row>| -> Vec<_> {
            rows.iter().flat_map(|row| row.0.iter().map(|value| value.map(f64::to_bits))).collect()
        };
        assert_eq!(bits(spool.of_cell(2).unwrap()), bits(vec![row(3), row(0)]));
    }
}
