//! What each tensor of a model costs at each type, measured tensor by tensor: a [`PriceList`](crate::recipe::PriceList) for `recipe` to
//! choose types by.
//!
//! An error E of the weights of `y = x W'` costs `1/2 tr(F E H E')` nats of KL divergence per token, to second order, with
//! `H = E[x x']` over the inputs and `F = E[g g']` over the gradients of the loss by y, labels drawn from the model
//! (Martens, arXiv 1412.1193). Errors of different rows are nearly uncorrelated after rounding, so rows add up: with q_i = e_i H e_i',
//! the cost is `1/2 sum_i F_ii q_i`, and a sample of the rows gives it. E is what the encoder that will be used leaves.
//! A looked-up table costs `1/2 sum_v n_v e_v G e_v'`, G the Fisher matrix of the stream after the lookup and n_v how often token v is looked up; an output
//! projection `1/2 sum_v s_v e_v H e_v'`, s_v the mean of `p (1 - p)`; a table that is both costs both.
//!
//! | file | what |
//! |---|---|
//! | `measure` | all tensors of a model by a statistics file |
//! | `linear` | the tensors that read one input |
//! | `table` | embeddings and the output projection |
//! | `rounded` | the errors that an encoder leaves in some rows |
//! | `sample` | which rows, and what they say of all |
//! | `relative` | all tensors by an importance matrix alone |

mod error;
mod linear;
mod measure;
mod relative;
mod rounded;
mod sample;
mod table;

pub use error::PriceError;
pub use measure::Pricing;
