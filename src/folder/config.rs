//! `config.json` of the new model: the source's own, with the numbers that have changed.

use kquant_formats::gguf::Metadata;
use serde_json::{Map, Value as Json};

use super::FolderError;
use crate::convert::Converted;

/// A number of the model: the end of its GGUF key, its names in configurations, and its name in those of GPT-2's kind.
struct Number(&'static str, &'static [&'static str], Option<&'static str>);

/// All numbers that pruning may change.
const NUMBERS: &[Number] = &[
    Number("block_count", &["num_hidden_layers"], Some("n_layer")),
    Number("feed_forward_length", &["intermediate_size", "ffn_hidden_size"], Some("n_inner")),
    Number("expert_feed_forward_length", &["moe_intermediate_size"], None),
    Number("expert_shared_feed_forward_length", &["shared_expert_intermediate_size"], None),
    Number(
        "expert_count",
        &["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"],
        None,
    ),
    Number("expert_used_count", &["num_experts_per_tok", "moe_k", "top_k_experts"], None),
    Number("expert_group_count", &["n_group"], None),
    Number("expert_group_used_count", &["topk_group"], None),
    Number("leading_dense_block_count", &["first_k_dense_replace", "moe_layer_start_index"], None),
    Number("attention.head_count", &["num_attention_heads"], Some("n_head")),
    Number("attention.head_count_kv", &["num_key_value_heads"], None),
];

/// The number of rows of the table that inputs of layers are looked up in (Gemma 4).
const LAYER_VOCAB: &str = "vocab_size_per_layer_input";

/// Lists with one element for each layer.
const LAYER_LISTS: &[&str] = &["layer_types", "mlp_layer_types", "no_rope_layers", "attn_type_list"];

/// Lists of numbers of layers.
const LAYER_NUMBERS: &[&str] = &["mlp_only_layers", "moe_layers"];

/// Numbers of layers at the start that have something in common.
const LAYER_COUNTS: &[&str] = &["max_window_layers"];

/// Models whose heads are as wide as the hidden state by their number, whatever `head_dim` says.
const NO_HEAD_WIDTH: &[&str] = &["falcon", "gpt2", "gpt_neox", "stablelm", "stablelm_epoch"];

/// Values of `config.json` that describe the text model, and what has become of them.
pub(super) struct Change<'a> {
    /// The source as converted.
    pub(super) base: &'a Converted,
    /// The new model.
    pub(super) pruned: &'a Converted,
    /// Number of rows of the embedding of both.
    pub(super) vocab: [u64; 2],
    /// The source's number of each layer.
    pub(super) layers: &'a [u32],
    /// Whether the output projection is a tensor of its own.
    pub(super) own_head: bool,
}

