use super::*;
use crate::experiment::folder::write_tables;
use crate::experiment::results::prepare_folder;
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::sweep::{Finished, Plan};

const CHATS: &str = r#"
    title = "t"
    duration = "20m"
    seeds = 3
    [client.key]
    strategy = "buckets"
    [client.workload.chat]
    arrivals = { process = "poisson", rate = "4/min" }
    [client.workload.chat.chat]
    prefix_tokens = 3000
    turns = 4
    user_tokens = 50
    output_tokens = 100
    think = "20s"
    [client.workload.chat.volatility]
    status_tokens = 200
    status_rewritten = "turn"
    [provider]
    profile = "openai-classic"
    [[sweep.axis]]
    path = "client.key.buckets"
    values = [1, 2, 4, 8]
    [[sweep.axis]]
    path = "provider.routing.rule"
    values = ["home", "pool"]
"#;

/// A folder with a sweep and what happened inside it.
fn swept(changes: &[Change]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let loaded = Loaded::from_text("chats", "chats.toml", CHATS, Path::new(""), changes).unwrap();
    let plan = Plan::new(&loaded).unwrap();
    let rows = plan.play(&Finished::default(), |_, _, _| true).unwrap();
    prepare_folder(folder.path()).unwrap();
    write_tables(&plan.outline, &rows, folder.path()).unwrap();
    inside::write(&inside::picks(&plan.outline, &rows).unwrap(), folder.path()).unwrap();
    About::new("sweep", "cachecast sweep chats.toml --report", &loaded)
        .unwrap()
        .write(folder.path())
        .unwrap();
    folder
}

fn numbers(table: &Table, column: &str) -> Vec<f64> {
    let column = table.column(column).unwrap();
    (0..table.rows.len()).map(|row| table.number(row, column).unwrap()).collect()
}

#[test]
fn a_sweep_has_every_picture() {
    let folder = swept(&[]);
    let report = Report::read(folder.path(), &[]).unwrap();
    assert_eq!(report.problems, [""; 0]);
    let ids: Vec<_> = report.figures.iter().map(|figure| figure.id.as_str()).collect();
    let expected = [
        "token_hit_ratio",
        "request_hit_ratio",
        "ttft_p95",
        "total_p95",
        "cost",
        "waterfall",
        "losses",
        "front",
        "minutes",
        "session",
        "fleet",
        "machine",
    ];
    assert_eq!(ids, expected);
    report.write(folder.path(), &folder.path().join(PAGE)).unwrap();
    for id in expected {
        let svg = std::fs::read_to_string(folder.path().join(format!("{id}.svg"))).unwrap();
        assert!(svg.starts_with("<svg ") && svg.contains("<title>") && svg.ends_with("</svg>\n"), "{id}");
    }
    let page = std::fs::read_to_string(folder.path().join(PAGE)).unwrap();
    assert!(!page.contains("{{") && page.len() < 400_000, "{}", page.len());
}

#[test]
fn what_is_seen_inside_is_part_of_what_is_counted() {
    let folder = swept(&[Change::new("seeds", 1, "a test")]);
    let report = Report::read(folder.path(), &[]).unwrap();
    let [summary, inside, fleet, minutes, calls] =
        ["summary.csv", "inside.csv", "inside_fleet.csv", "inside_minutes.csv", "inside_calls.csv"]
            .map(|file| report.table(file).unwrap());
    let seen = numbers(inside, "seen_requests");
    for (place, cell) in numbers(inside, "cell").into_iter().enumerate() {
        // Nothing is warm-up here: the window holds every request that is counted.
        assert_eq!(seen[place], numbers(summary, "requests")[cell as usize]);
        let of = |table: &Table, column: &str| -> f64 {
            let cells = numbers(table, "cell");
            numbers(table, column).into_iter().zip(cells).filter(|(_, of)| *of == cell).map(|(n, _)| n).sum()
        };
        assert_eq!(of(fleet, "requests"), seen[place], "eight keys are all shown");
        assert_eq!(of(fleet, "cached_tokens"), numbers(summary, "cached_tokens")[cell as usize]);
        // Every stretch is one minute of a run so short.
        if numbers(summary, "keys")[cell as usize] <= 6.0 {
            assert_eq!(of(minutes, "peak_rpm"), seen[place]);
        }
    }
    let lost: Vec<usize> = variants::lost_parts(calls).iter().map(|part| part.column).collect();
    for (row, prompt) in numbers(calls, "prompt_tokens").into_iter().enumerate() {
        let lost: f64 = lost.iter().filter_map(|column| calls.number(row, *column)).sum();
        assert_eq!(numbers(calls, "cached_tokens")[row] + lost, prompt);
    }
    assert_eq!(calls.distinct(calls.column("of").unwrap()).len(), 1, "the same session in all variants");
    let changes: Vec<_> = (0..4).map(|row| calls.named(row, "change")).collect();
    assert_eq!(changes[0], "");
    assert!(changes[1..].iter().all(|change| *change == "status block rewritten"), "{changes:?}");
}

