//! Tokens that are found in texts as a whole: those of a role, such as `[SEP]`, and others that
//! were added.
//!
//! The files may name tokens that `tokenizer.json` does not list. transformers adds them when it
//! reads the folder; so does [`add`], in the same order, so that they have the same numbers.

use super::files::{File, short};
use serde_json::Value;
use std::collections::BTreeMap;
use superduper::Result;
use tokenizers::{AddedToken, Tokenizer};

/// The tokens with a role, in the order in which transformers adds them; what `BertTokenizer` has
/// for each where no file says it.
const ROLES: [(&str, Option<&str>); 7] = [
    ("bos_token", None),
    ("eos_token", None),
    ("unk_token", Some("[UNK]")),
    ("sep_token", Some("[SEP]")),
    ("pad_token", Some("[PAD]")),
    ("cls_token", Some("[CLS]")),
    ("mask_token", Some("[MASK]")),
];

/// The files that name tokens.
#[derive(Debug)]
pub(super) struct Sources {
    /// `tokenizer.json`.
    pub(super) file: File,
    /// `tokenizer_config.json`.
    pub(super) config: File,
    /// `special_tokens_map.json`.
    pub(super) special: File,
    /// `added_tokens.json`.
    pub(super) added: File,
}

impl Sources {
    /// What a role is said to have, and by which file. With `added_tokens_decoder` the file of
    /// special tokens is not read.
    fn said(&self, key: &str) -> Option<(&File, &Value)> {
        let listed = self.config.get("added_tokens_decoder").is_some();
        let special =
            if listed { None } else { self.special.get(key).map(|value| (&self.special, value)) };
        special.or_else(|| self.config.get(key).map(|value| (&self.config, value)))
    }
}

/// The token of each role.
pub(super) type Specials = BTreeMap<String, AddedToken>;

/// The text of a token, which is given as a text or with how it is found.
fn text_of(token: Option<&Value>) -> Option<&str> {
    token.and_then(|token| token.as_str().or_else(|| token["content"].as_str()))
}

fn token_of(value: &Value, special: bool) -> Option<AddedToken> {
    let content = text_of(Some(value))?;
    let token = AddedToken::from(content, special);
    let Value::Object(flags) = value else { return Some(token) };
    let flag =
        |key: &str, without: bool| flags.get(key).and_then(Value::as_bool).unwrap_or(without);
    let (single_word, lstrip, rstrip) =
        (flag("single_word", false), flag("lstrip", false), flag("rstrip", false));
    let normalized = flag("normalized", token.normalized);
    Some(token.single_word(single_word).lstrip(lstrip).rstrip(rstrip).normalized(normalized))
}

/// What the files say of special tokens.
pub(super) fn specials(sources: &Sources, bert: bool) -> Result<Specials> {
    let mut found = Specials::new();
    for (role, without) in ROLES {
        match sources.said(role) {
            Some((file, value)) => {
                let token = token_of(value, true).ok_or_else(|| {
                    file.refuse(role, format!("is {}, not a token", short(value)))
                })?;
                found.insert(role.to_owned(), token);
            }
            None => found.extend(
                without
                    .filter(|_| bert)
                    .map(|text| (role.to_owned(), AddedToken::from(text, true))),
            ),
        }
    }
    let padding = sources.file.get("padding").and_then(|padding| padding["pad_token"].as_str());
    if let Some(text) = padding.filter(|_| !found.contains_key("pad_token")) {
        found.insert("pad_token".to_owned(), AddedToken::from(text, true));
    }
    Ok(found)
}

/// Special tokens without a role: lists, or objects of name and token.
fn further(sources: &Sources) -> Result<Vec<AddedToken>> {
    let mut found = Vec::new();
    for key in ["additional_special_tokens", "extra_special_tokens"] {
        let Some((file, value)) = sources.said(key) else { continue };
        let tokens: Option<Vec<AddedToken>> = match value {
            Value::Array(tokens) => tokens.iter().map(|token| token_of(token, true)).collect(),
            Value::Object(tokens) => tokens.values().map(|token| token_of(token, true)).collect(),
            _ => None,
        };
        found.extend(tokens.ok_or_else(|| {
            file.refuse(key, format!("is {}, not a list of tokens", short(value)))
        })?);
    }
    Ok(found)
}

/// Add the special tokens that `tokenizer.json` does not list, and refuse others that it should.
/// Returns whether one was added.
pub(super) fn add(
    tokenizer: &mut Tokenizer,
    sources: &Sources,
    specials: &Specials,
    bert: bool,
) -> Result<bool> {
    let listed: BTreeMap<u32, AddedToken> =
        tokenizer.get_added_tokens_decoder().into_iter().collect();
    let is_listed = |text: &str| listed.values().any(|token| token.content == text);
    check_listed(sources, &listed, bert)?;
    for (file, (key, value)) in [&sources.config, &sources.special]
        .into_iter()
        .flat_map(|file| file.entries().map(move |entry| (file, entry)))
    {
        let role = ROLES.iter().any(|(role, _)| *role == key) || !key.ends_with("_token");
        if let Some(text) = text_of(Some(value)).filter(|text| !role && !is_listed(text)) {
            let why = format!(
                "is `{text}`, which is not among the `added_tokens` of `tokenizer.json`: transformers 5 adds it, 4 does not"
            );
            return Err(file.refuse(key, why));
        }
    }
    let roles = ROLES.iter().filter_map(|(role, _)| specials.get(*role).cloned());
    let missing: Vec<AddedToken> =
        roles.chain(further(sources)?).filter(|token| !is_listed(&token.content)).collect();
    let any = !missing.is_empty();
    tokenizer.add_special_tokens(missing)?;
    Ok(any)
}

/// Refuse tokens that the other files list and `tokenizer.json` does not, or that are found in
/// another way there.
fn check_listed(sources: &Sources, listed: &BTreeMap<u32, AddedToken>, bert: bool) -> Result<()> {
    let Sources { file, config, added, .. } = sources;
    let Some(decoder) = config.get("added_tokens_decoder") else {
        return match added
            .entries()
            .find(|(text, _)| !listed.values().any(|token| token.content == **text))
        {
            Some((text, _)) => {
                Err(added.refuse(text, "is not among the `added_tokens` of `tokenizer.json`"))
            }
            None => Ok(()),
        };
    };
    let key = "added_tokens_decoder";
    let Some(decoder) = decoder.as_object() else {
        return Err(config.refuse(key, "is not an object"));
    };
    let flags = |token: &AddedToken| {
        (token.content.clone(), token.single_word, token.lstrip, token.rstrip, token.normalized)
    };
    for (id, value) in decoder {
        let special = value["special"].as_bool().unwrap_or(false);
        let token = token_of(value, special).ok_or_else(|| {
            config.refuse(key, format!("has {} as {id}, not a token", short(value)))
        })?;
        let found = id.parse().ok().and_then(|id: u32| listed.get(&id));
        if found.map(flags) != Some(flags(&token)) {
            let why = format!(
                "has {} as token {id}, the `added_tokens` of `tokenizer.json` do not",
                short(value)
            );
            return Err(config.refuse(key, why));
        }
    }
    match listed.iter().find(|(id, _)| bert && !decoder.contains_key(&id.to_string())) {
        Some((id, token)) => Err(file.refuse(
            "added_tokens",
            format!(
                "has `{}` as token {id}, `{key}` of `tokenizer_config.json` does not",
                token.content
            ),
        )),
        None => Ok(()),
    }
}
