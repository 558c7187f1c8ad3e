//! A small table, printed for people, for programs or for spreadsheets.
//!
//! Columns have one name everywhere, with the unit last (`ttft_s_p50`), so that what a person reads is what a
//! program asks for.

use anyhow::Context;
use serde_json::{Map, Value};

use super::Format;

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Words, to the left.
    Text(String),
    /// A whole number, to the right.
    Count(u64),
    /// A number, to the right; people see it with so many digits behind the point, programs see all of it.
    Number(f64, usize),
    /// A difference, to the right: a number that people see with its sign.
    Change(f64, usize),
    /// There is none: a dash for people, null or nothing for programs.
    Empty,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Cell::Count(count)
    }
}

impl From<u32> for Cell {
    fn from(count: u32) -> Self {
        Cell::Count(u64::from(count))
    }
}

impl Cell {
    fn for_people(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Count(count) => count.to_string(),
            Cell::Number(number, digits) => format!("{number:.digits$}"),
            Cell::Change(number, digits) if *number == 0.0 => format!("{:.digits$}", 0.0),
            Cell::Change(number, digits) => format!("{number:+.digits$}"),
            Cell::Empty => "–".to_owned(),
        }
    }

    fn for_programs(&self) -> Value {
        match self {
            Cell::Text(text) => Value::from(text.as_str()),
            Cell::Count(count) => Value::from(*count),
            Cell::Number(number, _) | Cell::Change(number, _) => Value::from(*number),
            Cell::Empty => Value::Null,
        }
    }

    fn for_spreadsheets(&self) -> String {
        match self {
            Cell::Number(number, _) | Cell::Change(number, _) => number.to_string(),
            Cell::Empty => String::new(),
            cell => cell.for_people(),
        }
    }

    fn is_text(&self) -> bool {
        matches!(self, Cell::Text(_))
    }
}

/// Columns and rows; every row has a cell per column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Table { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row. Panics if it has not one cell per column.
    pub fn push(&mut self, row: impl IntoIterator<Item = Cell>) {
        let row: Vec<_> = row.into_iter().collect();
        assert_eq!(row.len(), self.columns.len(), "Invariant: a row has one cell per column");
        self.rows.push(row);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text that ends with a newline.
    ///
    /// # Errors
    /// None in practice: writing to memory.
    pub fn render(&self, format: Format) -> anyhow::Result<String> {
        match format {
            Format::Table => Ok(self.aligned()),
            Format::Json => {
                let mut text = serde_json::to_string_pretty(&self.objects())?;
                text.push('\n');
                Ok(text)
            }
            Format::Csv => self.csv(),
        }
    }

    fn aligned(&self) -> String {
        let cells: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(Cell::for_people).collect()).collect();
        let width = |column: usize| {
            let body = cells.iter().map(|row| row[column].chars().count());
            body.chain([self.columns[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        // A column of words stands to the left, one of numbers to the right.
        let left: Vec<bool> =
            (0..self.columns.len()).map(|column| self.rows.iter().any(|row| row[column].is_text())).collect();
        let line = |row: &[String]| {
            let pad = |(column, cell): (usize, &String)| {
                let gap = " ".repeat(widths[column] - cell.chars().count());
                if left[column] { format!("{cell}{gap}") } else { format!("{gap}{cell}") }
            };
            let line: Vec<_> = row.iter().enumerate().map(pad).collect();
            format!("{}\n", line.join("  ").trim_end())
        };
        let body: String = cells.iter().map(|row| line(row)).collect();
        line(&self.columns) + &body
    }

    fn objects(&self) -> Vec<Map<String, Value>> {
        let object = |row: &Vec<Cell>| {
            self.columns.iter().cloned().zip(row.iter().map(Cell::for_programs)).collect::<Map<_, _>>()
        };
        self.rows.iter().map(object).collect()
    }

    fn csv(&self) -> anyhow::Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.columns)?;
        for row in &self.rows {
            writer.write_record(row.iter().map(Cell::for_spreadsheets))?;
        }
        let bytes = writer.into_inner().context("a table could not be written to memory")?;
        Ok(String::from_utf8(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_table_reads_the_same_in_three_formats() {
        let mut table = Table::new(["policy", "e2e_pct", "pauses"]);
        table.push(["orbitflow".into(), Cell::Number(66.666, 1), 4_u64.into()]);
        table.push(["no, \"quotes\"".into(), Cell::Number(5.0, 1), 10_u64.into()]);
        let people = "policy        e2e_pct  pauses\n\
                      orbitflow        66.7       4\n\
                      no, \"quotes\"      5.0      10\n";
        assert_eq!(table.render(Format::Table).unwrap(), people);
        let csv = "policy,e2e_pct,pauses\norbitflow,66.666,4\n\"no, \"\"quotes\"\"\",5,10\n";
        assert_eq!(table.render(Format::Csv).unwrap(), csv);
        let json: Value = serde_json::from_str(&table.render(Format::Json).unwrap()).unwrap();
        assert_eq!(json[0]["e2e_pct"], 66.666);
        assert_eq!(json[1]["e2e_pct"], 5.0);
    }
}
