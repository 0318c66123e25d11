//! The engine of recipes: it makes one choice per tensor from the options, the model and its tensors.

use kquant_kernels::block::BlockType;

use super::mixtures::{ADJUSTMENTS, Adjustment, COMMON, Rule, When};
use super::order::output_order;
use super::position::{Position, Seen};
use super::roles::{Role, role_of};
use super::{
    Choice, FileType, ModelFacts, Options, Reason, RecipeError, TensorFacts, eligible, fallback, types,
};
use crate::tensor::TensorName;

/// A type and the rule that it comes from.
type Wanted = (&'static BlockType, Reason);

/// Chooses a type for each of `tensors`, which must be all tensors of the model, in any order.
///
/// # Errors
/// Fails when an option has no effect, a tensor would be quantized twice without permission, or a type cannot be written
/// yet.
pub fn assign(
    options: &Options,
    model: &ModelFacts,
    tensors: &[TensorFacts],
) -> Result<Vec<Choice>, RecipeError> {
    check_options(options, model, tensors)?;
    let choices = choose_all(options, model, tensors)?;
    check_encodable(tensors, &choices)?;
    if !options.overrides.allow_requantize {
        check_requantized(tensors, &choices)?;
    }
    Ok(choices)
}

/// Makes the choices by the rules alone, whether or not they can be carried out.
pub(super) fn choose_all(
    options: &Options,
    model: &ModelFacts,
    tensors: &[TensorFacts],
) -> Result<Vec<Choice>, RecipeError> {
    let names: Vec<&str> = tensors.iter().map(|t| t.name).collect();
    let mut engine = Engine::new(options, model, &names);
    let mut choices: Vec<(usize, Choice)> = output_order(&names)
        .into_iter()
        .filter_map(|i| tensors.get(i).map(|tensor| (i, tensor)))
        .map(|(i, tensor)| Ok((i, engine.choose(tensor)?)))
        .collect::<Result<_, RecipeError>>()?;
    choices.sort_unstable_by_key(|&(i, _)| i);
    Ok(choices.into_iter().map(|(_, choice)| choice).collect())
}

/// Checks that the options do not contradict each other and that every override has a tensor to act on.
fn check_options(options: &Options, model: &ModelFacts, tensors: &[TensorFacts]) -> Result<(), RecipeError> {
    if options.file_type.base.is_none() && options.overrides.choose_types() {
        return Err(RecipeError::CopyWithTypes);
    }
    options.overrides.check(&model.arch, tensors)
}

/// Checks that every chosen type can be written.
pub(super) fn check_encodable(tensors: &[TensorFacts], choices: &[Choice]) -> Result<(), RecipeError> {
    let stuck = |(tensor, choice): &(&TensorFacts, &Choice)| {
        choice.block != tensor.source && choice.block.encode.is_none()
    };
    tensors.iter().zip(choices).find(stuck).map_or(Ok(()), |(tensor, choice)| {
        Err(RecipeError::TensorNotYet { tensor: tensor.name.to_owned(), block: choice.block.name })
    })
}

/// Refuses to quantize tensors that are quantized already.
pub(super) fn check_requantized(tensors: &[TensorFacts], choices: &[Choice]) -> Result<(), RecipeError> {
    let twice =
        |(tensor, choice): &(&TensorFacts, &Choice)| tensor.source.quantized && choice.block != tensor.source;
    let mut found = tensors.iter().zip(choices).filter(twice);
    found.next().map_or(Ok(()), |(tensor, choice)| {
        Err(RecipeError::Requantize {
            tensor: tensor.name.to_owned(),
            from: tensor.source.name,
            to: choice.block.name,
            count: 1 + found.count(),
        })
    })
}

/// The state of the choices for one model.
struct Engine<'a> {
    options: &'a Options,
    file_type: &'static FileType,
    model: &'a ModelFacts,
    /// True if there is no output projection, so that the token embedding takes its place.
    tied: bool,
    /// Number of value tensors.
    values: u32,
    seen: Seen,
}

impl<'a> Engine<'a> {
    fn new(options: &'a Options, model: &'a ModelFacts, names: &[&str]) -> Self {
        let count = |role| names.iter().filter(|name| role_of(&model.arch, name) == role).count();
        Self {
            options,
            file_type: options.file_type,
            model,
            tied: count(Role::Output) == 0,
            values: u32::try_from(count(Role::Value)).unwrap_or(u32::MAX),
            seen: Seen::default(),
        }
    }

