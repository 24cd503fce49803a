//! candle's tensors and variable maps as blobs, on the CPU.
//!
//! Invariant: they are stored as safetensors files, equal to the ones of a [`Tensors`] with the
//! same content; saving needs a MiB beside the tensors, whatever their size.

use super::{
    Blob, BlobSource, Bytes, Dtype, Hashed, StoredBlob, TensorData, TensorInfo, Tensors,
    layout::Layout, tensors::hash_tensors,
};
use crate::{
    artifact::contract::Chunks,
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
};
use candle_core::{CpuStorage, DType, Device, Storage, Tensor, Var};
use candle_nn::VarMap;
use std::{
    collections::{BTreeMap, HashMap},
    iter,
    sync::{Arc, PoisonError},
};

/// The name under which a single tensor is stored.
const SINGLE: &str = "tensor";
/// How many elements are converted at a time.
const STEP: usize = 128 * 1024;

fn dtype(tensor: &Tensor) -> Result<Dtype> {
    Ok(match tensor.dtype() {
        DType::U8 => Dtype::U8,
        DType::U32 => Dtype::U32,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::F8E4M3 => Dtype::F8E4M3,
        other => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("candle tensors of type {other:?} cannot be stored"),
            ));
        }
    })
}

fn candle_dtype(dtype: Dtype) -> Result<DType> {
    Ok(match dtype {
        Dtype::U8 => DType::U8,
        Dtype::U32 => DType::U32,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::BF16 => DType::BF16,
        Dtype::F16 => DType::F16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::F8E4M3 => DType::F8E4M3,
        other => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("candle has no tensors of type {other}"),
            ));
        }
    })
}

fn failed(error: candle_core::Error) -> Error {
    Error::new(ErrorKind::User, "candle cannot give the elements of a tensor").with_source(error)
}

fn little_endian<T: Copy, const N: usize>(values: &[T], convert: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * N];
    for (place, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
        *place = convert(*value);
    }
    bytes
}

/// Some elements of a contiguous tensor on the CPU.
fn elements(tensor: &Tensor, from: usize, to: usize) -> Result<Vec<u8>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(Error::internal("a tensor was not moved to the CPU"));
    };
    let (from, to) = (layout.start_offset() + from, layout.start_offset() + to);
    Ok(match storage {
        CpuStorage::U8(values) => values[from..to].to_vec(),
        CpuStorage::U32(values) => little_endian(&values[from..to], u32::to_le_bytes),
        CpuStorage::I16(values) => little_endian(&values[from..to], i16::to_le_bytes),
        CpuStorage::I32(values) => little_endian(&values[from..to], i32::to_le_bytes),
        CpuStorage::I64(values) => little_endian(&values[from..to], i64::to_le_bytes),
        CpuStorage::BF16(values) => little_endian(&values[from..to], |value| value.to_le_bytes()),
        CpuStorage::F16(values) => little_endian(&values[from..to], |value| value.to_le_bytes()),
        CpuStorage::F32(values) => little_endian(&values[from..to], f32::to_le_bytes),
        CpuStorage::F64(values) => little_endian(&values[from..to], f64::to_le_bytes),
        CpuStorage::F8E4M3(values) => {
            values[from..to].iter().map(|value| value.to_bits()).collect()
        }
        _ => return Err(Error::internal("a tensor of a type that is not stored")),
    })
}

fn info(tensor: &Tensor) -> Result<TensorInfo> {
    Ok(TensorInfo { dtype: dtype(tensor)?, shape: tensor.dims().to_vec() })
}

fn chunks_of(tensor: &Tensor) -> Result<impl Iterator<Item = Result<Bytes>> + Send + use<>> {
    let tensor =
        tensor.to_device(&Device::Cpu).and_then(|tensor| tensor.contiguous()).map_err(failed)?;
    let count = tensor.elem_count();
    Ok((0..count.div_ceil(STEP)).map(move |step| {
        elements(&tensor, step * STEP, count.min((step + 1) * STEP)).map(Bytes::from)
    }))
}

