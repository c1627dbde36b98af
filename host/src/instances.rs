//! Where the instances of a pipeline's plugins come from: from their components, or from whatever an embedder has.

use crate::plugin::{Component, Error};
use wasmill_pipeline::plugin::{Aggregate, Parser};

/// Makes instances of a pipeline's plugins. All instances of one component, with one configuration, are to be equal.
///
/// `wasmill` has [`Sandbox`]. A program that embeds it may have another one: the native twin of the benchmarks runs the
/// same plugins as native code. Components are loaded, named and kept in checkpoints all the same.
pub trait Instantiate: Send + Sync {
    /// A parser, as [`Component::parser`] has it.
    ///
    /// # Errors
    /// As for [`Component::parser`].
    fn parser(
        &self,
        component: &Component,
        config_json: &str,
        topic: &str,
        wanted: Option<&[&str]>,
    ) -> Result<Box<dyn Parser>, Error>;

    /// An aggregate, as [`Component::aggregate`] has it.
    ///
    /// # Errors
    /// As for [`Component::aggregate`].
    fn aggregate(&self, component: &Component, config_json: &str) -> Result<Box<dyn Aggregate>, Error>;
}

/// Instances of the components themselves, each in a sandbox of WebAssembly.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sandbox;

impl Instantiate for Sandbox {
    fn parser(
        &self,
        component: &Component,
        config_json: &str,
        topic: &str,
        wanted: Option<&[&str]>,
    ) -> Result<Box<dyn Parser>, Error> {
        component.parser(config_json, topic, wanted)
    }

    fn aggregate(&self, component: &Component, config_json: &str) -> Result<Box<dyn Aggregate>, Error> {
        component.aggregate(config_json)
    }
}

/// One worker's plugins.
pub struct Instances {
    /// The parser.
    pub parser: Box<dyn Parser>,
    /// The aggregates, by their places in the plan.
    pub aggregates: Vec<Box<dyn Aggregate>>,
}
