//! Sections of the page, one file each: data to HTML.

mod errors;
mod facts;
mod sizes;
mod tables;
mod text;
mod types;
mod writing;

use crate::chart::Chart;

pub use errors::errors_section;
pub use facts::facts_section;
pub use sizes::{SizePoint, size_section};
pub use tables::{chart_section, table_section};
pub use text::text_section;
pub use types::types_section;
pub use writing::samples_section;

/// Width and height of charts on a phone, in pixels.
const NARROW: [f64; 2] = [360.0, 400.0];

/// Returns a chart twice, of which the page shows that which fits.
fn drawn(chart: &Chart) -> String {
    let [width, height] = NARROW;
    format!(
        "<div class=\"wide\">\n{}</div>\n<div class=\"narrow\">\n{}</div>\n",
        chart.svg(),
        chart.svg_of(width, height)
    )
}

/// Returns a number with four significant digits, as a reader reads it.
fn figure(x: f64) -> String {
    match x.abs() {
        _ if x.is_nan() => "not a number".to_owned(),
        _ if x.is_infinite() => "infinite".to_owned(),
        0.0 => "0".to_owned(),
        size if !(1e-4..1e6).contains(&size) => format!("{x:.3e}"),
        size => {
            let digits = (3 - size.log10().floor() as i32).clamp(0, 8) as usize;
            format!("{x:.digits$}")
        }
    }
}

/// Returns bytes as people say them, with the exact number.
fn bytes(n: u64) -> String {
    let (unit, name) = match n {
        0..1_000_000 => (1e3, "kB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        _ => (1e9, "GB"),
    };
    format!("{:.2} {name} ({} bytes)", n as f64 / unit, grouped(n))
}

/// Returns a whole number with a comma before each three digits.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_four_digits() {
        let all = [0.0, 0.012345678, 3.5, 1234.5678, 1.5e-9, 2e7, f64::NAN].map(figure);
        assert_eq!(all, ["0", "0.01235", "3.500", "1235", "1.500e-9", "2.000e7", "not a number"]);
        assert_eq!(
            [999, 1_500_000, 2_340_000_000].map(bytes)[1..],
            ["1.50 MB (1,500,000 bytes)", "2.34 GB (2,340,000,000 bytes)"]
        );
    }
}
