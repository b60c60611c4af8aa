//! How a table is laid out in a terminal: whole words, in as many columns as there is room for.
//!
//! Numbers and names are never broken. Text is wrapped between words, in a column that stays wide enough to be read.
//! Where that is too wide, columns that can be spared go first, with a note of what is left out; where that is still too
//! wide, each row becomes a block of lines.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width, presets};
use unicode_width::UnicodeWidthStr;

/// A table as a person reads it: every field a text.
pub struct Sheet {
    /// Names of the columns.
    pub header: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
    /// Which columns are numbers.
    pub numeric: Vec<bool>,
    /// Columns that can be left out, the first ones first.
    pub spare: Vec<usize>,
}

/// Columns on both sides of a field.
const PADDING: usize = 2;

/// Text is not wrapped into columns narrower than this.
const READABLE: usize = 24;

/// The narrowest terminal that is cared for.
const NARROWEST: usize = 30;

impl Sheet {
    /// The table in a terminal of this width, or in none.
    pub fn laid_out(mut self, width: Option<usize>, bold: impl Fn(&str) -> String) -> String {
        let Some(width) = width.map(|width| width.max(NARROWEST)) else {
            let natural = (0..self.header.len()).map(|column| self.natural(column)).collect::<Vec<_>>();
            return self.aligned(&natural, bold);
        };
        let mut left_out = Vec::new();
        let mut shown: Vec<usize> = (0..self.header.len()).collect();
        let mut spare = std::mem::take(&mut self.spare).into_iter();
        loop {
            let part = self.part(&shown);
            if part.widths(width).is_some() {
                break;
            }
            let Some(next) = spare.next() else { return self.blocks(width, bold) };
            left_out.push(next);
            shown.retain(|column| *column != next);
        }
        // One wide column less may leave room for others.
        for column in left_out.clone().into_iter().rev() {
            let mut more = [shown.as_slice(), &[column]].concat();
            more.sort_unstable();
            if self.part(&more).widths(width).is_some() {
                shown = more;
                left_out.retain(|other| *other != column);
            }
        }
        let part = self.part(&shown);
        let widths = part.widths(width).expect("it fits");
        let names: Vec<_> = left_out.iter().map(|column| self.header[*column].as_str()).collect();
        part.aligned(&widths, bold) + &note(&names, width)
    }

    /// Some of the columns.
    fn part(&self, shown: &[usize]) -> Self {
        let of = |fields: &Vec<String>| shown.iter().map(|column| fields[*column].clone()).collect();
        Self {
            header: of(&self.header),
            rows: self.rows.iter().map(of).collect(),
            numeric: shown.iter().map(|column| self.numeric[*column]).collect(),
            spare: Vec::new(),
        }
    }

    fn fields(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().map(move |row| row[column].as_str())
    }

    /// The width at which nothing is wrapped.
    fn natural(&self, column: usize) -> usize {
        self.fields(column).map(UnicodeWidthStr::width).max().unwrap_or(0).max(self.header[column].width())
    }

    /// The width below which a column cannot be read.
    fn least(&self, column: usize) -> usize {
        let field = |text: &str| {
            let is_text = !self.numeric[column] && text.contains(' ');
            if is_text { longest_word(text).max(text.width().min(READABLE)) } else { text.width() }
        };
        let fields = self.fields(column).map(field).max().unwrap_or(0);
        fields.max(longest_word(&self.header[column]))
    }

    /// A width for each column, so that the table fits; `None` if there is not enough room for what can be read.
    fn widths(&self, width: usize) -> Option<Vec<usize>> {
        let columns = 0..self.header.len();
        let mut widths: Vec<_> = columns.clone().map(|column| self.least(column)).collect();
        let mut room = width.checked_sub(widths.iter().map(|width| width + PADDING).sum())?;
        let fields = |column: usize| self.fields(column).map(UnicodeWidthStr::width).max().unwrap_or(0);
        // Room goes to what the fields need, then to names, evenly.
        for wanted in
            [columns.clone().map(fields).collect::<Vec<_>>(), columns.map(|c| self.natural(c)).collect()]
        {
            while room > 0 {
                let is_short = |column: &usize| widths[*column] < wanted[*column];
                let Some(shortest) = (0..widths.len()).filter(is_short).min_by_key(|column| widths[*column])
                else {
                    break;
                };
                widths[shortest] += 1;
                room -= 1;
            }
        }
        Some(widths)
    }

