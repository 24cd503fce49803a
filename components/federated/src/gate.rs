//! Whether a site takes part: its owner decides.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Debug};
use superduper::{Address, BoxFuture, Result};

/// Who submits a training, and what for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Submitter {
    /// The name of the user.
    pub user: String,
    /// The organisation of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// The purpose of the training.
    pub purpose: String,
    /// For each site, what proves to its gate that the user asks: a signed request, for the gates of
    /// `superduper-access`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub proofs: BTreeMap<String, Value>,
}

/// What a site is asked to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Request {
    /// The training, with its version.
    pub training: Address,
    /// The training's uuid.
    pub training_uuid: String,
    /// The site.
    pub site: String,
    /// The round.
    pub round: u64,
    /// What is to be done: `train`, `swag`, `test` or `predict`.
    pub task: String,
    /// The kind of the model.
    pub model: String,
    /// The type of the executor.
    pub executor: String,
    /// The digest of the captured source of model, executor and persistor in this program, which
    /// would run them.
    pub source_digest: String,
    /// Whether the source of all custom code is captured: of model, executor and persistor, and of
    /// the items of the same files that these use. Strategies, filters and endpoints of one's own
    /// have no place in the digest.
    pub source_is_whole: bool,
    /// Whether this is a preview: nothing will run, and nothing is to be written.
    pub is_preview: bool,
    /// Whether executor, persistor, strategy, filters and endpoints are built in, so that the model
    /// alone may be custom code.
    pub is_default: bool,
    /// The executor that runs the jobs of the site, if the training names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs_executor: Option<String>,
    /// A digest of the [terms](crate::FederatedTraining::terms) of the training at this site.
    #[serde(default)]
    pub terms: String,
    /// Whether the model's code runs in a sandbox, and all other code is built in.
    #[serde(default)]
    pub is_sandboxed: bool,
    /// Who submits the training, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitter: Option<Submitter>,
}

/// The answer of a gate.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// The site takes part.
    Allow,
    /// The site does not take part in this round; why.
    Deny(String),
    /// The site cannot tell yet. The job waits. Whoever makes the site able to tell calls
    /// [`wake_site`](crate::wake_site) then, and the gate is asked again.
    Block {
        /// What it waits for.
        reason: String,
        /// The components that the decision was made from, as they were read: with their versions,
        /// or without one where nothing was stored. If one of them has changed before the job waits,
        /// the gate is asked again at once, so no change is missed.
        read: Vec<Address>,
    },
}

/// A gate of the program: it is asked for every embedded site, whatever gate the training gives the
/// site. A program that runs the jobs of a site for its owner has one, so that a training cannot
/// leave the gate out. [`program_gate!`](crate::program_gate) adds it.
#[doc(hidden)]
pub struct ProgramGate {
    /// The gate.
    pub gate: fn() -> Box<dyn Gate>,
    /// The name of the gate that does the same when a site has it itself.
    pub same_as: &'static str,
}
inventory::collect!(ProgramGate);

/// Let a gate be asked for every embedded site whose jobs this program runs:
/// `program_gate!(MyGate {}, same_as = "my_crate.MyGate");`. A site that has the gate of that name itself
/// is asked once.
#[macro_export]
macro_rules! program_gate {
    ($gate:expr, same_as = $name:literal) => {
        $crate::__private::inventory::submit! {
            $crate::__private::ProgramGate {
                gate: || ::std::boxed::Box::new($gate),
                same_as: $name,
            }
        }
    };
}

/// Decides whether a site takes part; asked at the start of each attempt of the site's jobs.
///
/// A gate protects a site from mistakes. It binds only where the site's owner starts the process.
#[typetag::serde(tag = "type")]
pub trait Gate: Debug + Send + Sync {
    /// Whether the site does this.
    ///
    /// # Errors
    /// Any; the site then does not take part in this round.
    fn allow<'a>(
        &'a self,
        db: &'a superduper::Db,
        request: &'a Request,
    ) -> BoxFuture<'a, Result<Decision>>;
    /// What goes to the coordinator with the answer of the site, after the gate has decided.
    /// Nothing, if it is not implemented.
    ///
    /// # Errors
    /// Any; the attempt of the job then fails.
    fn statement<'a>(
        &'a self,
        db: &'a superduper::Db,
        request: &'a Request,
    ) -> BoxFuture<'a, Result<Option<Value>>> {
        let _ = (db, request);
        Box::pin(std::future::ready(Ok(None)))
    }
}
