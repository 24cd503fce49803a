//! Weights and tables as blobs: safetensors files that every other tool reads.
//!
//! The crate's own types are f32 on the CPU, and i64 where they count; the files keep that, so that
//! a value that is saved and opened is the same bit by bit, and equal values are one blob.

use crate::{array::Array, data::Table, moments::Moments, weights::Weights};
use std::sync::Arc;
use superduper::{
    BoxFuture, Dtype, Result, Tensors,
    artifact::{Blob, BlobSource, Hashed, StoredBlob},
    store::Chunks,
};

impl Weights {
    /// Copy into tensors of the same names, the form in which components keep weights:
    /// `Output<Artifact<Tensors>>`.
    ///
    /// ```
    /// use superduper::Artifact;
    /// use superduper_candle::{Mlp, MlpSpec, Weights};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let sizes = MlpSpec { inputs: 64, hidden: vec![32], classes: 10, ..MlpSpec::default() };
    /// let model = Mlp::init(sizes, 7)?;
    /// let artifact = Artifact::new(model.weights()?.to_tensors()?);
    ///
    /// let weights = Weights::from_tensors(&*artifact.get().await?).await?;
    /// assert_eq!(weights, model.weights()?);
    /// # Ok::<(), superduper::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for an array of the name `__metadata__`, which safetensors files reserve.
    pub fn to_tensors(&self) -> Result<Tensors> {
        let tensors = self.iter().try_fold(Tensors::new(), |tensors, (name, array)| {
            tensors.with(name, array.shape(), array.data())
        })?;
        self.iter_integers().try_fold(tensors, |tensors, (name, array)| {
            tensors.with(name, array.shape(), array.data())
        })
    }

    /// Read all tensors.
    ///
    /// # Errors
    /// `InvalidInput` for a tensor that is neither f32 nor i64; `Integrity` for bytes that are
    /// missing or not those that were saved.
    pub async fn from_tensors(tensors: &Tensors) -> Result<Self> {
        let mut weights = Weights::new();
        for name in tensors.names() {
            let shape = tensors.info(name).map(|info| info.shape.clone()).unwrap_or_default();
            if tensors.info(name).is_some_and(|info| info.dtype == Dtype::I64) {
                let array = Array::new(shape, tensors.to_vec::<i64>(name).await?)?;
                weights.insert_integers(name, array);
            } else {
                weights.insert(name, Array::new(shape, tensors.to_vec::<f32>(name).await?)?);
            }
        }
        Ok(weights)
    }
}

/// The names of a table's tensors: f32 of shape `[rows, width]`, and u32 or f32 of shape `[rows]`.
const FEATURES: &str = "features";
const LABELS: &str = "labels";
const TARGETS: &str = "targets";

impl Table {
    fn to_tensors(&self) -> Result<Tensors> {
        let tensors = Tensors::new().with(FEATURES, &[self.rows(), self.width()], self.values())?;
        match self.targets() {
            Some(targets) => tensors.with(TARGETS, &[self.rows()], targets),
            None => tensors.with(LABELS, &[self.rows()], self.labels()),
        }
    }
}

/// Two tensors, `features` (f32, `[rows, width]`) and `labels` (u32, `[rows]`) or `targets` (f32,
/// `[rows]`). Opening reads and checks both.
impl Blob for Table {
    fn source(value: Arc<Self>) -> Arc<dyn BlobSource> {
        Arc::new(Source(value))
    }

    fn open(blob: StoredBlob) -> BoxFuture<'static, Result<Self>> {
        Box::pin(async move {
            let tensors = <Tensors as Blob>::open(blob.clone()).await?;
            let shape = tensors.info(FEATURES).map(|info| info.shape.clone()).unwrap_or_default();
            let &[_, width] = shape.as_slice() else {
                return Err(blob.malformed(format_args!(
                    "a table needs a tensor `{FEATURES}` of two dimensions, not {shape:?}"
                )));
            };
            let features = tensors.to_vec(FEATURES).await?;
            match tensors.info(TARGETS) {
                Some(_) => Table::of_values(width, features, tensors.to_vec(TARGETS).await?),
                None => Table::new(width, features, tensors.to_vec(LABELS).await?),
            }
        })
    }
}