fn to_data(tensor: &Tensor) -> Result<TensorData> {
    let mut bytes = Vec::new();
    for chunk in chunks_of(tensor)? {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(TensorData { info: info(tensor)?, bytes: bytes.into() })
}

fn to_candle(data: &TensorData) -> Result<Tensor> {
    let dtype = candle_dtype(data.info.dtype)?;
    Tensor::from_raw_buffer(&data.bytes, dtype, &data.info.shape, &Device::Cpu).map_err(failed)
}

impl Tensors {
    /// Copy candle's tensors.
    ///
    /// # Errors
    /// `Unsupported` for element types that safetensors has not.
    pub fn from_candle(tensors: &HashMap<String, Tensor>) -> Result<Self> {
        let mut all = Tensors::new();
        for (name, tensor) in tensors {
            let data =
                to_data(tensor).map_err(|error| error.context(format_args!("tensor `{name}`")))?;
            all.insert(name, data)?;
        }
        Ok(all)
    }

    /// Read one tensor for candle, on the CPU.
    ///
    /// # Errors
    /// As [`get`](Tensors::get); `Unsupported` for element types that candle has not.
    pub async fn get_candle(&self, name: &str) -> Result<Tensor> {
        to_candle(&self.get(name).await?)
            .map_err(|error| error.context(format_args!("tensor `{name}`")))
    }

    /// Read all tensors for candle, on the CPU.
    ///
    /// # Errors
    /// As [`get_candle`](Tensors::get_candle).
    pub async fn to_candle(&self) -> Result<HashMap<String, Tensor>> {
        let mut all = HashMap::with_capacity(self.len());
        for name in self.names() {
            all.insert(name.to_owned(), self.get_candle(name).await?);
        }
        Ok(all)
    }
}

/// Tensors that may be trained on while they are saved, so the store takes their digest a second
/// time.
trait Named: Send + Sync {
    fn named(&self) -> BTreeMap<String, Tensor>;
}

struct One(Arc<Tensor>);
impl Named for One {
    fn named(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::from([(SINGLE.to_owned(), Tensor::clone(&self.0))])
    }
}

struct Vars(Arc<VarMap>);
impl Named for Vars {
    fn named(&self) -> BTreeMap<String, Tensor> {
        let vars = self.0.data().lock().unwrap_or_else(PoisonError::into_inner);
        vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect()
    }
}

struct Source<N>(N);

impl<N: Named> Source<N> {
    fn layout(&self) -> Result<(BTreeMap<String, Tensor>, Layout, Vec<u8>)> {
        let tensors = self.0.named();
        let mut infos = BTreeMap::new();
        for (name, tensor) in &tensors {
            infos.insert(
                name.clone(),
                info(tensor).map_err(|error| error.context(format_args!("tensor `{name}`")))?,
            );
        }
        let (layout, header) = Layout::of(infos.iter(), &BTreeMap::new())
            .map_err(|what| Error::new(ErrorKind::Encode, what))?;
        Ok((tensors, layout, header))
    }
}

impl<N: Named> BlobSource for Source<N> {
    fn chunks(&self) -> Result<Chunks> {
        let (mut tensors, layout, header) = self.layout()?;
        let parts = layout
            .places
            .into_iter()
            .filter_map(move |place| tensors.remove(&place.name))
            .flat_map(|tensor| {
                let (chunks, error) = match chunks_of(&tensor) {
                    Ok(chunks) => (Some(chunks), None),
                    Err(error) => (None, Some(Err(error))),
                };
                error.into_iter().chain(chunks.into_iter().flatten())
            });
        Ok(Box::new(iter::once(Ok(header.into())).chain(parts)))
    }

    fn hash(&self) -> Result<Hashed> {
        let (_, layout, _) = self.layout()?;
        hash_tensors(&layout, self.chunks()?)
    }
}

/// One tensor named `tensor`. Opening reads it.
impl Blob for Tensor {
    fn source(value: Arc<Self>) -> Arc<dyn BlobSource> {
        Arc::new(Source(One(value)))
    }

    fn open(blob: StoredBlob) -> BoxFuture<'static, Result<Self>> {
        Box::pin(async move {
            let tensors = <Tensors as Blob>::open(blob.clone()).await?;
            let names: Vec<&str> = tensors.names().collect();
            match names.as_slice() {
                [only] => tensors.get_candle(only).await,
                _ => Err(blob
                    .malformed(format_args!("it has {} tensors, not one", names.len()))
                    .with_hint("read it as `Artifact<Tensors>` or `Artifact<VarMap>`")),
            }
        })
    }
}

