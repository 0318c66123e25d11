//! The quality of a model: its perplexity, and its divergence from the model that it was made of.
//!
//! [`evaluate`](evaluate()) runs models over a text. The other functions are pure and take logits row by row.
//!
//! 1. [`Chunks`](crate::text::Chunks) cuts the tokenized text. The caller runs
//!    [`Chunks::tokens`](crate::text::Chunks::tokens) through one model or two and keeps the logits of the positions
//!    [`Chunks::scored`](crate::text::Chunks::scored), which predict [`Chunks::targets`](crate::text::Chunks::targets).
//! 2. Each row becomes a few numbers: [`score_row`] scores a model alone, [`compare_rows`] compares it with the logits of a
//!    base, [`compare_kept_rows`] with those of a base that has more tokens, and [`compare_log_probs`] with a row of a logits
//!    file ([`kquant_formats::logits`]). These functions can run on any thread, and the row is not needed afterwards.
//! 3. The numbers go into [`Perplexity`] or [`Divergence`] in the order of the text. Sums of floating-point numbers depend
//!    on their order, so that the text, and not the threads, determines the last bit. Both give running values.
//! 4. [`Report`] is the result, as JSON or as lines; [`Scores`] has those on several texts and says which is the worst.
//!
//! [`evaluate_watched`] tells of each position besides: what both models expected there, and how far they are apart.
//!
//! Embedding models are compared by [`embeddings`] and [`compare_embeddings`] instead.
//!
//! To write a logits file, encode a row with the logarithm that [`Normalizer`] gives:
//!
//! ```
//! use kquant::evaluate::Normalizer;
//! use kquant_formats::logits::encode_row;
//!
//! let logits = [0.5, 1.5, -2.0];
//! let normalizer = Normalizer::of(&logits)?;
//! let mut row = Vec::new();
//! encode_row(&logits, normalizer.log_sum_exp as f32, &mut row)?;
//! assert_eq!(row.len(), 8 + 2 * 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A model whose vocabulary was trimmed is compared with its original over the tokens that both have. With the base's
//! probabilities `p`, the model's `q`, and the sum `s` of `p` over the common tokens, the divergence at a position is
//!
//! ```text
//! sum over the common tokens of (p / s) * ln((p / s) / q) - ln s
//! ```
//!
//! Its first part is the divergence where one of the common tokens follows, its second the cost of the lost ones. It is
//! finite where the usual divergence, with `q = 0` for lost tokens, is not; without lost tokens both are equal. For a model
//! that only lost tokens, and a text that needs none of them, it is `-ln s`, which [`divergences`] computes. The perplexity of
//! the base is over all its tokens. The text is cut by the model's tokenizer, and the base reads the same tokens.
//!
//! All other definitions are those of llama-perplexity (tools/perplexity in llama.cpp). The precision differs: numbers that are
//! f32 there are f64 here, and logits of two models are compared without rounding them to 16 bits.

mod compare;
mod divergence;
mod embedding;
mod error;
mod estimate;
mod kept;
mod mass;
mod perplexity;
mod report;
mod run;
mod scores;
mod softmax;
mod watched;

pub use compare::{TokenStats, compare_log_probs, compare_rows, score_row};
pub use divergence::{Base, Comparison, DeltaP, Divergence};
pub use embedding::{
    EmbeddingReport, NEIGHBOURS, compare_embeddings, embedding_work, embeddings, pooling_of,
};
pub use error::{RowError, Side};
pub use estimate::{Distribution, Estimate, Mean};
pub use kept::compare_kept_rows;
pub use mass::{divergences, masses};
pub use perplexity::Perplexity;
pub use report::Report;
pub(crate) use run::model_error;
pub use run::{EvaluateError, Reference, Running, evaluate, evaluate_watched, work};
pub use scores::{Scores, TextScore};
pub use softmax::Normalizer;
pub use watched::{Guess, Listeners, PositionScore};
