//! Types by layer and role, as a map.

use super::figure;
use crate::report::html::{HtmlTable, escaped};
use crate::report::{Section, TypeMap};

/// Bits per weight that are drawn darkest.
const MOST_BITS: f64 = 16.0;
/// Most of the bar's colour in a cell, in percent: text on it stays readable.
const DARKEST: f64 = 38.0;

/// Returns the section on the types of the model called `name`.
pub fn types_section(name: &str, map: &TypeMap) -> Section {
    let mut body = String::from(
        "<p>Each cell is the type of one matrix: rows are layers, columns are roles as GGUF names them. The more bits per weight, \
         the darker the cell.</p>\n",
    );
    body += "<p>";
    for (kind, bits) in &map.bits {
        body += &format!("{} {} bits per weight. ", cell(map, kind), figure(*bits));
    }
    body += "</p>\n";
    if !map.layers.is_empty() {
        let head: Vec<&str> = ["Layer"].into_iter().chain(map.roles.iter().map(String::as_str)).collect();
        let mut table = HtmlTable::new("map", &format!("Types of {name} by layer and role"), &head, &[0]);
        for row in &map.layers {
            let cells =
                row.types.iter().map(|kind| kind.map_or_else(|| "none".into(), |kind| cell(map, kind)));
            table.row(&[row.layer.to_string()].into_iter().chain(cells).collect::<Vec<_>>());
        }
        body += &table.end();
    }
    if !map.outside.is_empty() {
        let mut table = HtmlTable::new("map", "Matrices outside the layers", &["Tensor", "Type"], &[]);
        for (name, kind) in &map.outside {
            table.row(&[format!("<span class=\"token\">{}</span>", escaped(name)), cell(map, kind)]);
        }
        body += &table.end();
    }
    let (count, kinds) = &map.vectors;
    if *count > 0 {
        let kinds = escaped(&kinds.join(", "));
        body +=
            &format!("<p>{count} tensors of one dimension (norms, biases and the like) are {kinds}.</p>\n");
    }
    Section { anchor: "types".into(), title: "Types by layer and role".into(), body }
}

/// Returns the name of a type on its shade.
fn cell(map: &TypeMap, kind: &str) -> String {
    let bits = map.bits.iter().find(|(of, _)| *of == kind).map_or(0.0, |(_, bits)| *bits);
    let share = DARKEST * (bits / MOST_BITS).min(1.0);
    format!("<span class=\"kind\" style=\"--share:{share:.0}%\">{}</span>", escaped(kind))
}