/// The variables by name. Opening reads all of them.
impl Blob for VarMap {
    fn source(value: Arc<Self>) -> Arc<dyn BlobSource> {
        Arc::new(Source(Vars(value)))
    }

    fn open(blob: StoredBlob) -> BoxFuture<'static, Result<Self>> {
        Box::pin(async move {
            let tensors = <Tensors as Blob>::open(blob).await?;
            let map = VarMap::new();
            for name in tensors.names() {
                let var = Var::from_tensor(&tensors.get_candle(name).await?).map_err(failed)?;
                map.data()
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(name.to_owned(), var);
            }
            Ok(map)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{artifact::Artifact, encode::Encoded};

    /// The artifact as another type of this process reads it.
    fn reread<A: Blob, B: Blob>(artifact: &Artifact<A>) -> Artifact<B> {
        Encoded::of(artifact).expect("encodes").into_typed().expect("decodes")
    }

    #[tokio::test]
    async fn every_type_of_element_round_trips() {
        let base = Tensor::arange(0_f32, 300_000.0, &Device::Cpu)
            .expect("a tensor")
            .reshape((300, 1000))
            .expect("a shape");
        let types = [
            DType::U8,
            DType::U32,
            DType::I64,
            DType::BF16,
            DType::F16,
            DType::F32,
            DType::F64,
            DType::F8E4M3,
        ];
        for dtype in types {
            // A part of a transposed tensor: neither contiguous nor at the start of its memory.
            let tensor = base
                .to_dtype(dtype)
                .and_then(|tensor| tensor.t()?.narrow(0, 7, 900))
                .expect("a tensor");
            let tensors: Artifact<Tensors> = reread(&Artifact::new(tensor.clone()));
            let back =
                tensors.get().await.expect("a map").get_candle(SINGLE).await.expect("a tensor");
            assert_eq!(back.dims(), tensor.dims());
            let (found, expected) =
                (to_data(&back).expect("bytes"), to_data(&tensor).expect("bytes"));
            assert!(found == expected, "{dtype:?}");
            let single: Artifact<Tensor> = reread(&tensors);
            assert!(
                to_data(&single.get().await.expect("a tensor")).expect("bytes") == expected,
                "{dtype:?}"
            );
        }
    }

    #[tokio::test]
    async fn variable_maps_are_stored_as_tensors_are() {
        let map = VarMap::new();
        for (name, length) in [("b.bias", 3), ("a.weight", 5)] {
            map.get(length, name, candle_nn::Init::Const(length as f64), DType::F32, &Device::Cpu)
                .expect("a variable");
        }
        let saved = Artifact::new(map);
        let tensors: Artifact<Tensors> = reread(&saved);
        let tensors = tensors.get().await.expect("a map");
        assert_eq!(tensors.names().collect::<Vec<_>>(), ["a.weight", "b.bias"]);
        assert_eq!(tensors.to_vec::<f32>("b.bias").await.expect("a tensor"), [3.0; 3]);
        let copy =
            Tensors::from_candle(&tensors.to_candle().await.expect("tensors")).expect("tensors");
        let hash = |source: &dyn BlobSource| source.hash().expect("hashes").digest;
        assert_eq!(hash(&copy), saved.digest().expect("it was hashed"));
        let back: Artifact<VarMap> = reread(&Artifact::new(copy));
        assert_eq!(back.get().await.expect("a map").all_vars().len(), 2);
    }

    #[tokio::test]
    async fn a_map_is_not_one_tensor() {
        let map = Tensors::new()
            .with("a", &[1], &[1_u8])
            .and_then(|map| map.with("b", &[1], &[1_u8]))
            .expect("tensors");
        let single: Artifact<Tensor> = reread(&Artifact::new(map));
        let error = single.get().await.expect_err("two tensors");
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert!(error.to_string().contains("2 tensors, not one"), "{error}");
    }
}
