//! Tokenizing with Hugging Face's `tokenizers` library by `tokenizer.json`.

use std::path::PathBuf;
use std::sync::OnceLock;

use kquant_formats::gguf::{Metadata, Value};
use kquant_formats::{json, whole};
use tokenizers::{AddedToken, DecoderWrapper, ModelWrapper, PostProcessorWrapper, Tokenizer as Library};

use super::super::added::{self, Added};
use super::super::files::{Files, Json};
use super::super::model::Bpe;
use super::super::special::{Listed, OwnIds, ROLES, Special};
use super::super::tokens::{Kind, Tokens};
use super::super::{
    Request, VocabError, bpe, config_rows, ends, is_sentencepiece, library, pre_tokenizer, sentencepiece,
    size_quirks, spaces, spm,
};
use super::error::TokenizerError;
use super::keys::{self, Model};
use super::roles::Roles;
use super::vocabulary::Vocabulary;
use super::{Engine, Tokenizer};

/// A tokenizer of the library.
#[derive(Debug)]
pub(super) struct HuggingFace {
    path: PathBuf,
    /// The tokenizer that treats special tokens as text.
    plain: Library,
    /// The tokenizer that finds special tokens; it is made when first needed, because large vocabularies take tens of
    /// megabytes.
    special: OnceLock<Library>,
    /// Number of ids of the model.
    count: usize,
}

/// Returns the tokenizer in `file`, with the tokens and roles that the GGUF of the same folder gets.
pub(super) fn read(request: &Request, files: &Files, file: &Json) -> Result<Tokenizer, TokenizerError> {
    let model = Bpe::read(file)?;
    let added = added::collect(file, &model.vocab, files)?;
    let rows = request.vocab_size.or_else(|| config_rows(request.config));
    let (kind, prefix, tokens) = if is_sentencepiece(request, file, &model) {
        (Model::Spm, spaces::prefixes_space(file, &model)?, spm::place(file, &model, &added, rows)?)
    } else {
        (Model::Bpe, false, bpe::place(file, &model, &added, rows)?)
    };
    let keys = role_keys(request, files, file, &model, kind, &tokens)?;
    let (texts, kinds) = tokens.into_texts();
    let mut vocabulary = Vocabulary::new(kind, prefix, texts, kinds);
    let roles = Roles::read(&keys, kind, &mut vocabulary);
    let library = HuggingFace::open(file, &added, vocabulary.len())?;
    Ok(Tokenizer { vocabulary, roles, engine: Engine::HuggingFace(Box::new(library)) })
}

/// Returns the keys of the roles of tokens.
fn role_keys(
    request: &Request,
    files: &Files,
    file: &Json,
    model: &Bpe,
    kind: Model,
    tokens: &Tokens,
) -> Result<Metadata, TokenizerError> {
    let mut keys = Metadata::new();
    // An unknown pre-tokenizer is no error here, because the library has its definition.
    let pre = request.pre.or_else(|| pre_tokenizer::find(file, model.ignore_merges).ok());
    if let Some(pre) = pre.filter(|_| kind == Model::Bpe) {
        keys.set(keys::PRE, Value::from(pre));
    }
    let own = sentencepiece(request, files)?.map_or_else(OwnIds::default, |(_, model)| OwnIds::of(&model));
    let listed = Listed::new(tokens.texts(), own);
    Special::read(files, request.config, ROLES, &listed).write(&mut keys);
    if request.architecture == "llama" {
        let rows = request.vocab_size.or_else(|| config_rows(request.config));
        size_quirks(request, files, rows, &listed, &mut keys);
    }
    let text = |id| tokens.at(id).map(|token| token.text.as_str());
    for (key, id) in ends::find(files, request.config, &text, &keys) {
        keys.set(key, Value::U32(id));
    }
    Ok(keys)
}

impl HuggingFace {
    /// Reads `file`; ids of `count` and above have no embedding.
    fn open(file: &Json, added: &[Added], count: usize) -> Result<Self, TokenizerError> {
        let failed = |error: tokenizers::Error| TokenizerError::library(&file.path, error);
        library::check(file)?;
        let text = whole::read(&file.path, whole::LIST).map_err(VocabError::from)?;
        // The library does not accept byte order marks or numbers that are not finite.
        let mut plain = Library::from_bytes(json::plain(&text)).map_err(failed)?;
        // Settings of training or serving would truncate or pad the text.
        plain.with_truncation(None).map_err(failed)?.with_padding(None);
        if let ModelWrapper::BPE(model) = plain.get_model()
            && model.dropout.is_some()
        {
            let mut certain = model.clone();
            certain.dropout = None;
            plain.with_model(certain);
        }
        let known = plain.get_added_tokens_decoder();
        let token = |token: &Added| {
            let control = token.kind() == Kind::Control;
            match u32::try_from(token.id).ok().and_then(|id| known.get(&id)) {
                Some(old) => (control && !old.special).then(|| old.clone().special(true)),
                None => Some(AddedToken::from(token.content.clone(), control).normalized(token.normalized)),
            }
        };
        let missing: Vec<AddedToken> = added.iter().filter_map(token).collect();
        plain.add_tokens(missing).map_err(failed)?;
        for token in added {
            let id = plain.token_to_id(&token.content).map(u64::from);
            if id != Some(token.id) {
                let what = format!(
                    "added token {:?} has id {}, but {id:?} for the library",
                    token.content, token.id
                );
                return Err(TokenizerError::library(&file.path, what));
            }
        }
        // Post-processor and decoder do not affect ids here, so their definitions are dropped.
        plain.with_post_processor(None::<PostProcessorWrapper>).with_decoder(None::<DecoderWrapper>);
        plain.set_encode_special_tokens(true);
        Ok(Self { path: file.path.clone(), plain, special: OnceLock::new(), count })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(
        &self,
        text: &str,
        parse_special: bool,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let library = if parse_special { self.special() } else { &self.plain };
        let encoding = library.encode_fast(text, false);
        let encoding = encoding.map_err(|error| TokenizerError::library(&self.path, error))?;
        match encoding.get_ids().iter().find(|&&id| id as usize >= self.count) {
            Some(id) => {
                let what =
                    format!("token {id} is in the text, but the model has {} embedding rows", self.count);
                Err(TokenizerError::library(&self.path, what))
            }
            None => {
                out.extend(encoding.get_ids());
                Ok(())
            }
        }
    }

    fn special(&self) -> &Library {
        self.special.get_or_init(|| {
            let mut library = self.plain.clone();
            library.set_encode_special_tokens(false);
            library
        })
    }
}
