//! Folders of sentence-transformers beside the Python package: each key gives its vectors, or is
//! refused by name.
//!
//! `data/folders/cases.json` has variants of one small folder with the vectors of the Python
//! package; `make.py` beside it made them.

use candle_core::{DType, Device, safetensors};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use superduper::{Artifact, Bytes, Db, Dtype, ErrorKind, Result, Tensors};
use superduper_candle::{BertSpec, TextEmbedder, TruncationSide};
use superduper_memory::MemoryStore;
use superduper_object::ObjectStore;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn merge(into: Value, change: &Value) -> Value {
    match (into, change) {
        (Value::Object(mut into), Value::Object(change)) => {
            for (key, value) in change {
                let before = into.remove(key).unwrap_or_default();
                into.insert(key.clone(), merge(before, value));
            }
            Value::Object(into)
        }
        _ => change.clone(),
    }
}

/// The files of a case, as `make.py` writes them.
fn folder(case: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let encoder = folder.path().join(case["below"].as_str().unwrap_or(""));
    std::fs::create_dir_all(&encoder).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(data("tiny_bert").join(name), encoder.join(name)).unwrap();
    }
    weights(&encoder, &case["weights"]);
    for (name, change) in
        case.as_object().unwrap().iter().filter(|(name, _)| name.ends_with(".json"))
    {
        let root = name.contains('/')
            || ["modules.json", "config_sentence_transformers.json"].contains(&name.as_str());
        let path = if root { folder.path() } else { &encoder }.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let before = if path.exists() { json_of(&path) } else { Value::Null };
        std::fs::write(path, merge(before, change).to_string()).unwrap();
    }
    folder
}

fn weights(encoder: &Path, change: &Value) {
    let mut weights = safetensors::load(data("tiny_bert/model.safetensors"), &Device::Cpu).unwrap();
    for pair in change["rename"].as_array().into_iter().flatten() {
        let (old, new) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        weights =
            weights.into_iter().map(|(name, tensor)| (name.replace(old, new), tensor)).collect();
    }
    let prefix = change["prefix"].as_str().unwrap_or("");
    let dtype = if change["dtype"] == "F16" { DType::F16 } else { DType::F32 };
    let weights: HashMap<String, _> = weights
        .into_iter()
        .map(|(name, tensor)| (format!("{prefix}{name}"), tensor.to_dtype(dtype).unwrap()))
        .collect();
    safetensors::save(&weights, encoder.join("model.safetensors")).unwrap();
}

/// A case with the files that all of them have.
fn case(change: Value) -> Value {
    let base = json_of(&data("folders/cases.json"))["cases"][0].take();
    merge(base, &change)
}

fn open(change: Value) -> Result<TextEmbedder> {
    TextEmbedder::from_folder("tiny", folder(&case(change)).path())
}