/// The file of the tensors that [`Weights::to_tensors`] gives. Opening reads and checks all.
impl Blob for Weights {
    fn source(value: Arc<Self>) -> Arc<dyn BlobSource> {
        Arc::new(Source(value))
    }

    fn open(blob: StoredBlob) -> BoxFuture<'static, Result<Self>> {
        Box::pin(async move { Weights::from_tensors(&<Tensors as Blob>::open(blob).await?).await })
    }
}

/// The file of the tensors that [`Moments::to_tensors`] gives. Opening reads and checks all.
impl Blob for Moments {
    fn source(value: Arc<Self>) -> Arc<dyn BlobSource> {
        Arc::new(Source(value))
    }

    fn open(blob: StoredBlob) -> BoxFuture<'static, Result<Self>> {
        Box::pin(async move { Moments::from_tensors(&<Tensors as Blob>::open(blob).await?).await })
    }
}

/// What becomes a file of tensors.
trait ToTensors: Send + Sync {
    fn tensors(&self) -> Result<Tensors>;
}

impl ToTensors for Table {
    fn tensors(&self) -> Result<Tensors> {
        self.to_tensors()
    }
}

impl ToTensors for Moments {
    fn tensors(&self) -> Result<Tensors> {
        self.to_tensors()
    }
}

impl ToTensors for Weights {
    fn tensors(&self) -> Result<Tensors> {
        self.to_tensors()
    }
}

/// A value on its way into a store.
struct Source<T>(Arc<T>);

impl<T: ToTensors> BlobSource for Source<T> {
    fn chunks(&self) -> Result<Chunks> {
        self.0.tensors()?.chunks()
    }

    fn hash(&self) -> Result<Hashed> {
        self.0.tensors()?.hash()
    }

    fn is_immutable(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use superduper::{Artifact, ErrorKind};

    #[tokio::test]
    async fn weights_come_back_bit_by_bit() -> Result<()> {
        let arrays = [
            ("a.weight", Array::new([2, 2], vec![0.1, -0.0, f32::MIN_POSITIVE, 3.5])?),
            ("b", Array::zeros([0, 3])),
        ];
        let mut weights: Weights =
            arrays.into_iter().map(|(name, array)| (name.to_owned(), array)).collect();
        weights.insert_integers("a_bn.num_batches_tracked", Array::new([], vec![-3_i64])?);
        let back = Weights::from_tensors(&weights.to_tensors()?).await?;
        assert_eq!(back, weights);
        assert_eq!(back.get("a.weight").unwrap().data()[1].to_bits(), (-0.0_f32).to_bits());
        Ok(())
    }

    #[tokio::test]
    async fn weights_of_another_type_are_refused_by_name() -> Result<()> {
        let tensors = Tensors::new().with("l1.weight", &[2], &[1.0_f64, 2.0])?;
        let error = Weights::from_tensors(&tensors).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("l1.weight"), "{error}");
        Ok(())
    }

    #[tokio::test]
    async fn tables_are_files_of_two_tensors() -> Result<()> {
        let table = Arc::new(Table::new(2, vec![0.5, 1.0, -1.5, 2.0, 0.0, 9.0], vec![0, 2, 1])?);
        let mut bytes = Vec::new();
        for chunk in Table::source(table.clone()).chunks()? {
            bytes.extend_from_slice(&chunk?);
        }
        let tensors = Tensors::from_bytes(bytes)?;
        assert_eq!(tensors.names().collect::<Vec<_>>(), [FEATURES, LABELS]);
        assert_eq!(tensors.to_vec::<u32>(LABELS).await?, table.labels());
        assert_eq!(*Artifact::new((*table).clone()).get().await?, *table);
        Ok(())
    }
}
