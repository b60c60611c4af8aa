//! How fast a trace is read, as lines and in columns, and replayed: one that a run of the bucket study wrote, on one
//! core.
//!
//! Both forms must hold the same requests and replay to the same numbers, which is asserted in the same run.
//! `CACHECAST_BENCH=all cargo bench` takes a trace of ten million requests.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use cachecast::experiment::convert::{TraceFile, convert};
use cachecast::experiment::metrics::Row;
use cachecast::experiment::run::{replicate_requests, replicate_unwatched};
use cachecast::experiment::scenario::{Change, Loaded};
use cachecast::experiment::trace_log::TraceLog;
use cachecast::input::trace::{Record, TimeUnit, TraceFormat, TraceReader};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;

const STUDY: &str = include_str!("../scenarios/bucket-cardinality.toml");

/// Requests of the trace: 30 a minute for so many minutes.
fn requests() -> u64 {
    let all = std::env::var("CACHECAST_BENCH").is_ok_and(|asked| asked == "all");
    if all { 10_000_000 } else { 300_000 }
}

/// Plays the bucket study and writes what it sends.
fn write(path: &Path) {
    let change = |path: &str, value: toml::Value| Change::new(path, value, "bench");
    let changes = [
        change("duration", format!("{}m", requests() / 30).into()),
        change("client.key.buckets", 8.into()),
        change("attribution", false.into()),
    ];
    let study = Loaded::from_text("study", "study", STUDY, Path::new(""), &changes).expect("it is shipped");
    let mut trace = TraceLog::create(path, &study).expect("the folder is there");
    replicate_requests(&study, 0, &mut |outcome, request, tree| trace.write(outcome.arrival, request, tree))
        .expect("generated traffic cannot fail");
    trace.finish().expect("there is room");
}

fn format(path: &Path) -> TraceFormat {
    let path = path.display().to_string();
    TraceFormat { path, block_tokens: Some(1), time_unit: Some(TimeUnit::Ns), ids: None, skip_bad: false }
}

/// The number of requests, and a checksum.
fn read(path: &Path) -> (u64, u64) {
    let mut reader = TraceReader::open(&format(path), Path::new("")).expect("a trace");
    let mut record = Record::default();
    let (mut requests, mut sum) = (0, 0u64);
    while reader.read(&mut record).expect("a good trace") {
        requests += 1;
        let ids = record.runs.iter().fold(record.time.0, |sum, run| sum.rotate_left(7) ^ run.content);
        sum = sum.rotate_left(1).wrapping_add(ids ^ u64::from(record.prompt_tokens));
    }
    (requests, sum)
}

fn replay(path: &Path) -> Row {
    let change = |field: &str, value: toml::Value| {
        Change::new(&format!("client.workload.trace.trace.file.{field}"), value, "bench")
    };
    let changes = [
        change("path", path.display().to_string().into()),
        change("block_tokens", 1.into()),
        change("time_unit", "ns".into()),
        Change::new("client.key.strategy", "recorded", "bench"),
        Change::new("provider.profile", "openai-classic", "bench"),
        Change::new("attribution", false, "bench"),
    ];
    let loaded = Loaded::from_text("replay", "replay", "", Path::new(""), &changes).expect("a scenario");
    replicate_unwatched(&loaded, 0).expect("a good trace").row
}

fn forms(criterion: &mut Criterion) {
    let folder = TempDir::new().expect("a folder for the traces");
    let [lines, columns] = ["t.jsonl", "t.parquet"].map(|name| folder.path().join(name));
    write(&columns);
    let mut reader = TraceReader::open(&format(&columns), Path::new("")).expect("a trace");
    let file = TraceFile::create(&lines, reader.description()).expect("the folder is there");
    convert(&mut reader, file).expect("there is room");
    assert_eq!(read(&lines), read(&columns));
    assert_eq!(replay(&lines), replay(&columns));

    let mut group = criterion.benchmark_group("trace");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    let bytes = std::fs::metadata(&lines).expect("it is written").len();
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("read JSONL", |bencher| bencher.iter(|| black_box(read(&lines))));
    group.throughput(Throughput::Elements(read(&lines).0));
    for (name, path) in [("JSONL", &lines), ("Parquet", &columns)] {
        group.bench_function(format!("read {name}, requests"), |bencher| {
            bencher.iter(|| black_box(read(path)))
        });
        group.bench_function(format!("replay {name}"), |bencher| bencher.iter(|| black_box(replay(path))));
    }
    group.finish();
}

criterion_group!(benches, forms);
criterion_main!(benches);
