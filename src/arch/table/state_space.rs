//! What families with Mamba 2's state spaces have in common.

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::{ScanSizes, Sizes};
use crate::arch::table::keys::Keys;

/// The tensors of a state space whose names in the checkpoint begin with `$prefix`.
macro_rules! state_space {
    ($prefix:literal) => {{
        use crate::arch::table::dims::Dim::*;
        use crate::arch::table::entry::Entry;
        use crate::tensor::RowOrder;

        &[
            Entry::new(concat!($prefix, "A_log"), "blk.{}.ssm_a", &[StateHeads])
                .rates(&[StateHeads, One], |_| RowOrder::Flat)
                .recurrent(),
            Entry::new(concat!($prefix, "D"), "blk.{}.ssm_d", &[StateHeads])
                .part(&[StateHeads, One], |_| RowOrder::Flat)
                .recurrent(),
            Entry::new(concat!($prefix, "conv1d.bias"), "blk.{}.ssm_conv1d.bias", &[Channels])
                .optional()
                .recurrent(),
            Entry::new(
                concat!($prefix, "conv1d.weight"),
                "blk.{}.ssm_conv1d.weight",
                &[Channels, One, Kernel],
            )
            .part(&[Channels, Kernel], |_| RowOrder::Same)
            .recurrent()
            .always_f32(),
            Entry::new(concat!($prefix, "dt_bias"), "blk.{}.ssm_dt.bias", &[StateHeads]).recurrent(),
            Entry::new(
                concat!($prefix, "in_proj.weight"),
                "blk.{}.ssm_in.weight",
                &[StateProjection, Hidden],
            )
            .recurrent(),
            Entry::new(concat!($prefix, "norm.weight"), "blk.{}.ssm_norm.weight", &[Inner])
                .part(&[StateGroups, StateGroup], |_| RowOrder::Flat)
                .recurrent(),
            Entry::new(concat!($prefix, "out_proj.weight"), "blk.{}.ssm_out.weight", &[Hidden, Inner])
                .recurrent(),
        ]
    }};
}
pub(in crate::arch) use state_space;

/// Keys that say how a state space is initialised or computed, not what.
const HARMLESS: [&str; 10] = [
    "chunk_size",
    "mamba_chunk_size",
    "rescale_prenorm_residual",
    "residual_in_fp32",
    "rms_norm",
    "time_step_floor",
    "time_step_max",
    "time_step_min",
    "time_step_rank",
    "init_method",
];

/// Checks what [`with_scan_of_any_width`] does, and that all heads together are `expand` times as wide as the stream, as readers of
/// the file assume; returns `sizes` with the state space.
pub(in crate::arch) fn with_scan(
    config: &Config,
    sizes: Sizes,
    scan: ScanSizes,
    (expand, key): (u32, &'static str),
) -> Result<Sizes, ArchError> {
    let sizes = with_scan_of_any_width(config, sizes, scan)?;
    if scan.inner() != expand.saturating_mul(sizes.hidden) {
        let expected =
            "the width of all heads together over that of the stream, as readers of the file assume";
        return Err(config.unusable(key, expected).into());
    }
    Ok(sizes)
}

/// Checks that groups divide heads and that steps have no bounds, as readers of the file assume; returns `sizes` with the state
/// space.
pub(in crate::arch) fn with_scan_of_any_width(
    config: &Config,
    sizes: Sizes,
    scan: ScanSizes,
) -> Result<Sizes, ArchError> {
    for key in HARMLESS {
        config.value(key);
    }
    if !scan.heads.is_multiple_of(scan.groups) {
        return Err(config.unusable("n_groups", "a divisor of the number of heads").into());
    }
    let is_unbounded = |limit: &serde_json::Value| match limit.as_array().map(Vec::as_slice) {
        Some([least, most]) => least.as_f64() == Some(0.0) && most.as_f64().is_none(),
        _ => limit.is_null(),
    };
    if config.value("time_step_limit").is_some_and(|limit| !is_unbounded(limit)) {
        return Err(config
            .unusable("time_step_limit", "from 0 to infinity, as readers of the file assume")
            .into());
    }
    Ok(Sizes { scan, ..sizes })
}

/// Adds the keys of the state space in the order of most families.
pub(in crate::arch) fn scan_keys(sizes: &Sizes, keys: &mut Keys) {
    keys.count("ssm.conv_kernel", sizes.kernel);
    keys.count("ssm.state_size", sizes.scan.state);
    keys.count("ssm.group_count", sizes.scan.groups);
    keys.count("ssm.inner_size", sizes.scan.inner());
    keys.count("ssm.time_step_rank", sizes.scan.heads);
}
