//! Errors of recipes.

/// The reason why a recipe cannot be followed; the user can change it in every case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// No file type has this name.
    #[error("unknown file type {name}{meant}; the file types are {available}")]
    UnknownFileType {
        /// Name as given.
        name: String,
        /// The nearest name as a question in brackets, or nothing.
        meant: String,
        /// Names of the file types.
        available: String,
    },
    /// No block type has this name.
    #[error("unknown tensor type {name}{meant}; the types are {available}")]
    UnknownType {
        /// Name as given.
        name: String,
        /// The nearest name as a question in brackets, or nothing.
        meant: String,
        /// Names of the types that can be written.
        available: String,
    },
    /// kquant can decode a block type but not encode it.
    #[error("tensor type {name} cannot be written yet; choose one of {available}")]
    TypeNotYet {
        /// Name of the block type.
        name: &'static str,
        /// Names of the types that can be written.
        available: String,
    },
    /// A rule wants a type that kquant cannot encode yet.
    #[error(
        "{tensor}: the recipe wants {block}, which cannot be written yet; give the tensor another type with --tensor-type"
    )]
    TensorNotYet {
        /// Name of the tensor.
        tensor: String,
        /// Name of the type that the rule wants.
        block: &'static str,
    },
    /// A table of this room names a block type that the kernels do not have.
    #[error("block type {name} is missing from the table of block types")]
    NoSuchBlock {
        /// Name of the block type.
        name: &'static str,
    },
    /// A `--tensor-type` argument without a pattern, an equals sign or a type.
    #[error("--tensor-type {argument}: write REGEX=TYPE, as in attn_v=q8_0")]
    MalformedOverride {
        /// Argument as given.
        argument: String,
    },
    /// A `--tensor-type` pattern that is no regular expression.
    #[error(
        "--tensor-type {pattern}: not a valid regular expression (look-around and back-references are not supported): {why}"
    )]
    BadPattern {
        /// Pattern as given.
        pattern: String,
        /// Message of the parser of regular expressions.
        why: String,
    },
    /// A `--tensor-type` pattern that has no effect.
    #[error(
        "--tensor-type {pattern}: the pattern matches no tensor of the model; `--dry-run` without it lists the names"
    )]
    MatchesNothing {
        /// Pattern as given.
        pattern: String,
    },
    /// A `--tensor-type` pattern that matches only tensors whose type stays.
    #[error(
        "--tensor-type {pattern}: the pattern matches only tensors that are copied as they are, such as {tensor}"
    )]
    MatchesOnlyKept {
        /// Pattern as given.
        pattern: String,
        /// Name of the first tensor that the pattern matches.
        tensor: String,
    },
    /// `COPY` was combined with options that choose types.
    #[error("COPY keeps every tensor as it is; drop the tensor type options or choose another file type")]
    CopyWithTypes,
    /// No menu has this name, and it is no list of types.
    #[error(
        "unknown menu {name}{meant}; the menus are {available}, or give types with commas between them, such as Q4_0,Q8_0"
    )]
    UnknownMenu {
        /// As given.
        name: String,
        /// The nearest name as a question in brackets, or nothing.
        meant: String,
        /// What there is.
        available: String,
    },
    /// A price list that cannot be used.
    #[error("the price list {what}")]
    Prices {
        /// Why, and what to do.
        what: String,
    },
    /// A tensor has no price at any type.
    #[error(
        "the price list has no price of tensor `{tensor}` at any type, as the statistics that it was made of had none of it; make them again with \
         --output-tensor, for the table of embeddings and the output projection, and the list of them, or say its type by --tensor-type"
    )]
    NoPrices {
        /// The tensor.
        tensor: String,
    },
    /// A tensor has no price at a type of the menu.
    #[error(
        "the price list has no price of {block} for tensor `{tensor}`; make it again with a --menu that has {block}, or leave the type out of the menu"
    )]
    Unpriced {
        /// The tensor.
        tensor: String,
        /// The type.
        block: &'static str,
    },
    /// The bytes of a tensor are no number of whole blocks, or too many.
    #[error("tensor `{tensor}`: rows of {columns} weights cannot be stored as {block}")]
    Size {
        /// The tensor.
        tensor: String,
        /// Its row length.
        columns: u64,
        /// The type.
        block: &'static str,
    },
    /// No choice of types meets the target.
    #[error(
        "no choice of the menu's types makes {target}: files of this model range from {ends}; ask for something between, or give another --menu"
    )]
    Target {
        /// What was asked for.
        target: String,
        /// What there is.
        ends: String,
    },
    /// Prices that are no divergences cannot be held against one.
    #[error(
        "--predicted-kl needs prices in nats: an importance matrix alone does not give them; give --calibrate TEXT, or statistics of `kquant calibrate \
         --fisher --output-tensor`"
    )]
    NoDivergence,
    /// A tensor is quantized already.
    #[error(
        "{tensor} is {from} already, and going to {to} loses quality twice ({count} such tensors); start from an unquantized model or pass --allow-requantize"
    )]
    Requantize {
        /// Name of the first such tensor.
        tensor: String,
        /// Type that the tensor has.
        from: &'static str,
        /// Type that the tensor would get.
        to: &'static str,
        /// Number of such tensors.
        count: usize,
    },
}
