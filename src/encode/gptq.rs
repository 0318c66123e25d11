//! The encoder that rounds with feedback, as the pipeline sees it: tensors without feedback are encoded by search.

use std::sync::Arc;

use kquant_kernels::block::BlockType;

use super::feedback::{FeedbackMethod, Options};
use super::search::Search;
use super::{Encoder, LayerMethod, Rows};

/// The encoder that uses feedback for the layers and search for the other tensors.
#[derive(Debug)]
pub(super) struct Gptq;

impl Encoder for Gptq {
    fn name(&self) -> &'static str {
        "gptq"
    }

    fn about(&self) -> &'static str {
        "rounds with feedback, so that later weights make up for the errors of earlier ones; needs a text or a statistics file"
    }

    fn layer_method(&self, options: &Options, both_sides: bool) -> Option<Arc<dyn LayerMethod>> {
        Some(Arc::new(FeedbackMethod { options: options.clone(), both_sides }))
    }

    fn pools_experts(&self) -> bool {
        true
    }

    fn prepare_importance(&self, importance: &[f32], columns: usize) -> Vec<f32> {
        Search.prepare_importance(importance, columns)
    }

    fn encode(&self, block: &BlockType, rows: Rows<'_>, importance: Option<&[f32]>, out: &mut [u8]) {
        Search.encode(block, rows, importance, out);
    }
}
