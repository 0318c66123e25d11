//! The mixtures: rules by tensor role and layer position, stored as data.
//!
//! The rules are those of llama.cpp (`src/llama-quant.cpp`), so that files come out equal. The first rule of a file type
//! that applies to a tensor names its type; where none applies, the tensor gets the file type's base type. [`ADJUSTMENTS`]
//! for unusual models are applied last.

use super::roles::Role;
use Role::{AttentionOutput, Down, Gate, Key, Query, Sensitive, Up, Value};
use When::{
    Bailing, EightExperts, Falcon, First, FirstPart, GroupedQueries, Importance, ManyExperts, MiddlePart,
    MoreBits, Not, SeenFirstPart, SeventyB, Stacked,
};

/// A condition on the model, the tensor or its position.
///
/// The index is the number of the layer. It is found by counting the tensors of the role or, for feed-forward tensors of a
/// model with experts, read from the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// The index is below this number.
    First(u32),
    /// The index lies in the first n-th of the layers.
    FirstPart(u32),
    /// The number of tensors of the role seen so far lies in the first n-th of the layers, whatever the name states.
    SeenFirstPart(u32),
    /// The index lies neither in the first nor in the last eighth of the layers.
    MiddlePart,
    /// The index lies in the first or last eighth of the layers, or is the third of each three in between.
    MoreBits,
    /// At least four query heads share a value head.
    GroupedQueries,
    /// The model has at least four experts.
    ManyExperts,
    /// The model has exactly eight experts, as Mixtral has.
    EightExperts,
    /// The model is of the size class of Llama 2 70B, which is wide and has small value tensors.
    SeventyB,
    /// The architecture is Falcon.
    Falcon,
    /// The architecture is the third BailingMoE.
    Bailing,
    /// An importance matrix is given.
    Importance,
    /// The tensor is a stack of matrices, as experts are.
    Stacked,
    /// The given condition does not hold.
    Not(&'static When),
}

/// One line of a mixture: tensors of any of `roles` (if empty, of every role) that satisfy all of `when` get the type
/// `then`.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) roles: &'static [Role],
    pub(super) when: &'static [When],
    pub(super) then: &'static str,
}

const fn rule(roles: &'static [Role], when: &'static [When], then: &'static str) -> Rule {
    Rule { roles, when, then }
}

/// A change of a mixture's choice, if that is one of `from` (if empty, whatever it is).
#[derive(Debug)]
pub(super) struct Adjustment {
    pub(super) from: &'static [&'static str],
    pub(super) rule: Rule,
}

/// Adjustments for unusual models, in the order in which they are applied.
pub(super) const ADJUSTMENTS: &[Adjustment] = &[
    // Eight query heads share a value head, so its tensors are small and more bits cost next to nothing.
    Adjustment { from: &["Q3_K", "Q4_K"], rule: rule(&[Value], &[SeventyB], "Q5_K") },
    // All experts share the attention tensors, so that this adds only some 128 MB to Mixtral 8x7B.
    Adjustment { from: &[], rule: rule(&[Value, Key], &[EightExperts], "Q8_0") },
];

/// Rules that precede those of any file type.
pub(super) const COMMON: &[Rule] = &[rule(&[Sensitive], &[], "Q8_0")];

/// The rule for a Mixtral's attention output in file types that give it more bits.
const EIGHT_EXPERTS_OUTPUT: Rule = rule(&[AttentionOutput], &[Not(&Falcon), EightExperts], "Q5_K");

pub(super) const Q2_K: &[Rule] = &[
    rule(&[Value], &[GroupedQueries], "Q4_K"),
    rule(&[Value], &[], "Q3_K"),
    rule(&[Down], &[], "Q3_K"),
    EIGHT_EXPERTS_OUTPUT,
    rule(&[AttentionOutput], &[Not(&Falcon)], "Q3_K"),
];

pub(super) const Q2_K_S: &[Rule] =
    &[rule(&[Value], &[GroupedQueries], "Q4_K"), rule(&[Down], &[FirstPart(8)], "Q4_K")];

pub(super) const Q3_K_S: &[Rule] = &[EIGHT_EXPERTS_OUTPUT];

pub(super) const Q3_K_M: &[Rule] = &[
    rule(&[Value], &[First(2)], "Q5_K"),
    rule(&[Value], &[], "Q4_K"),
    rule(&[Down], &[FirstPart(16)], "Q5_K"),
    rule(&[Down], &[Not(&Falcon)], "Q4_K"),
    rule(&[Down], &[MoreBits], "Q4_K"),
    EIGHT_EXPERTS_OUTPUT,
    rule(&[AttentionOutput], &[Not(&Falcon)], "Q4_K"),
];

pub(super) const Q3_K_L: &[Rule] = &[
    rule(&[Value], &[], "Q5_K"),
    rule(&[Down, AttentionOutput], &[Falcon], "Q4_K"),
    rule(&[Down], &[], "Q5_K"),
    rule(&[AttentionOutput], &[Not(&EightExperts)], "Q5_K"),
];

pub(super) const Q4_K_S: &[Rule] = &[
    rule(&[Value], &[First(4)], "Q5_K"),
    rule(&[Down], &[Not(&Falcon), FirstPart(8)], "Q5_K"),
    EIGHT_EXPERTS_OUTPUT,
];

