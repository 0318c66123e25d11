//! The output's metadata: the input's, brought up to date.

use kquant_formats::gguf::{Metadata, Value, split};
use kquant_formats::imatrix::Imatrix;

/// Version of the block types' layouts, `general.quantization_version`.
const QUANTIZATION_VERSION: u32 = 2;

/// The metadata of the (first) output file: llama-quantize's order, so that equal choices give equal headers.
pub(super) fn output_metadata(
    input: &Metadata,
    file_type: Option<u32>,
    importance: Option<(&str, &Imatrix)>,
) -> Metadata {
    let mut metadata = input.clone();
    for key in [split::NO, split::COUNT, split::TENSORS] {
        metadata.remove(key);
    }
    let mut append = |key: &str, value: Value| {
        metadata.remove(key);
        metadata.set(key, value);
    };
    append("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    if let Some(id) = file_type {
        append("general.file_type", Value::U32(id));
    }
    if let Some((file, imatrix)) = importance {
        append("quantize.imatrix.file", file.into());
        if let Some(dataset) = imatrix.datasets.first() {
            append("quantize.imatrix.dataset", dataset.as_str().into());
        }
        append("quantize.imatrix.entries_count", Value::U32(imatrix.entries.len() as u32));
        if let Some(chunks) = imatrix.chunk_count {
            append("quantize.imatrix.chunks_count", Value::U32(chunks));
        }
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_output_come_last() {
        let mut input = Metadata::new();
        input.set("split.count", Value::U16(3));
        input.set("general.file_type", Value::U32(1));
        input.set("x", Value::U64(1));
        let output = output_metadata(&input, Some(15), None);
        let keys: Vec<_> = output.iter().map(|(k, v)| (k, v.as_u64())).collect();
        let expected =
            [("x", Some(1)), ("general.quantization_version", Some(2)), ("general.file_type", Some(15))];
        assert_eq!(keys, expected);
    }
}