impl Change<'_> {
    /// Returns `config` with the numbers of the new model. The values of a text model inside another model are changed where
    /// they stand.
    ///
    /// # Errors
    /// Fails when the width of heads cannot be said.
    pub(super) fn apply(&self, config: &Map<String, Json>) -> Result<Map<String, Json>, FolderError> {
        let mut config = config.clone();
        for number in NUMBERS {
            let [before, after] = [self.base, self.pruned].map(|model| own(&model.metadata, number.0));
            match after {
                Some(after) if before.is_some() && before != Some(after) => number.set(&mut config, after),
                _ => {}
            }
        }
        if self.vocab[0] != self.vocab[1] {
            let second = value(&config, LAYER_VOCAB).is_some();
            let names = [Some("vocab_size"), second.then_some(LAYER_VOCAB)];
            names.into_iter().flatten().for_each(|name| set(&mut config, &[name], self.vocab[1]));
        }
        self.head_width(&mut config)?;
        self.layer_lists(&mut config);
        if self.own_head && tied(&config) != Some(false) {
            set(&mut config, &["tie_word_embeddings"], false);
        }
        Ok(config)
    }

    /// Says how wide heads are, where it does not follow from their number any more.
    fn head_width(&self, config: &mut Map<String, Json>) -> Result<(), FolderError> {
        let [before, after] =
            [self.base, self.pruned].map(|model| own(&model.metadata, "attention.head_count"));
        let hidden = own(&self.base.metadata, "embedding_length");
        let (Some(before), Some(hidden)) = (before.filter(|_| before != after), hidden) else {
            return Ok(());
        };
        if value(config, "head_dim").is_some_and(Json::is_u64) {
            return Ok(());
        }
        let key_length = own(&self.base.metadata, "attention.key_length");
        let head = key_length.unwrap_or(hidden / before.max(1));
        let model_type = value(config, "model_type").and_then(Json::as_str).unwrap_or_default();
        if NO_HEAD_WIDTH.contains(&model_type) {
            return Err(FolderError::HeadWidth { head, model_type: model_type.to_owned() });
        }
        set(config, &["head_dim"], head);
        Ok(())
    }

    /// Takes what belongs to layers that are left out of lists.
    fn layer_lists(&self, config: &mut Map<String, Json>) {
        let all = own(&self.base.metadata, "block_count").unwrap_or(0) as usize;
        if self.layers.iter().copied().eq(0..all as u32) {
            return;
        }
        for key in LAYER_LISTS {
            let list = value(config, key).and_then(Json::as_array).filter(|list| list.len() == all);
            let kept = list.map(|list| {
                self.layers.iter().filter_map(|&layer| list.get(layer as usize).cloned()).collect()
            });
            if let Some(kept) = kept {
                set(config, &[key], Json::Array(kept));
            }
        }
        for key in LAYER_COUNTS {
            let Some(first) = value(config, key).and_then(Json::as_u64) else { continue };
            let left = self.layers.iter().filter(|&&layer| u64::from(layer) < first).count();
            set(config, &[key], left as u64);
        }
        for key in LAYER_NUMBERS {
            let Some(list) = value(config, key).and_then(Json::as_array) else { continue };
            let is_listed = |layer: u32| list.iter().any(|n| n.as_u64() == Some(layer.into()));
            let new: Vec<Json> = (0..)
                .zip(self.layers)
                .filter(|(_, was)| is_listed(**was))
                .map(|(n, _): (u32, _)| n.into())
                .collect();
            set(config, &[key], Json::Array(new));
        }
    }
}

impl Number {
    /// Writes `number` under every name that `config` has, or under the usual one if it has none.
    fn set(&self, config: &mut Map<String, Json>, number: u64) {
        let Number(_, names, of_gpt2) = self;
        match of_gpt2.filter(|_| value(config, "n_embd").is_some()) {
            Some(name) => set(config, &[name], number),
            None => set(config, names, number),
        }
    }
}

/// Returns the number under the architecture's own key that ends in `end`.
fn own(metadata: &Metadata, end: &str) -> Option<u64> {
    let architecture = metadata.get("general.architecture")?.as_str()?;
    metadata.get(&format!("{architecture}.{end}"))?.as_u64()
}

/// Returns whether the configuration says that the embedding is the output projection.
fn tied(config: &Map<String, Json>) -> Option<bool> {
    value(config, "tie_word_embeddings").and_then(Json::as_bool)
}

/// Returns the value of the text model under `key`, which null in its own section leaves to the whole model's.
fn value<'a>(config: &'a Map<String, Json>, key: &str) -> Option<&'a Json> {
    let section = config.get("text_config").and_then(|section| section.get(key));
    section.filter(|value| !value.is_null()).or_else(|| config.get(key))
}

/// Sets the value under each of `names` that is there, at both levels; under the first of them in the text model's section,
/// if none is.
fn set(config: &mut Map<String, Json>, names: &[&str], to: impl Into<Json>) {
    let (to, mut found) = (to.into(), false);
    for name in names {
        if let Some(value) = config.get_mut(*name) {
            (*value, found) = (to.clone(), true);
        }
        if let Some(value) = config.get_mut("text_config").and_then(|section| section.get_mut(*name)) {
            (*value, found) = (to.clone(), true);
        }
    }
    let Some(first) = names.first().filter(|_| !found) else { return };
    match config.get_mut("text_config").and_then(Json::as_object_mut) {
        Some(section) => section.insert((*first).to_owned(), to),
        None => config.insert((*first).to_owned(), to),
    };
}