async fn in_memory() -> Result<Db> {
    Db::builder()
        .metadata(Arc::new(MemoryStore::new()))
        .artifacts(Arc::new(ObjectStore::memory()))
        .build()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn b19_vectors_are_those_of_sentence_transformers() -> Result<()> {
    let all = json_of(&data("folders/cases.json"));
    let texts: Vec<String> = serde_json::from_value(all["texts"].clone())?;
    let cases = all["cases"].as_array().unwrap();
    assert!(cases.len() > 50, "{} cases", cases.len());
    let (mut wrong, mut differ) = (Vec::new(), 0);
    for case in cases {
        let expected: Vec<Vec<f32>> = serde_json::from_value(case["vectors"].clone())?;
        let found = match TextEmbedder::from_folder("tiny", folder(case).path()) {
            Ok(embedder) => match case["prompt_name"].as_str() {
                Some(name) => embedder.embed_batch_with_prompt(name, &texts).await,
                None => embedder.embed_batch(&texts).await,
            },
            Err(error) => Err(error),
        };
        let distance = |a: &[Vec<f32>]| {
            a.concat().iter().zip(expected.concat()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        match found.map(|found| distance(&found)) {
            Ok(largest) if largest <= 1e-5 => {}
            other => wrong.push(format!("{}: {other:?}", case["name"])),
        }
        let plain: Vec<Vec<f32>> = serde_json::from_value(cases[0]["vectors"].clone())?;
        differ += usize::from(distance(&plain) > 1e-3);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(differ > 25, "only {differ} cases give other vectors than the plain folder");
    Ok(())
}

/// A change, the file and the key that the error names.
fn refused() -> Vec<(Value, &'static str, &'static str)> {
    let of = |file: &'static str, key: &'static str, value: Value| {
        (json!({file: {key: value}}), file, key)
    };
    let config = |key, value| of("config.json", key, value);
    let tokenizer = |key, value| of("tokenizer_config.json", key, value);
    let sentences = |key, value| of("sentence_bert_config.json", key, value);
    let pooling = |key, value| of("1_Pooling/config.json", key, value);
    let root = |key, value| of("config_sentence_transformers.json", key, value);
    let json = |change: Value, key| (json!({"tokenizer.json": change}), "tokenizer.json", key);
    let modules = |module: Value| {
        let mut all = case(json!({}))["modules.json"].take();
        let at = module["idx"].as_u64().unwrap() as usize;
        all[at] = merge(all[at].take(), &module);
        (json!({"modules.json": all}), "modules.json")
    };
    let of_module = |module: Value, key| (modules(module).0, "modules.json", key);
    let typed = json!({"single": [
        {"SpecialToken": {"id": "[CLS]", "type_id": 1}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]});
    let bare = json!({"single": [{"Sequence": {"id": "A", "type_id": 0}}]});
    let decoder = json!({"3": {"content": "[SEP]", "normalized": true, "special": true}});
    vec![
        config("model_type", json!("roberta")),
        config("auto_map", json!({"AutoModel": "modeling.Other"})),
        config("is_decoder", json!(true)),
        config("add_cross_attention", json!(true)),
        config("is_encoder_decoder", json!(true)),
        config("quantization_config", json!({"bits": 4})),
        config("pruned_heads", json!({"0": [1]})),
        config("transformers_weights", json!("other.safetensors")),
        config("hidden_act", json!("relu")),
        config("position_embedding_type", json!("relative_key")),
        tokenizer("tokenizer_class", json!("XLMRobertaTokenizer")),
        config("tokenizer_class", json!("XLMRobertaTokenizer")),
        tokenizer("auto_map", json!({"AutoTokenizer": ["a.B", null]})),
        tokenizer("init_inputs", json!(["x"])),
        tokenizer("split_special_tokens", json!(true)),
        tokenizer("padding_side", json!("left")),
        tokenizer("truncation_side", json!("middle")),
        tokenizer("model_input_names", json!(["input_ids", "token_type_ids"])),
        tokenizer("model_max_length", json!(0)),
        tokenizer("do_lower_case", json!("yes")),
        (
            json!({"tokenizer_config.json": {"unk_token": "hand"}}),
            "tokenizer.json",
            "model.unk_token",
        ),
        (
            json!({"tokenizer_config.json": {"cls_token": "hand"}}),
            "tokenizer.json",
            "post_processor",
        ),
        tokenizer("sep_token", json!(5)),
        tokenizer("extra_special_tokens", json!("driv")),
        tokenizer("image_token", json!("driv")),
        of("special_tokens_map.json", "image_token", json!("driv")),
        tokenizer("added_tokens_decoder", decoder),
        of("added_tokens.json", "driving", json!(15)),
        json(json!({"normalizer": {"type": "Lowercase"}}), "normalizer"),
        json(json!({"normalizer": {"clean_text": false}}), "normalizer.clean_text"),
        json(json!({"pre_tokenizer": {"type": "WhitespaceSplit"}}), "pre_tokenizer"),
        json(json!({"model": {"unk_token": "hand"}}), "model.unk_token"),
        json(
            json!({"model": {"continuing_subword_prefix": "@@"}}),
            "model.continuing_subword_prefix",
        ),
        json(json!({"model": {"max_input_chars_per_word": 5}}), "model.max_input_chars_per_word"),
        json(json!({"post_processor": bare}), "post_processor"),
        json(json!({"post_processor": typed}), "post_processor"),
        json(json!({"padding": {"direction": "Left"}}), "padding.direction"),
        sentences("processing_kwargs", json!({"text": {"max_length": 3}})),
        sentences("model_args", json!({"attn_implementation": "eager"})),
        sentences("tokenizer_args", json!({"padding_side": "left"})),
        sentences("config_kwargs", json!({"is_decoder": true})),
        sentences("query_length", json!(3)),
        sentences("document_length", json!(3)),
        sentences("query_expansion", json!({"length": 8})),
        sentences("transformer_task", json!("fill-mask")),
        sentences("module_output_name", json!("sentence_embedding")),
        sentences(
            "modality_config",
            json!({"text": {"method": "forward", "method_output_name": "pooler_output"}}),
        ),
        sentences("tokenizer_name_or_path", json!("../other")),
        sentences("max_seq_length", json!("long")),
        sentences("no_key_that_is_known", json!(1)),
        pooling("pooling_mode", json!("cls")),
        pooling("pooling_mode", json!(["mean", "max"])),
        pooling("pooling_mode", json!(3)),
        pooling("pooling_mode_max_tokens", json!(true)),
        pooling("pooling_mode_max_tokens", json!(1)),
        pooling("pooling_mode_mean_tokens", json!(false)),
        pooling("no_key_that_is_known", json!(1)),
        of("2_Normalize/config.json", "module_input_name", json!("token_embeddings")),
        root("model_type", json!("CrossEncoder")),
        root("default_prompt_name", json!("search")),
        root("prompts", json!({"query": 1})),
        root("no_key_that_is_known", json!(1)),
        (
            json!({"1_Pooling/config.json": {"include_prompt": false}, "config_sentence_transformers.json": {"prompts": {"query": "a "}}}),
            "config_sentence_transformers.json",
            "prompts",
        ),
        of_module(json!({"idx": 2, "type": "sentence_transformers.models.Dense"}), "type"),
        of_module(json!({"idx": 1, "type": "their_code.Pooling"}), "type"),
        of_module(json!({"idx": 1, "name": "0"}), "name"),
        of_module(json!({"idx": 1, "path": "../1_Pooling"}), "path"),
        of_module(json!({"idx": 1, "path": 1}), "path"),
    ]
}

#[test]
fn b19_what_would_give_other_vectors_is_refused_by_file_and_key() {
    let mut wrong = Vec::new();
    for (change, file, key) in refused() {
        match open(change.clone()) {
            Ok(_) => wrong.push(format!("{change}: accepted")),
            Err(error) => {
                let text = error.to_string();
                let named =
                    text.contains(&format!("{file}`: ")) || text.contains(&format!("{file}: "));
                if error.kind() != ErrorKind::InvalidInput
                    || !named
                    || !text.contains(&format!("`{key}`"))
                {
                    wrong.push(format!("{change}: {text}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (modules, what) in [
        (json!({}), "not a list"),
        (json!([]), "0 modules"),
        (json!([case(json!({}))["modules.json"][0]]), "1 modules"),
    ] {
        let error = open(json!({"modules.json": modules})).unwrap_err().to_string();
        assert!(error.contains("modules.json`: ") && error.contains(what), "{error}");
    }
}

/// The plain folder with other weights, or with files in place of some.
fn with_files(weights: Value, files: &[(&str, &[u8])], without: &[&str]) -> Result<TextEmbedder> {
    let folder = folder(&case(json!({"weights": weights})));
    without.iter().for_each(|name| std::fs::remove_file(folder.path().join(name)).unwrap());
    files.iter().for_each(|(name, bytes)| std::fs::write(folder.path().join(name), bytes).unwrap());
    TextEmbedder::from_folder("tiny", folder.path())
}

#[test]
fn b20_folders_that_can_never_embed_are_refused() {
    let pointer: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 42952\n";
    let plain = std::fs::read(data("tiny_bert/model.safetensors")).unwrap();
    let vocabulary = json_of(&data("tiny_bert/tokenizer.json"));
    let empty = merge(vocabulary, &json!({"model": {"vocab": null}, "post_processor": null}));
    let empty = merge(empty, &json!({"model": {"vocab": {}}})).to_string();
    let w = "model.safetensors";
    let refused = |weights: Value, files: &[(&str, &[u8])], without: &[&str], texts: &[&str]| {
        let error = with_files(weights.clone(), files, without).unwrap_err().to_string();
        assert!(texts.iter().all(|text| error.contains(text)), "{weights} {without:?}: {error}");
    };
    let missing = "`embeddings.word_embeddings.weight` is missing";
    refused(
        json!({"prefix": "0.auto_model."}),
        &[],
        &[],
        &[w, missing, "start with `0.auto_model.`"],
    );
    refused(
        json!({"rename": [["LayerNorm", "layer_norm"]]}),
        &[],
        &[],
        &[w, "LayerNorm.weight` is missing", "BertModel"],
    );
    refused(
        json!({}),
        &[(w, pointer)],
        &[],
        &["model.safetensors` is a pointer of Git LFS", "git lfs pull"],
    );
    refused(
        json!({}),
        &[("tokenizer.json", pointer)],
        &[],
        &["tokenizer.json` is a pointer of Git LFS"],
    );
    refused(json!({}), &[(w, &plain[..plain.len() - 1])], &[], &[w, "no safetensors file"]);
    refused(json!({}), &[(w, b"<html>")], &[], &[w, "no safetensors file"]);
    refused(
        json!({}),
        &[("model.safetensors.index.json", b"{}")],
        &[w],
        &["safetensors.index.json", "shards", "max_shard_size"],
    );
    refused(
        json!({}),
        &[("pytorch_model.bin", b"x")],
        &[w],
        &["there is no", "pytorch_model.bin", "save_pretrained"],
    );
    refused(
        json!({}),
        &[("adapter_config.json", b"{}")],
        &[],
        &["adapter_config.json", "merge_and_unload"],
    );
    refused(json!({}), &[], &[w], &["model.safetensors` cannot be read"]);
    refused(json!({}), &[("tokenizer.json", b"{}")], &[], &["tokenizer.json", "not a tokenizer"]);
    refused(json!({}), &[("tokenizer.json", empty.as_bytes())], &[], &["tokenizer.json"]);
    let narrow = open(json!({"config.json": {"intermediate_size": 41}})).unwrap_err().to_string();
    assert!(narrow.contains("model.safetensors`: weight `encoder.layer.0.intermediate.dense.weight` has shape [40, 24]"), "{narrow}");
}

#[tokio::test(flavor = "multi_thread")]
async fn b20_embedders_that_can_never_embed_are_not_applied() -> Result<()> {
    let db = in_memory().await?;
    let plain = || open(json!({}));
    let bytes = |text: &str| Artifact::new(Bytes::from(text.as_bytes().to_vec()));
    let whole = plain()?.weights.get().await?;
    let with = |name: &str, dtype: Dtype, size: usize| {
        let mut weights = Tensors::clone(&whole);
        weights.remove(name);
        weights.with_bytes(name, dtype, &[24], vec![0_u8; 24 * size])
    };
    let bias = "embeddings.LayerNorm.bias";
    let spec = |spec: BertSpec| BertSpec { num_hidden_layers: 3, ..spec };
    for (embedder, text) in [
        (
            TextEmbedder { weights: Artifact::new(Tensors::new()), ..plain()? },
            "weight `embeddings.word_embeddings.weight` is missing",
        ),
        (
            TextEmbedder {
                weights: Artifact::new(with("x", Dtype::F32, 4)?),
                spec: spec(plain()?.spec),
                ..plain()?
            },
            "weight `encoder.layer.2.",
        ),
        (
            TextEmbedder { weights: Artifact::new(with(bias, Dtype::F64, 8)?), ..plain()? },
            "weight `embeddings.LayerNorm.bias` is F64[24]",
        ),
        (TextEmbedder { tokenizer: bytes("{}"), ..plain()? }, "the tokenizer cannot be read"),
        (TextEmbedder { longest: 2, ..plain()? }, "2 are added at their ends"),
        (
            TextEmbedder { default_prompt_name: Some("query".to_owned()), ..plain()? },
            "there is no prompt `query`",
        ),
    ] {
        let error = db.apply(embedder).await.unwrap_err();
        assert!(error.kind() != ErrorKind::Internal && error.to_string().contains(text), "{error}");
        assert!(db.load::<TextEmbedder>("tiny").await.is_err(), "nothing is recorded");
    }
    assert!(
        TextEmbedder::builder("tiny")
            .spec(plain()?.spec)
            .weights(Artifact::new(Tensors::new()))
            .tokenizer(bytes("{}"))
            .build()
            .is_err()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b19_what_a_folder_says_is_stored() -> Result<()> {
    let db = in_memory().await?;
    let change = json!({
        "tokenizer_config.json": {"model_max_length": 8, "truncation_side": "left"},
        "config_sentence_transformers.json": {"prompts": {"query": "a small tool for: ", "passage": "the "}, "default_prompt_name": "query"},
    });
    let text = "the nail the nail the nail the nail tool tool tool";
    let given = open(change)?;
    db.apply(given).await?;
    let loaded: TextEmbedder = db.load("tiny").await?;
    assert_eq!(
        (loaded.truncation_side, loaded.default_prompt_name.as_deref()),
        (TruncationSide::Left, Some("query"))
    );
    let prompted =
        TextEmbedder { default_prompt_name: None, prompts: Default::default(), ..open(json!({}))? };
    let short = prompted.embed("a small tool for: nail").await?;
    let longer = TextEmbedder { longest: 16, ..loaded };
    assert_eq!(longer.embed("nail").await?, short, "the prompt stands before the text");
    let passage = longer.embed_batch_with_prompt("passage", &["nail"]).await?;
    assert_eq!(passage[0], prompted.embed("the nail").await?);
    let error = longer.embed_batch_with_prompt("other", &["nail"]).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no prompt `other`\nhint: there are [passage, query]");
    assert!(db.load::<TextEmbedder>("tiny").await?.embed(text).await.is_ok());
    Ok(())
}
