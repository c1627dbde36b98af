//! Why an attempt cannot go on, and what is to be done about it.

use wasmill_pipeline::error::Class;

/// Why a worker, or the whole attempt, cannot go on.
#[derive(Debug)]
pub struct Failure {
    /// What is to be done about it.
    pub class: Class,
    /// What went wrong, with its causes.
    pub error: anyhow::Error,
}

impl Failure {
    /// Of this class.
    pub fn new(class: Class, error: impl Into<anyhow::Error>) -> Self {
        Self { class, error: error.into() }
    }
}

macro_rules! failure_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self { class: error.class(), error: error.into() }
            }
        }
    )*};
}
failure_from!(wasmill_pipeline::error::Error, crate::sink::Error, crate::store::Error, crate::kafka::Error);
