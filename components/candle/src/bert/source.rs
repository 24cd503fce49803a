//! Which weights an encoder needs: their names, shapes and types, which the header of a file tells.
//!
//! Invariant: an encoder whose weights passed [`check`] finds each of them.

use super::BertSpec;
use superduper::{Dtype, Error, Result, Tensors};

/// Weights with the prefix that their names have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    weights: &'a Tensors,
    prefix: &'static str,
}

impl<'a> Source<'a> {
    pub(super) fn of(weights: &'a Tensors) -> Self {
        let prefix = if weights.info("bert.embeddings.word_embeddings.weight").is_some() {
            "bert."
        } else {
            ""
        };
        Source { weights, prefix }
    }

    pub(super) fn weights(&self) -> &'a Tensors {
        self.weights
    }

    /// The name under which a weight is stored. Those of normalizations had other names before,
    /// which transformers reads, too.
    pub(super) fn find(&self, name: &str) -> Result<String> {
        let now = format!("{}{name}", self.prefix);
        let before = now
            .replace("LayerNorm.weight", "LayerNorm.gamma")
            .replace("LayerNorm.bias", "LayerNorm.beta");
        match [&now, &before].into_iter().find(|name| self.weights.info(name).is_some()) {
            Some(name) => Ok(name.clone()),
            None => {
                Err(Error::invalid(format!("weight `{now}` is missing"))
                    .with_hint(self.advise(name)))
            }
        }
    }

    fn advise(&self, name: &str) -> String {
        let ending = format!(".{name}");
        if let Some(other) = self.weights.names().find_map(|found| found.strip_suffix(&ending)) {
            return format!(
                "the file has it as `{other}{ending}`: save the encoder alone, so that names do not start with `{other}.`"
            );
        }
        let some: Vec<&str> = self.weights.names().take(4).collect();
        match some[..] {
            [] => "there are no weights at all".to_owned(),
            _ => {
                format!(
                    "there are {} weights, such as {}; needed are those of PyTorch's `BertModel`",
                    self.weights.len(),
                    some.join(", ")
                )
            }
        }
    }
}

/// Name and shape of each weight; `None` stands for any size above 0.
fn needed(spec: &BertSpec) -> impl Iterator<Item = (String, Vec<Option<usize>>)> {
    let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
    let norm = move |name: &str| {
        [
            (format!("{name}.weight"), vec![Some(hidden)]),
            (format!("{name}.bias"), vec![Some(hidden)]),
        ]
    };
    let dense = move |name: &str, inputs: usize, outputs: usize| {
        [
            (format!("{name}.weight"), vec![Some(outputs), Some(inputs)]),
            (format!("{name}.bias"), vec![Some(outputs)]),
        ]
    };
    let embedding = |name: &str, count: Option<usize>| {
        (format!("embeddings.{name}_embeddings.weight"), vec![count, Some(hidden)])
    };
    let embeddings = [
        embedding("word", Some(spec.vocab_size)),
        embedding("position", Some(spec.max_position_embeddings)),
        embedding("token_type", None),
    ];
    let layers = (0..spec.num_hidden_layers).flat_map(move |index| {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        [
            dense(&name("attention.self.query"), hidden, hidden),
            dense(&name("attention.self.key"), hidden, hidden),
            dense(&name("attention.self.value"), hidden, hidden),
            dense(&name("attention.output.dense"), hidden, hidden),
            norm(&name("attention.output.LayerNorm")),
            dense(&name("intermediate.dense"), hidden, inner),
            dense(&name("output.dense"), inner, hidden),
            norm(&name("output.LayerNorm")),
        ]
        .into_iter()
        .flatten()
    });
    embeddings.into_iter().chain(norm("embeddings.LayerNorm")).chain(layers)
}

/// Refuse weights that are missing, of another shape, or of a type that is not read. Reads nothing
/// but the header.
pub(super) fn check(spec: &BertSpec, weights: &Tensors) -> Result<()> {
    spec.check()?;
    let source = Source::of(weights);
    for (name, shape) in needed(spec) {
        let name = source.find(&name)?;
        let Some(info) = weights.info(&name) else { continue };
        let fits = |(found, needed): (&usize, &Option<usize>)| {
            needed.map_or(*found > 0, |needed| needed == *found)
        };
        if info.shape.len() != shape.len() || !info.shape.iter().zip(&shape).all(fits) {
            let needed: Vec<String> = shape
                .iter()
                .map(|size| size.map_or("any".to_owned(), |size| size.to_string()))
                .collect();
            let text = format!(
                "weight `{name}` has shape {:?}, the encoder needs [{}]",
                info.shape,
                needed.join(", ")
            );
            return Err(Error::invalid(text)
                .with_hint("the sizes in `config.json` must be those of the weights"));
        }
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let text = format!("weight `{name}` is {info}; known are F32, F16 and BF16");
            return Err(Error::invalid(text).with_hint("save the model in one of these types"));
        }
    }
    Ok(())
}