#[test]
fn a_machine_never_has_more_in_flight_than_slots_and_the_rest_waits() {
    let folder = tempfile::tempdir().unwrap();
    let text = CHATS.replace("rate = \"4/min\"", "rate = \"200/min\"");
    let changes = [
        Change::new("provider.latency.slots", 2, "a test"),
        Change::new("provider.latency.network", "0s", "a test"),
        Change::new("provider.routing.machines", 1, "a test"),
        Change::new("provider.routing.pool", 1, "a test"),
        Change::new("provider.routing.fanout", 1, "a test"),
        Change::new("duration", "3m", "a test"),
    ];
    let loaded = Loaded::from_text("busy", "busy.toml", &text, Path::new(""), &changes).unwrap();
    inside::write(&[inside::Pick { cell: 0, why: "test", loaded }], folder.path()).unwrap();
    let known = KNOWN.iter().find(|known| known.file == "inside_machine.csv").unwrap();
    let table = Table::read(folder.path(), known, &mut Vec::new()).unwrap();
    let most = |column| numbers(&table, column).into_iter().fold(0.0, f64::max);
    assert_eq!(most("in_flight"), 2.0);
    assert!(most("queued") > 10.0);
    assert!(*numbers(&table, "queued").last().unwrap() < most("queued"), "at last the queue is served");
}

#[test]
fn every_committed_folder_is_drawn() {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    for entry in std::fs::read_dir(results).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let report = Report::read(&folder, &[]).unwrap();
        assert_eq!(report.problems, [""; 0], "{}", folder.display());
        // A least-squares fit alone is a table of three numbers.
        assert!(!report.figures.is_empty() || folder.ends_with("fit-ttft"), "{}", folder.display());
        for figure in &report.figures {
            let svg = draw::svg(figure, report.table(&figure.file).unwrap()).unwrap();
            assert!(svg.ends_with("</svg>\n"), "{}", figure.id);
            assert!(
                folder.join(format!("{}.svg", figure.id)).is_file(),
                "{} {}",
                folder.display(),
                figure.id
            );
        }
    }
}

#[test]
fn measured_cells_are_drawn_over_the_simulated_ones() {
    let folder = swept(&[]);
    let file = folder.path().join("mine.csv");
    std::fs::write(&file, "# mine\nclient.key.buckets,token_hit_ratio\n2,0.5\n9,0.1\n").unwrap();
    let report = Report::read(folder.path(), std::slice::from_ref(&file)).unwrap();
    let figure::Form::Lines { panels, .. } = &report.figures[0].form else { panic!("a line") };
    let points: Vec<_> = panels.iter().flat_map(|panel| &panel.published).collect();
    assert_eq!(points.len(), 1, "there is no cell of 9 buckets");
    assert_eq!((points[0].x, points[0].y, points[0].style), (1.0, 0.5, None));
    std::fs::write(&file, "a,b\n1,2\n").unwrap();
    let error = Report::read(folder.path(), std::slice::from_ref(&file)).unwrap_err().to_string();
    assert!(error.contains("names no scenario path"), "{error}");
}

#[test]
fn a_folder_without_results_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = Report::read(folder.path(), &[]).unwrap_err().to_string();
    assert!(error.contains("holds no results"), "{error}");
    let error = Report::read(&folder.path().join("none"), &[]).unwrap_err().to_string();
    assert!(error.contains("is no folder"), "{error}");
}

#[test]
fn damaged_files_are_said_and_nothing_panics() {
    let folder = swept(&[]);
    let whole = std::fs::read_to_string(folder.path().join("summary.csv")).unwrap();
    let cut = &whole[..whole.len() / 2];
    let contents =
        ["", "\n", "a,b\n1,2\n", "cell,seeds\n", cut, "cell,seeds,token_hit_ratio\n0,,NaN\n1,x,1e400\n"];
    for file in KNOWN.iter().map(|known| known.file) {
        let path = folder.path().join(file);
        let before = std::fs::read(&path).ok();
        for content in contents {
            std::fs::write(&path, content).unwrap();
            let report = Report::read(folder.path(), &[]).unwrap();
            assert!(!report.problems.is_empty(), "{file} {content:?}");
            report.write(folder.path(), &folder.path().join(PAGE)).unwrap();
        }
        match before {
            Some(before) => std::fs::write(&path, before).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
    }
}
