//! Tokens that are known by their texts: ends of turns and messages, and those that frame a text in fill-in-the-middle
//! tasks.
//!
//! llama.cpp looks for these texts if a file has no keys, and takes any that it finds. The converter relies on this; here
//! the keys are written, so that the file is explicit.

use std::collections::HashMap;

use kquant_formats::gguf::{Array, Metadata, Value};

use super::special::{EOM, EOS, EOT};

/// Texts of ends of a turn, the surest first.
pub(super) const TURN_ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];

/// Texts of ends of a message.
pub(super) const MESSAGE_ENDS: &[&str] = &["<|eom_id|>"];

/// Texts of further ends of generation.
pub(super) const OTHER_ENDS: &[&str] = &[
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "</s>",
    "<|eom_id|>",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
];

/// Tokens of a role that has a key of its own, which are found by their texts if the key is missing.
pub(super) struct Named {
    /// The key, followed by its former names.
    pub(super) keys: &'static [&'static str],
    /// Texts of the tokens, in any order.
    pub(super) texts: &'static [&'static str],
    /// True if generation stops at such a token.
    pub(super) ends: bool,
}

/// Ends of a message, and tokens that frame the text in fill-in-the-middle tasks.
pub(super) const NAMED: &[Named] = &[
    Named { keys: &[EOM], texts: MESSAGE_ENDS, ends: true },
    Named {
        keys: &["tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"],
        texts: &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
        ends: false,
    },
    Named {
        keys: &["tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"],
        texts: &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
        ends: false,
    },
    Named {
        keys: &["tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"],
        texts: &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
        ends: false,
    },
    Named {
        keys: &["tokenizer.ggml.fim_pad_token_id"],
        texts: &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
        ends: true,
    },
    Named {
        keys: &["tokenizer.ggml.fim_rep_token_id"],
        texts: &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
        ends: true,
    },
    Named { keys: &["tokenizer.ggml.fim_sep_token_id"], texts: &["<|file_sep|>"], ends: true },
];

/// Returns true if llama.cpp stops at a token of this text, whatever the keys.
pub(super) fn is_end(text: &str) -> bool {
    TURN_ENDS.contains(&text)
        || OTHER_ENDS.contains(&text)
        || NAMED.iter().any(|named| named.ends && named.texts.contains(&text))
}

/// Sets the keys of tokens that exist and have no key yet; an end of a turn is set only if it is not the end of all.
pub(super) fn write(out: &mut Metadata) {
    let Some(Value::Array(Array::String(tokens))) = out.get("tokenizer.ggml.tokens") else { return };
    let ids: HashMap<&str, u32> = tokens.iter().map(String::as_str).zip(0..).collect();
    let find = |texts: &[&str]| texts.iter().find_map(|text| ids.get(text).copied());
    let mut found = Vec::new();
    let eos = out.get(EOS).and_then(Value::as_u64);
    if out.get(EOT).is_none() {
        found.extend(find(TURN_ENDS).filter(|&id| eos != Some(u64::from(id))).map(|id| (EOT, id)));
    }
    for named in NAMED {
        let known = named.keys.iter().any(|key| out.get(key).is_some());
        if let (Some(&key), Some(id)) = (named.keys.first(), find(named.texts).filter(|_| !known)) {
            found.push((key, id));
        }
    }
    for (key, id) in found {
        out.set(key, Value::U32(id));
    }
}
