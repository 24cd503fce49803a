//! The executor `process`: jobs in worker processes.
