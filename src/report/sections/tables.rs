//! Sections that are a chart or a table of the command's own.

use super::drawn;
use crate::chart::Chart;
use crate::report::Section;
use crate::report::html::{HtmlTable, escaped};

/// Returns a section with a chart, below a sentence.
pub fn chart_section(anchor: &str, title: &str, sentence: &str, chart: &Chart) -> Section {
    let body = format!("<p>{}</p>\n{}", escaped(sentence), drawn(chart));
    Section { anchor: anchor.to_owned(), title: title.to_owned(), body }
}

/// Returns a section with a table below a sentence; the first of `rows` is the head, all columns but the first hold numbers.
pub fn table_section(anchor: &str, title: &str, sentence: &str, rows: &[Vec<String>]) -> Section {
    let head: Vec<&str> = rows.first().into_iter().flatten().map(String::as_str).collect();
    let mut table = HtmlTable::new("plain", title, &head, &[1, 2, 3, 4, 5, 6, 7, 8]);
    for row in rows.iter().skip(1) {
        table.row(&row.iter().map(|cell| escaped(cell)).collect::<Vec<_>>());
    }
    let body = format!("<p>{}</p>\n{}", escaped(sentence), table.end());
    Section { anchor: anchor.to_owned(), title: title.to_owned(), body }
}
