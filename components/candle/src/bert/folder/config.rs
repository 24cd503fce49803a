//! `config.json`: the sizes of the encoder.

use super::{super::BertSpec, files::File};
use superduper::{Result, ResultExt};

/// The sizes, and the class of tokenizers where the file names one.
pub(super) fn read(file: File) -> Result<(BertSpec, Option<String>)> {
    if let Some(family) = file.text("model_type")?.filter(|family| *family != "bert") {
        return Err(file.refuse(
            "model_type",
            format!("says that the model is of the family `{family}`, not `bert`"),
        ));
    }
    file.refuse_set(&["auto_map"], "the model has code of its own")?;
    file.refuse_set(
        &["is_decoder", "add_cross_attention", "is_encoder_decoder"],
        "only encoders are known",
    )?;
    file.refuse_set(&["quantization_config"], "quantized weights are not known")?;
    file.refuse_set(&["pruned_heads"], "attention without some of its heads is not known")?;
    file.refuse_set(&["transformers_weights"], "the weights are read of `model.safetensors`")?;
    let class = file.text("tokenizer_class")?.map(str::to_owned);
    let path = file.path.clone();
    let spec = || -> Result<BertSpec> {
        let spec: BertSpec = serde_json::from_value(without_nulls(file))?;
        spec.check()?;
        Ok(spec)
    };
    Ok((spec().context(format_args!("`{}`", path.display()))?, class))
}

fn without_nulls(file: File) -> serde_json::Value {
    let mut value = file.into_value();
    if let Some(entries) = value.as_object_mut() {
        entries.retain(|_, value| !value.is_null());
    }
    value
}
