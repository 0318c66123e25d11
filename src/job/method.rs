//! How weights are rounded: levels of quality, and what they mean for the statistics at hand.

use std::sync::Arc;

use crate::encode::{self, Encoder, LayerMethod, feedback};

/// How much is done for the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Quality {
    /// Scales are weighted by the mean squares of the inputs.
    Fast,
    /// Errors are made up for by later columns and layers.
    Good,
    /// Errors are made up for by other rows, too, and the output projection gets feedback as well.
    Best,
}

/// What is known of the inputs of linear maps before, or while, they are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// Their mean squares: an importance matrix.
    Importance,
    /// Their Hessians: a statistics file.
    Hessians,
    /// Anything that is asked for: a text.
    Text,
}

/// What is asked for by name; what is not follows from the statistics at hand.
#[derive(Debug, Clone, Default)]
pub struct MethodOptions {
    /// The level.
    pub quality: Option<Quality>,
    /// The encoder, where no level is given.
    pub encoder: Option<&'static dyn Encoder>,
    /// Whether errors are fed back over rows as well as columns.
    pub both_sides: Option<bool>,
    /// Whether the output projection gets feedback.
    pub with_output: bool,
    /// How weights are rounded with feedback.
    pub feedback: feedback::Options,
}

/// How weights are rounded.
#[derive(Debug, Clone)]
pub struct Method {
    /// What encodes weights that get no feedback; one that wants Hessians stands for feedback in the layers.
    pub encoder: &'static dyn Encoder,
    /// What encodes the matrices of layers by their statistics, if the encoder has such a method.
    pub layers: Option<Arc<dyn LayerMethod>>,
    /// Whether the output projection gets feedback.
    pub with_output: bool,
}

impl Method {
    /// Whether Fisher matrices of outputs have to be known.
    pub fn needs_fishers(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| layers.needs().fishers)
    }
}

/// Options that contradict each other or the statistics at hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// Feedback without statistics.
    #[error(
        "--quality and --feedback need a text: give --calibrate TEXT, or --statistics with statistics of one"
    )]
    NoText,
    /// An encoder without its statistics.
    #[error("--encoder {0} needs a text: give --calibrate TEXT, or choose --encoder search")]
    EncoderNeedsText(&'static str),
    /// A level that has no feedback, with feedback.
    #[error("--quality fast has no feedback: leave out --feedback")]
    FastFeedback,
    /// A level that has more feedback than is asked for.
    #[error("--quality best feeds back over both sides: leave out --feedback, or choose --quality good")]
    BestColumns,
    /// Feedback with another encoder.
    #[error("--feedback both is of --encoder gptq: leave out --encoder {0}")]
    FeedbackEncoder(&'static str),
    /// The table of encoders lacks one.
    #[error("there is no encoder {0}")]
    NoEncoder(&'static str),
}

impl MethodOptions {
    /// The method that is asked for, or the best for what is `known`.
    ///
    /// # Errors
    /// [`MethodError`] where the options contradict each other, or need more than is known.
    pub fn choose(&self, known: Known) -> Result<Method, MethodError> {
        if (self.quality.is_some() || self.both_sides.is_some()) && known == Known::Nothing {
            return Err(MethodError::NoText);
        }
        let name = match (self.quality, known) {
            (Some(Quality::Fast), _) | (None, Known::Importance) => "auto",
            (Some(_), _) | (None, Known::Hessians | Known::Text) => "gptq",
            (None, Known::Nothing) => "guarded",
        };
        let by_name = || encode::by_name(name).ok_or(MethodError::NoEncoder(name));
        let encoder = self.encoder.map_or_else(by_name, Ok)?;
        if encoder.wants_hessians() && known == Known::Nothing {
            return Err(MethodError::EncoderNeedsText(encoder.name()));
        }
        let both_sides = self.both_sides()?;
        if both_sides && !encoder.wants_hessians() {
            return Err(MethodError::FeedbackEncoder(encoder.name()));
        }
        let with_output = self.with_output || self.quality == Some(Quality::Best);
        let layers = encoder.layer_method(&self.feedback, both_sides);
        Ok(Method { encoder, layers, with_output })
    }

    /// Whether errors are fed back over rows as well.
    fn both_sides(&self) -> Result<bool, MethodError> {
        match (self.both_sides, self.quality) {
            (Some(_), Some(Quality::Fast)) => Err(MethodError::FastFeedback),
            (Some(false), Some(Quality::Best)) => Err(MethodError::BestColumns),
            (Some(both), _) => Ok(both),
            (None, quality) => Ok(quality == Some(Quality::Best)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(known: Known, quality: Option<Quality>) -> Result<(&'static str, bool, bool), MethodError> {
        let method = MethodOptions { quality, ..MethodOptions::default() }.choose(known)?;
        Ok((method.encoder.name(), method.needs_fishers(), method.with_output))
    }

    #[test]
    fn statistics_and_level_decide() {
        assert_eq!(encoder(Known::Nothing, None), Ok(("guarded", false, false)));
        assert_eq!(encoder(Known::Importance, None), Ok(("auto", false, false)));
        assert_eq!(encoder(Known::Hessians, None), Ok(("gptq", false, false)));
        assert_eq!(encoder(Known::Text, Some(Quality::Fast)), Ok(("auto", false, false)));
        assert_eq!(encoder(Known::Text, Some(Quality::Good)), Ok(("gptq", false, false)));
        assert_eq!(encoder(Known::Text, Some(Quality::Best)), Ok(("gptq", true, true)));
        assert_eq!(encoder(Known::Nothing, Some(Quality::Good)), Err(MethodError::NoText));
    }

    #[test]
    fn contradictions_are_refused() {
        let asked = |quality, both_sides, encoder: Option<&str>| {
            let encoder = encoder.and_then(encode::by_name);
            MethodOptions { quality, both_sides, encoder, ..MethodOptions::default() }
                .choose(Known::Text)
                .map(drop)
        };
        assert_eq!(asked(Some(Quality::Fast), Some(true), None), Err(MethodError::FastFeedback));
        assert_eq!(asked(Some(Quality::Best), Some(false), None), Err(MethodError::BestColumns));
        assert_eq!(asked(None, Some(true), Some("ggml")), Err(MethodError::FeedbackEncoder("ggml")));
        assert_eq!(asked(None, Some(true), None), Ok(()));
    }
}