pub(super) const Q4_K_M: &[Rule] = &[
    rule(&[Value], &[MoreBits], "Q6_K"),
    rule(&[Down], &[Falcon, FirstPart(16)], "Q6_K"),
    rule(&[Down], &[Falcon, MoreBits], "Q5_K"),
    rule(&[Down], &[Not(&Falcon), MoreBits], "Q6_K"),
    EIGHT_EXPERTS_OUTPUT,
];

pub(super) const Q5_K_M: &[Rule] = &[rule(&[Value, Down], &[MoreBits], "Q6_K")];

/// The first down projections get Q4_1 when an importance matrix is given: it can drive those of Q4_0 to extremes, which the
/// offset of Q4_1 prevents.
pub(super) const Q4_0: &[Rule] = &[rule(&[Down], &[Importance, FirstPart(8)], "Q4_1")];

/// The first down projections get Q5_1 when an importance matrix is given, for the same reason as in [`Q4_0`].
pub(super) const Q5_0: &[Rule] = &[rule(&[Down], &[Importance, FirstPart(8)], "Q5_1")];

pub(super) const IQ4: &[Rule] = &[
    rule(&[Value], &[GroupedQueries], "Q5_K"),
    rule(&[Down], &[Not(&Importance), FirstPart(8)], "Q5_K"),
    EIGHT_EXPERTS_OUTPUT,
];

pub(super) const IQ3_S: &[Rule] = &[rule(&[Value], &[GroupedQueries], "Q4_K"), EIGHT_EXPERTS_OUTPUT];

pub(super) const IQ3_M: &[Rule] = &[
    rule(&[Value], &[], "Q4_K"),
    rule(&[Down], &[FirstPart(8)], "Q4_K"),
    rule(&[Down], &[EightExperts, MoreBits], "Q4_K"),
    EIGHT_EXPERTS_OUTPUT,
    rule(&[AttentionOutput], &[Not(&Falcon)], "Q4_K"),
];

pub(super) const IQ3_XS: &[Rule] = &[
    rule(&[Value], &[GroupedQueries], "Q4_K"),
    rule(&[Key, Query], &[], "IQ3_XXS"),
    rule(&[Gate, Up], &[MiddlePart], "IQ3_XXS"),
    EIGHT_EXPERTS_OUTPUT,
];

pub(super) const IQ3_XXS: &[Rule] = &[
    rule(&[Value], &[GroupedQueries], "Q4_K"),
    rule(&[Value], &[Not(&Importance)], "IQ3_S"),
    rule(&[Key, Query], &[], "IQ2_S"),
    rule(&[Down], &[Not(&Importance), FirstPart(8)], "Q4_K"),
    rule(&[Down], &[Not(&Importance)], "Q3_K"),
    EIGHT_EXPERTS_OUTPUT,
    rule(&[AttentionOutput], &[Not(&Falcon)], "IQ3_S"),
];

/// The mixture of IQ2_S and IQ2_M.
pub(super) const IQ2_LARGE: &[Rule] = &[
    rule(&[Value], &[GroupedQueries], "Q4_K"),
    rule(&[Value], &[ManyExperts], "Q4_K"),
    rule(&[Value], &[], "IQ3_S"),
    rule(&[Key], &[EightExperts], "Q4_K"),
    rule(&[Down], &[SeenFirstPart(8)], "IQ3_S"),
    rule(&[AttentionOutput], &[EightExperts], "Q5_K"),
    rule(&[AttentionOutput], &[], "IQ3_S"),
];

/// The mixture of IQ2_XXS and IQ2_XS.
pub(super) const IQ2_SMALL: &[Rule] = &[
    rule(&[Value], &[GroupedQueries], "Q4_K"),
    rule(&[Value], &[ManyExperts], "Q4_K"),
    rule(&[Value], &[], "Q2_K"),
    rule(&[Key], &[EightExperts], "Q4_K"),
    rule(&[Down], &[SeenFirstPart(8)], "Q2_K"),
    rule(&[AttentionOutput], &[EightExperts], "Q5_K"),
];

/// The mixture of IQ1_S and IQ1_M.
pub(super) const IQ1: &[Rule] = &[
    rule(&[Value], &[GroupedQueries], "Q4_K"),
    rule(&[Value], &[ManyExperts], "Q4_K"),
    rule(&[Value], &[], "Q2_K"),
    rule(&[Key], &[EightExperts], "Q4_K"),
    rule(&[Down], &[SeenFirstPart(8)], "Q2_K"),
    rule(&[AttentionOutput], &[EightExperts], "Q5_K"),
    rule(&[AttentionOutput], &[], "IQ2_XXS"),
];

/// Experts get MXFP4 and everything else Q8_0. Bailing's latent attention is stacked as well, so that the role decides
/// there.
pub(super) const MXFP4_MOE: &[Rule] = &[
    rule(&[], &[Stacked, Not(&Bailing)], "MXFP4"),
    rule(&[Up, Gate, Down], &[Stacked], "MXFP4"),
    rule(&[], &[], "Q8_0"),
];
