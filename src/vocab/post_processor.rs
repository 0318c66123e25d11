//! Roles of special tokens in the post-processor of `tokenizer.json`: which tokens are added, and where.
//!
//! Templates are read as in gguf-py's `SpecialVocab`: by their first and last piece.

use std::collections::BTreeMap;

use serde_json::Value;

use super::files::{Files, Json};

/// The tokens of roles and the tokens that are added, where the post-processor takes precedence over
/// `tokenizer_config.json`.
pub(super) struct Roles<'a> {
    files: &'a Files,
    /// True if `tokenizer_config.json` has any settings.
    pub(super) configured: bool,
    /// Roles that were asked for, and those that the post-processor adds.
    pub(super) roles: Vec<&'static str>,
    /// Tokens that the post-processor gives to roles, in place of the configuration's.
    reassigned: BTreeMap<&'static str, Value>,
    /// Roles with a flag that is true if tokenizing adds the token by itself.
    pub(super) add: Vec<(&'static str, bool)>,
}

impl<'a> Roles<'a> {
    /// Reads the post-processor, starting from `roles`.
    pub(super) fn read(files: &'a Files, roles: &[&'static str]) -> Self {
        let configured = files.is_configured();
        let mut read =
            Self { files, configured, roles: roles.to_vec(), reassigned: BTreeMap::new(), add: Vec::new() };
        if let Some(tokenizer) = &files.tokenizer {
            read.stand_ins();
            read.steps(tokenizer);
        }
        read
    }

    /// Returns the token of `role` as the files spell it, text or object; `None` if it is missing or an empty string.
    pub(super) fn token(&self, role: &str) -> Option<Value> {
        let token = self.reassigned.get(role).or_else(|| self.files.config(&format!("{role}_token")))?;
        (!token.is_null() && token.as_str() != Some("")).then(|| token.clone())
    }

    fn assign(&mut self, role: &'static str, token: Option<Value>) {
        self.reassigned.insert(role, token.unwrap_or_default());
    }

    fn set_add(&mut self, role: &'static str, value: bool) {
        match self.add.iter_mut().find(|(known, _)| *known == role) {
            Some(entry) => entry.1 = value,
            None => self.add.push((role, value)),
        }
    }

    /// Gives missing roles a classifier's tokens.
    fn stand_ins(&mut self) {
        for (role, stand_in) in [("bos", "cls"), ("eos", "sep")] {
            if self.configured && self.token(role).is_none() && self.token(stand_in).is_some() {
                self.assign(role, self.token(stand_in));
            }
        }
    }

    /// Applies the steps of the post-processor, which add tokens around a text.
    fn steps(&mut self, tokenizer: &Json) {
        let Some(post) = tokenizer.value.get("post_processor").filter(|post| post.is_object()) else {
            return;
        };
        let steps = post.get("processors").and_then(Value::as_array);
        for step in steps.map_or(std::slice::from_ref(post), Vec::as_slice) {
            match step.get("type").and_then(Value::as_str) {
                Some("ByteLevel") => self.byte_level(),
                Some("RobertaProcessing") => self.roberta(step),
                Some("TemplateProcessing") => self.template(step),
                _ => {}
            }
        }
    }

    /// Sets that nothing is added, unless another step adds something.
    fn byte_level(&mut self) {
        for role in ["bos", "eos"] {
            if self.add.iter().all(|(known, _)| *known != role) {
                self.add.push((role, false));
            }
        }
    }

    /// Applies the RoBERTa format `<s> A </s></s> B </s>`.
    fn roberta(&mut self, step: &Value) {
        for role in ["bos", "eos", "sep"] {
            self.set_add(role, true);
        }
        for (role, stand_in) in [("cls", "bos"), ("sep", "eos")] {
            if self.configured && self.token(role).is_none() {
                let named = step.get(role).and_then(|pair| pair.get(0)).cloned();
                let token = named.or_else(|| self.token(stand_in));
                self.assign(role, token);
            }
        }
    }

    /// Applies a template such as `<s> A </s>` and, for pairs, `<s> A </s> B </s>`.
    fn template(&mut self, step: &Value) {
        let list = |key| step.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let (mut first, mut last) = (None, None);
        if let [head, .., tail] = list("single") {
            first = special_token(head);
            last = special_token(tail);
        }
        if let Some(token) = first {
            self.leading(token);
        }
        if let Some(token) = last {
            self.trailing(token);
        }
        self.pair(list("pair"), first, last);
    }

    fn leading(&mut self, token: &Value) {
        if !self.configured {
            self.assign("bos", Some(token.clone()));
        } else if !self.is_any(token, ["bos", "cls"]) {
            for role in ["bos", "cls"] {
                if self.token(role).is_none() {
                    self.assign(role, Some(token.clone()));
                }
            }
        }
        let known = self.is_any(token, ["bos", "cls"]);
        self.set_add("bos", known);
    }

    /// Sets the token that ends a text. If it is not the configured end of sequence, the configured one becomes the end
    /// of a turn.
    fn trailing(&mut self, token: &Value) {
        if self.configured
            && self.token("eos").as_ref() != Some(token)
            && let Some(role) = ["eot", "eom"].into_iter().find(|role| !self.roles.contains(role))
        {
            self.roles.push(role);
            self.assign(role, self.token("eos"));
        }
        self.assign("eos", Some(token.clone()));
        self.set_add("eos", true);
    }

    /// Sets the role of the tokens that stand between A and B.
    fn pair(&mut self, pair: &[Value], first: Option<&Value>, last: Option<&Value>) {
        let mut inner = pair;
        if let [head, rest @ ..] = inner
            && first.is_some()
            && special_token(head) == first
        {
            inner = rest;
        }
        if let [rest @ .., tail] = inner
            && last.is_some()
            && special_token(tail) == last
        {
            inner = rest;
        }
        let [a, middle @ .., b] = inner else { return };
        if sequence(a) != Some("A") || sequence(b) != Some("B") || middle.is_empty() {
            return;
        }
        let separates = |at: usize| {
            let token = middle.get(at).and_then(special_token);
            token.is_some_and(|token| self.is_any(token, ["sep", "eos"]))
        };
        let add = (separates(0) && last.is_none()) || (middle.len() == 2 && separates(1));
        self.set_add("sep", add);
        if add && self.configured && self.token("sep").is_none() {
            self.assign("sep", self.token("eos"));
        }
    }

    fn is_any(&self, token: &Value, roles: [&str; 2]) -> bool {
        roles.iter().any(|role| self.token(role).as_ref() == Some(token))
    }
}

/// Returns the text of a template piece that is a special token.
fn special_token(piece: &Value) -> Option<&Value> {
    piece.get("SpecialToken")?.get("id").filter(|id| id.as_str().is_some_and(|id| !id.is_empty()))
}

/// Returns the name of a template piece that is a text.
fn sequence(piece: &Value) -> Option<&str> {
    piece.get("Sequence")?.get("id")?.as_str()
}
