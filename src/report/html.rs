//! The page: sections between a head and a foot, and the escaping of every text in them.

use std::fmt::Write;

/// Colours in light and dark mode, widths for phones and desks.
const STYLE: &str = include_str!("style.css");

/// A part of a page under a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Anchor of the section, lower-case letters.
    pub anchor: String,
    /// Heading.
    pub title: String,
    /// HTML of the content.
    pub(super) body: String,
}

/// A report as one HTML file that needs no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What the page is about.
    pub title: String,
    /// The findings in a sentence or two.
    pub lead: String,
    /// The command as it was typed.
    pub command: String,
    /// Version of the program.
    pub version: String,
    /// Sections in their order.
    pub sections: Vec<Section>,
}

impl Page {
    /// Returns the bytes of the HTML file.
    pub fn html(&self) -> String {
        let (title, lead) = (escaped(&self.title), escaped(&self.lead));
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"generator\" content=\"kquant {}\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <header>\n<h1>{title}</h1>\n<p class=\"lead\">{lead}</p>\n<nav aria-label=\"Sections\">\n",
            escaped(&self.version)
        );
        for section in &self.sections {
            let _ = writeln!(out, "<a href=\"#{}\">{}</a>", section.anchor, escaped(&section.title));
        }
        out += "</nav>\n</header>\n<main>\n";
        for section in &self.sections {
            let Section { anchor, title, body } = section;
            let title = escaped(title);
            let _ = write!(out, "<section id=\"{anchor}\">\n<h2>{title}</h2>\n{body}</section>\n");
        }
        let _ = write!(
            out,
            "</main>\n<footer>\n<p>Made by kquant {} with</p>\n<pre class=\"command\">{}</pre>\n</footer>\n</body>\n</html>\n",
            escaped(&self.version),
            escaped(&self.command)
        );
        out
    }
}

/// Returns `text` as text of an HTML page, also within quotes. Control characters other than line feeds and tabs, and those that turn the
/// direction of writing, are replaced: a file's names must not change how the page reads.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || turns(c) => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{061c}')
}

/// A table of HTML whose first row is its head; it scrolls by itself where it is too wide.
pub(super) struct HtmlTable {
    out: String,
    /// Columns with numbers, which are aligned right.
    right: &'static [usize],
}

impl HtmlTable {
    /// Starts a table that `caption` describes; `class` is its class of style.
    pub(super) fn new(class: &str, caption: &str, head: &[&str], right: &'static [usize]) -> Self {
        let caption = escaped(caption);
        let mut out = format!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\">\n<table class=\"{class}\">\n<caption>{caption}</caption>\n<thead><tr>"
        );
        for (i, cell) in head.iter().enumerate() {
            let _ = write!(out, "<th scope=\"col\"{}>{}</th>", align(right, i), escaped(cell));
        }
        out += "</tr></thead>\n<tbody>\n";
        Self { out, right }
    }

    /// Adds a row of HTML cells, the first of which names the row.
    pub(super) fn row(&mut self, cells: &[String]) {
        self.out += "<tr>";
        for (i, cell) in cells.iter().enumerate() {
            let align = align(self.right, i);
            let _ = match i {
                0 => write!(self.out, "<th scope=\"row\"{align}>{cell}</th>"),
                _ => write!(self.out, "<td{align}>{cell}</td>"),
            };
        }
        self.out += "</tr>\n";
    }

    /// Returns the table.
    pub(super) fn end(self) -> String {
        self.out + "</tbody>\n</table>\n</div>\n"
    }
}

fn align(right: &[usize], column: usize) -> &'static str {
    if right.contains(&column) { " class=\"number\"" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        assert_eq!(escaped("<script>'\"&"), "&lt;script&gt;&#39;&quot;&amp;");
        assert_eq!(escaped("a\nb\tc\u{1b}[2J\u{9b}\u{202e}d"), "a\nb\tc\u{fffd}[2J\u{fffd}\u{fffd}d");
    }

    #[test]
    fn every_part_of_a_page_is_escaped() {
        let evil = "</h1><script>alert(1)</script>".to_owned();
        let section = Section { anchor: "x".into(), title: evil.clone(), body: String::new() };
        let page = Page {
            title: evil.clone(),
            lead: evil.clone(),
            command: evil.clone(),
            version: evil.clone(),
            sections: vec![section],
        };
        let html = page.html();
        assert!(!html.contains("<script") && html.matches("&lt;script&gt;").count() == 8, "{html}");
        assert_eq!(html.matches("</h1>").count(), 1);
        let mut table = HtmlTable::new("plain", &evil, &[&evil], &[0]);
        table.row(&[escaped(&evil)]);
        assert!(!table.end().contains("<script"));
    }
}
