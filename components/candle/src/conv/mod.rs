//! Convolution, rectifier and max-pooling as one operation, with a backward pass of its own.
//!
//! candle's `conv2d` spends most of a training step in scalar loops, most of them for the gradient
//! of the input images, which are not trained. Here patches become the rows of a matrix (im2col; K.
//! Chellapilla et al., "High Performance Convolutional Neural Networks for Document Processing",
//! 2006), a few images at a time so that the rows stay in the processor's cache, and the work is
//! that of matrix products. Images are `[rows, height, width, channels]` inside, so that a patch is
//! `kernel` runs of memory; weights are `[filters, channels, kernel, kernel]`, as in PyTorch.

mod backward;
mod forward;
mod plain;
mod sizes;
mod storage;
#[cfg(test)]
mod tests;

pub(crate) use forward::block;
pub(crate) use plain::{plain, pool};
pub(crate) use sizes::Sizes;