    fn aligned(&self, widths: &[usize], bold: impl Fn(&str) -> String) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(&self.header);
        table.add_rows(&self.rows);
        for (index, column) in table.column_iter_mut().enumerate() {
            let width = u16::try_from(widths[index] + PADDING).unwrap_or(u16::MAX);
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
            if self.numeric[index] {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let header = self.header_lines(widths);
        let line = |(at, line): (usize, String)| {
            let line = line.trim_end();
            if at < header { bold(line) + "\n" } else { line.to_string() + "\n" }
        };
        table.lines().enumerate().map(line).collect()
    }

    /// Lines that the names of the columns take.
    fn header_lines(&self, widths: &[usize]) -> usize {
        let lines = |(name, width): (&String, &usize)| wrapped(name, *width).len();
        self.header.iter().zip(widths).map(lines).max().unwrap_or(0)
    }

    /// A block of lines for each row: its first field, and below it the others by name.
    fn blocks(&self, width: usize, bold: impl Fn(&str) -> String) -> String {
        let names = self.header.iter().skip(1).map(|name| name.width()).max().unwrap_or(0);
        let room = width.saturating_sub(names + 5).max(10);
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            if index > 0 {
                text += "\n";
            }
            for line in wrapped(&row[0], width - 1) {
                text += &format!(" {}\n", bold(&line));
            }
            for (name, field) in self.header.iter().zip(row).skip(1).filter(|(_, field)| !field.is_empty()) {
                let mut shown = name.clone();
                for line in wrapped(field, room) {
                    let gap = " ".repeat(names.saturating_sub(shown.width()));
                    text += &format!("   {shown}{gap}  {line}\n");
                    shown.clear();
                }
            }
        }
        text
    }
}

/// What is said of columns that are left out.
fn note(left_out: &[&str], width: usize) -> String {
    if left_out.is_empty() {
        return String::new();
    }
    let words =
        format!("Left out for want of room: {} (--format csv has every column).", left_out.join(", "));
    wrapped(&words, width - 1).iter().map(|line| format!(" {line}\n")).collect()
}

/// Lines of words, each broken between words; what goes on is indented like its beginning.
pub fn paragraphs(text: &str, width: Option<usize>) -> String {
    let Some(width) = width.map(|width| width.max(NARROWEST)) else { return text.to_string() };
    let lines = text.split('\n').map(|line| {
        let words = line.trim_start_matches(' ');
        let indent = " ".repeat(line.len() - words.len());
        let room = width.saturating_sub(indent.len()).max(NARROWEST / 2);
        wrapped(words, room).iter().map(|part| format!("{indent}{part}")).collect::<Vec<_>>().join("\n")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn longest_word(text: &str) -> usize {
    text.split(' ').map(UnicodeWidthStr::width).max().unwrap_or(0)
}

/// A text in lines of at most this width, broken between words; a longer word is broken where it must be.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is one");
        if last.is_empty() && word.width() <= width {
            last.push_str(word);
        } else if last.width() + 1 + word.width() <= width {
            *last += " ";
            *last += word;
        } else {
            let mut line = String::new();
            let mut broken: Vec<String> = Vec::new();
            for c in word.chars() {
                let longer = format!("{line}{c}");
                if longer.width() > width && !line.is_empty() {
                    broken.push(std::mem::take(&mut line));
                    line.push(c);
                } else {
                    line = longer;
                }
            }
            broken.push(line);
            if last.is_empty() {
                lines.pop();
            }
            lines.extend(broken);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(spare: &[usize]) -> Sheet {
        let row =
            |name: &str, number: &str, text: &str| [name, number, number, text].map(String::from).to_vec();
        Sheet {
            header: ["name", "token hit ratio", "total p95 s", "meaning"].map(String::from).to_vec(),
            rows: vec![
                row(
                    "client.workload.NAME.arrivals",
                    "0.9762 ±0.0002",
                    "how often something happens, all together",
                ),
                row("short", "1.2 ±0.1", "a word"),
            ],
            numeric: vec![false, true, true, false],
            spare: spare.to_vec(),
        }
    }

    fn text(sheet: Sheet, width: usize) -> String {
        let text = sheet.laid_out(Some(width), str::to_string);
        assert!(text.lines().all(|line| line.width() <= width), "{width}:\n{text}");
        text
    }

    #[test]
    fn no_width_breaks_a_word_or_a_number() {
        for width in 40..200 {
            for spare in [&[][..], &[2], &[2, 3]] {
                let text = text(sheet(spare), width);
                for whole in ["client.workload.NAME.arrivals", "0.9762 ±0.0002", "something", "happens,"] {
                    let is_spared = whole.ends_with(['g', ',']) && text.contains("Left out");
                    assert!(text.contains(whole) || is_spared, "{whole} at {width}:\n{text}");
                }
            }
        }
    }

    #[test]
    fn room_decides_between_columns_fewer_columns_and_blocks() {
        let wide = text(sheet(&[2]), 120);
        assert_eq!(wide.lines().count(), 3, "{wide}");
        let fewer = text(sheet(&[2]), 80);
        assert!(fewer.contains("Left out for want of room: total p95 s"), "{fewer}");
        let blocks = text(sheet(&[]), 60);
        assert!(
            blocks.starts_with(" client.workload.NAME.arrivals\n   token hit ratio  0.9762 ±0.0002\n"),
            "{blocks}"
        );
        assert!(blocks.contains("\n\n short\n"), "{blocks}");
    }

    #[test]
    fn the_header_alone_is_bold() {
        let text = sheet(&[2]).laid_out(Some(80), |line| format!("<{line}>"));
        let bold: Vec<_> = text.lines().map(|line| line.starts_with('<')).collect();
        let first = bold.iter().position(|bold| !bold).unwrap();
        assert!(first >= 1 && bold[first..].iter().all(|bold| !bold), "{text}");
        assert!(text.lines().nth(first).unwrap().contains("client.workload"), "{text}");
    }
}
