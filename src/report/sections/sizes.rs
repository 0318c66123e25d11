//! Size against divergence.

use super::{bytes, drawn, figure};
use crate::chart::{Chart, Mark, Point, Series};
use crate::report::Section;
use crate::report::html::{HtmlTable, escaped};

/// A model on the way from size to divergence.
#[derive(Debug, Clone, PartialEq)]
pub struct SizePoint {
    /// What it is called.
    pub name: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bits per weight of its tensors.
    pub bits_per_weight: f64,
    /// Mean divergence from the base in nats per token; 0 for the base itself.
    pub kl: f64,
}

/// Returns the section on the sizes of the base and of the models made of it, with their divergence on the text called `text`.
pub fn size_section(base: &SizePoint, models: &[SizePoint], text: &str) -> Section {
    let head =
        ["Model", "Size", "Bits per weight", "Share of the base's size", "KL divergence, nats per token"];
    let mut table = HtmlTable::new("plain", &format!("Size and divergence on {text}"), &head, &[2, 3, 4]);
    for (point, is_base) in [(base, true)].into_iter().chain(models.iter().map(|point| (point, false))) {
        table.row(&[
            escaped(&point.name),
            bytes(point.bytes),
            figure(point.bits_per_weight),
            format!("{:.1} %", 100.0 * point.bytes as f64 / base.bytes.max(1) as f64),
            if is_base { "0, by definition".into() } else { figure(point.kl) },
        ]);
    }
    let mut body =
        "<p>Files should be small and predict what the base predicts: down and to the left is better.</p>\n"
            .to_owned();
    if let Some(chart) = chart(base, models) {
        body += &drawn(&chart);
    }
    body += &table.end();
    Section { anchor: "size".into(), title: "Size and divergence".into(), body }
}

/// Returns the chart, or nothing where no model diverges. The base, whose logarithm is nowhere, stands at the lower edge.
fn chart(base: &SizePoint, models: &[SizePoint]) -> Option<Chart> {
    let least = models.iter().map(|p| p.kl).filter(|&kl| kl > 0.0 && kl.is_finite()).reduce(f64::min)?;
    let floor = 10f64.powf(least.log10().floor());
    let point = |p: &SizePoint, y: f64, label: String| Point { x: p.bytes as f64 / 1e6, y, label };
    let models = models.iter().map(|p| point(p, p.kl, p.name.clone())).collect();
    let below = point(base, floor, "KL 0, below this axis".into());
    let series = |name: &str, mark, points| Series { name: name.to_owned(), mark, points };
    Some(Chart {
        title: "Size and divergence".into(),
        x_axis: "files, MB of 1,000,000 bytes".into(),
        y_axis: "KL divergence, nats per token".into(),
        series: vec![series("base", Mark::Cross, vec![below]), series("made of it", Mark::Circle, models)],
    })
}
