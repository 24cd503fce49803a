//! Roles, grants, requests, audit and published models, by the cases of the acceptance list.

mod audit;
mod custom;
mod gates;
mod hold;
mod keys;
mod models;
mod over_sites;
mod policies;
mod requests;
mod support;
