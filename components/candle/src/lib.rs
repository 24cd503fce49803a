//! Models ready to use, on candle.
