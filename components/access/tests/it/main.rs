//! Roles, grants, requests, audit and published models, by the cases of the acceptance list.

mod audit;
mod custom;
mod far;
mod gates;
mod hold;
mod homes;
mod keys;
mod models;
mod over_sites;
mod policies;
mod requests;
mod support;
mod texts;
