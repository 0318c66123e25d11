//! Errors by tensor, as bars.

use std::fmt::Write;

use super::{figure, grouped};
use crate::report::html::{HtmlTable, escaped};
use crate::report::{Section, TensorError};

/// Bars that are shown before the list of all.
const SHOWN: usize = 20;

/// Returns the section on the errors of tensors; `alone` are the names of the tensors that only the base and only the model have.
pub fn errors_section(errors: &[TensorError], alone: [&[&str]; 2]) -> Section {
    let mut sorted: Vec<&TensorError> = errors.iter().filter(|e| e.relative_squared_error != 0.0).collect();
    let equal = errors.len() - sorted.len();
    // What is not a number is worst.
    sorted.sort_by(|a, b| b.relative_squared_error.total_cmp(&a.relative_squared_error));
    let mut body = String::from(
        "<p>The squared change of a tensor's weights over the sum of their squares: 0 is unchanged, 0.01 means that a hundredth of the \
         tensor's energy is noise. What such an error costs in predictions differs from tensor to tensor.</p>\n",
    );
    let _ =
        writeln!(body, "<p>{equal} of {} tensors have exactly the weights of the base.</p>", errors.len());
    for (names, who) in alone.into_iter().zip(["the base", "the model"]) {
        if !names.is_empty() {
            let _ = writeln!(body, "<p>Only {who} has {}.</p>", escaped(&names.join(", ")));
        }
    }
    if !sorted.is_empty() {
        let _ = writeln!(body, "<h3>The {} largest errors</h3>", sorted.len().min(SHOWN));
        body += &bars(&sorted);
        body += &all(errors);
    }
    Section { anchor: "errors".into(), title: "Error by tensor".into(), body }
}

fn bars(sorted: &[&TensorError]) -> String {
    let finite = |e: &&TensorError| Some(e.relative_squared_error).filter(|x| x.is_finite());
    let most = sorted.iter().filter_map(finite).fold(0.0, f64::max);
    let mut out = "<div class=\"bars\">\n".to_owned();
    for error in sorted.iter().take(SHOWN) {
        let share = 100.0 * finite(error).map_or(1.0, |x| if most > 0.0 { x / most } else { 0.0 });
        let _ = writeln!(
            out,
            "<div class=\"bar\"><span class=\"name\"><span class=\"token\">{}</span> <span class=\"soft\">{}</span></span>\
             <span class=\"track\"><span class=\"fill\" style=\"width:{share:.1}%\"></span></span>\
             <span class=\"value\">{}</span></div>",
            escaped(&error.name),
            escaped(&change(error)),
            figure(error.relative_squared_error)
        );
    }
    out + "</div>\n"
}

/// Returns the types before and after.
fn change(error: &TensorError) -> String {
    match error.types.from == error.types.to {
        true => error.types.to.to_owned(),
        false => format!("{} to {}", error.types.from, error.types.to),
    }
}

/// Returns the table of all tensors, closed at first.
fn all(errors: &[TensorError]) -> String {
    let head = ["Tensor", "Types", "Weights", "Relative squared error", "Largest change of a weight"];
    let mut table = HtmlTable::new("plain", "All tensors in the order of the file", &head, &[2, 3, 4]);
    for error in errors {
        table.row(&[
            format!("<span class=\"token\">{}</span>", escaped(&error.name)),
            escaped(&change(error)),
            grouped(error.weights),
            figure(error.relative_squared_error),
            figure(error.largest),
        ]);
    }
    format!("<details>\n<summary>All {} tensors</summary>\n{}</details>\n", errors.len(), table.end())
}
