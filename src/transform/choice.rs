//! The order in which tokens are worth keeping.

use kquant_formats::gguf::{Metadata, Value};

use crate::vocab::Tokenizer;

/// All tokens, the most important first, such that each stands behind those that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Ids of all tokens.
    pub ids: Vec<u32>,
    /// Number of ids at the front that must be kept: those that no text can do without.
    pub indispensable: usize,
    /// Number of ids at the front that are indispensable, asked for, or tokens of the text, with those that they need.
    pub of_text: usize,
}

/// Orders the tokens of `tokenizer`: those that no text can do without and those of ids and templates in `metadata`, those
/// of `asked`, those that the text has by `counts` (`[vocabulary]`), then by `mass` (`[vocabulary]`), the sum of their
/// probabilities over the text. Of equals the lowest id comes first.
pub fn order(
    metadata: &Metadata,
    tokenizer: &Tokenizer,
    asked: &[u32],
    counts: &[u64],
    mass: &[f64],
) -> Order {
    let mut taken = Taken { tokenizer, ids: Vec::new(), has: vec![false; tokenizer.vocab_size()] };
    tokenizer.indispensable().into_iter().for_each(|id| taken.add(id));
    super::vocab::ids_in_keys(metadata).for_each(|id| taken.add(id));
    in_templates(metadata, tokenizer).into_iter().for_each(|id| taken.add(id));
    let indispensable = taken.ids.len();
    asked.iter().for_each(|&id| taken.add(id));
    let mut rest: Vec<u32> = (0..tokenizer.vocab_size() as u32).collect();
    let weight = |id: u32| {
        let at = id as usize;
        (counts.get(at).copied().unwrap_or(0), mass.get(at).copied().unwrap_or(0.0))
    };
    rest.sort_by(|&a, &b| {
        let ((count_a, mass_a), (count_b, mass_b)) = (weight(a), weight(b));
        (count_b > 0).cmp(&(count_a > 0)).then(mass_b.total_cmp(&mass_a)).then(a.cmp(&b))
    });
    let seen = rest.partition_point(|&id| weight(id).0 > 0);
    rest[..seen].iter().for_each(|&id| taken.add(id));
    let of_text = taken.ids.len();
    rest[seen..].iter().for_each(|&id| taken.add(id));
    Order { ids: taken.ids, indispensable, of_text }
}

/// Tokens in order, each once.
struct Taken<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    has: Vec<bool>,
}

impl Taken<'_> {
    /// Adds the tokens that `id` needs, then `id`.
    fn add(&mut self, id: u32) {
        if self.has.get(id as usize) != Some(&false) {
            return;
        }
        for id in self.tokenizer.parts(id).into_iter().chain([id]) {
            if !std::mem::replace(&mut self.has[id as usize], true) {
                self.ids.push(id);
            }
        }
    }
}

/// Returns the tokens of more than one character in angle or square brackets that a chat template names as text.
fn in_templates(metadata: &Metadata, tokenizer: &Tokenizer) -> Vec<u32> {
    let templates: Vec<&str> = metadata
        .iter()
        .filter(|(key, _)| key.starts_with("tokenizer.chat_template"))
        .filter_map(|(_, value)| Value::as_str(value))
        .collect();
    let is_named = |&id: &u32| {
        let text = tokenizer.text(id);
        text.len() > 2 && text.starts_with(['<', '[']) && templates.iter().any(|t| t.contains(text))
    };
    match templates.is_empty() {
        true => Vec::new(),
        false => (0..tokenizer.vocab_size() as u32).filter(is_named).collect(),
    }
}
