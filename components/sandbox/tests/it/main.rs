//! Guests that behave, and guests that do not.

mod calls;
mod governed;
mod guests;
mod limits;
mod models;
mod random;
