//! What `quantize` prints.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::HumanDuration;
use kquant::job::Report;
use kquant::layerwise::Estimate;
use kquant::plan::{AllocationView, PlanView};
use kquant::recipe::PriceUnit;
use kquant_kernels::isa::Isa;

use crate::cli::printable::{printable, printable_path};
use crate::cli::{bytes, table};

/// What the user should know before a long run: notes, warnings and tensors that do not get the type they should.
pub(super) fn warn(view: &PlanView) -> io::Result<()> {
    let mut err = io::stderr().lock();
    for note in view.notes {
        writeln!(err, "note: {}", printable(note))?;
    }
    warnings(view.warnings)?;
    if view.fallbacks > 0 {
        writeln!(
            err,
            "warning: {} of {} tensors ({:.1} % of the weights) cannot have the type of the recipe; see --dry-run",
            view.fallbacks,
            view.tensors.len(),
            view.fallback_weights * 100.0
        )?;
    }
    Ok(())
}

/// A line for each warning.
pub(super) fn warnings(warnings: &[String]) -> io::Result<()> {
    let mut err = io::stderr().lock();
    warnings.iter().try_for_each(|warning| writeln!(err, "warning: {}", printable(warning)))
}

/// The name that the output will have, where it was left to kquant.
pub(super) fn named(out: Option<&Path>) -> io::Result<()> {
    out.map_or(Ok(()), |out| writeln!(io::stdout(), "to be written: {}", printable_path(out)))
}

/// What encoding with feedback will take.
pub(super) fn expected(estimate: &Estimate) -> io::Result<()> {
    let clock = |seconds: f64| HumanDuration(Duration::from_secs_f64(seconds)).to_string();
    let steps = estimate.steps.iter().filter(|(_, seconds)| *seconds >= 0.5);
    let steps: Vec<String> = steps.map(|(name, seconds)| format!("{name} {}", clock(*seconds))).collect();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "feedback will take about {} on this machine ({})",
        clock(estimate.seconds),
        steps.join(", ")
    )?;
    writeln!(
        out,
        "it needs {} of memory (--memory) at least, and {} of disk at most, for the output and the journal beside it",
        bytes::show(estimate.least_memory),
        bytes::show(estimate.disk)
    )
}

/// The plan, a line for each tensor.
pub(super) fn plan(view: &PlanView) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let priced = view.allocation.is_some();
    let mut rows = vec![["tensor", "shape", "from", "to", "bytes", "bpw"].map(str::to_owned).to_vec()];
    rows[0].extend(priced.then(|| "price".to_owned()));
    rows[0].push(String::new());
    for t in &view.tensors {
        let shape: Vec<String> = t.shape.iter().map(u64::to_string).collect();
        let mut note = t.fallback.map_or_else(String::new, |f| format!("not {}: {}", f.wanted, f.why));
        if t.importance {
            note.insert_str(0, if note.is_empty() { "importance" } else { "importance; " });
        }
        rows.push(vec![
            t.name.to_owned(),
            shape.join(" x "),
            t.source_type.to_owned(),
            t.kind.to_owned(),
            t.bytes.to_string(),
            format!("{:.4}", t.bits_per_weight),
        ]);
        let row = rows.last_mut().into_iter();
        row.for_each(|row| {
            row.extend(priced.then(|| t.price.map_or_else(String::new, |price| format!("{price:.2e}"))));
            row.push(note.clone());
        });
    }
    table::write(&mut out, &rows, if priced { &[1, 4, 5, 6] } else { &[1, 4, 5] })?;
    writeln!(
        out,
        "\n{} tensors, {} weights, {} ({:.4} bits per weight), file {}",
        view.tensors.len(),
        view.weights,
        bytes::show(view.tensor_bytes),
        view.bits_per_weight,
        bytes::show(view.file_bytes)
    )?;
    view.allocation.as_ref().map_or(Ok(()), |chosen| allocation(&mut out, chosen))?;
    out.flush()?;
    warn(view)
}

/// How the types were chosen, and what that is expected to cost.
pub(super) fn allocation(out: &mut impl Write, chosen: &AllocationView) -> io::Result<()> {
    let AllocationView { target, menu, predicted, bound, .. } = chosen;
    let sum = match chosen.unit {
        PriceUnit::Nats => format!("predicted KL divergence {predicted:.6} nats per token"),
        PriceUnit::RelativeError => format!("sum of relative errors {predicted:.4e}"),
    };
    writeln!(
        out,
        "types of menu {menu} for {target}: {sum}; no choice of these types has less than {:.2} % of it",
        100.0 * bound / predicted.max(f64::MIN_POSITIVE)
    )?;
    if chosen.unneeded > 0 {
        writeln!(
            out,
            "  no choice of these types needs {} of that; --menu or --type may have larger ones",
            bytes::show(chosen.unneeded)
        )?;
    }
    for (kind, runtimes) in &chosen.kernels {
        writeln!(out, "  {kind} has kernels for {}", runtimes.join(", "))?;
    }
    Ok(())
}

/// The predicted divergence beside the measured one.
pub(super) fn predicted(out: &mut impl Write, chosen: &AllocationView, measured: f64) -> io::Result<()> {
    if chosen.unit != PriceUnit::Nats {
        return Ok(());
    }
    writeln!(
        out,
        "KL divergence predicted {:.6}, measured {measured:.6} (on another text, with another share of easy tokens, they may differ)",
        chosen.predicted
    )
}

/// What was written.
pub(super) fn report(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let total: u64 = report.files.iter().map(|f| f.bytes).sum();
    let elapsed = report.elapsed.as_secs_f64();
    for file in &report.files {
        writeln!(out, "{}: {}", printable_path(&file.path), bytes::show(file.bytes))?;
        writeln!(out, "  sha256 {}", file.sha256)?;
    }
    writeln!(
        out,
        "{} -> {}, {:.3} bits per weight, {:.1} s, {:.1} M weights/s ({})",
        bytes::show(report.source_bytes),
        bytes::show(total),
        report.bits_per_weight,
        elapsed,
        report.weights as f64 / elapsed / 1e6,
        Isa::current().name()
    )
}