    fn choose(&mut self, tensor: &TensorFacts) -> Result<Choice, RecipeError> {
        let kept = Choice { block: tensor.source, reason: Reason::Kept, fallback: None };
        let Some(base) = self.file_type.base.map(types::of_table).transpose()? else { return Ok(kept) };
        if !eligible::may_convert(&self.model.arch, self.options.overrides.leave_output_tensor, tensor) {
            return Ok(kept);
        }
        let (wanted, reason) = self.wanted(tensor, base)?;
        let (block, fallback) = fallback::fit(wanted, tensor.columns())?;
        Ok(Choice { block, reason, fallback })
    }

    /// Returns the type that the options and rules ask for, before any fallback.
    fn wanted(&mut self, tensor: &TensorFacts, base: &'static BlockType) -> Result<Wanted, RecipeError> {
        let role = role_of(&self.model.arch, tensor.name);
        if let Some(block) = self.options.overrides.named(tensor.name, role) {
            return Ok((block, Reason::Override));
        }
        if self.options.pure || !base.quantized {
            return Ok((base, Reason::Base));
        }
        match role {
            Role::Output => self.output(tensor, base),
            Role::Embedding if self.tied => self.output(tensor, base),
            Role::Embedding => choose_name(self.file_type.embedding, base),
            _ => choose_name(self.by_rules(tensor, role, base.name), base),
        }
    }

    /// Returns the type of the output projection, or of the embeddings that serve as one.
    fn output(&self, tensor: &TensorFacts, base: &'static BlockType) -> Result<Wanted, RecipeError> {
        if let Some(block) = self.options.overrides.output_tensor_type {
            return Ok((block, Reason::Override));
        }
        let odd = self.model.arch == "falcon" || !fallback::fits(base, tensor.columns());
        choose_name(Some(if odd { "Q8_0" } else { self.file_type.output }), base)
    }

    /// Returns the type that the mixture names for a tensor inside a layer; `None` where no rule applies.
    fn by_rules(&mut self, tensor: &TensorFacts, role: Role, base: &'static str) -> Option<&'static str> {
        let position = self.position(tensor, role);
        let applies = |rule: &Rule| {
            (rule.roles.is_empty() || rule.roles.contains(&role))
                && rule.when.iter().all(|&when| self.holds(when, tensor, position))
        };
        let chosen =
            COMMON.iter().chain(self.file_type.rules).find(|rule| applies(rule)).map(|rule| rule.then);
        if !self.file_type.adjusted {
            return chosen;
        }
        let adjust = |name: Option<&'static str>, adjustment: &Adjustment| {
            let from = adjustment.from.is_empty() || adjustment.from.contains(&name.unwrap_or(base));
            if from && applies(&adjustment.rule) { Some(adjustment.rule.then) } else { name }
        };
        ADJUSTMENTS.iter().fold(chosen, adjust)
    }

    /// Returns the position of `tensor` among those of its role, and counts it.
    fn position(&mut self, tensor: &TensorFacts, role: Role) -> Position {
        let seen = self.seen.next(role);
        if role == Role::Value {
            return Position { index: seen, seen, count: self.values };
        }
        // With experts, a layer may have several tensors of a role.
        let named = if self.model.experts > 1 { TensorName(tensor.name).layer() } else { None };
        Position { index: named.unwrap_or(seen), seen, count: self.model.layers }
    }

    /// Returns whether the condition `when` holds.
    fn holds(&self, when: When, tensor: &TensorFacts, position: Position) -> bool {
        let Position { index, seen, count } = position;
        match when {
            When::First(n) => index < n,
            When::FirstPart(n) => index < count / n,
            When::SeenFirstPart(n) => seen < count / n,
            When::MiddlePart => position.middle(),
            When::MoreBits => position.more_bits(),
            When::GroupedQueries => self.model.heads_per_value() >= 4,
            When::ManyExperts => self.model.experts >= 4,
            When::EightExperts => self.model.experts == 8,
            When::SeventyB => self.model.is_seventy_b(),
            When::Falcon => self.model.arch == "falcon",
            When::Bailing => self.model.arch == "bailingmoe3",
            When::Importance => self.model.has_importance,
            When::Stacked => tensor.shape.get(2).is_some_and(|&n| n > 1),
            When::Not(other) => !self.holds(*other, tensor, position),
        }
    }
}

/// Returns the type called `name`, or the base type if there is no name.
fn choose_name(name: Option<&'static str>, base: &'static BlockType) -> Result<Wanted, RecipeError> {
    match name {
        Some(name) => Ok((types::of_table(name)?, Reason::Mixture)),
        None => Ok((base, Reason::Base)),
    }
}
