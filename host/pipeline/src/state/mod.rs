//! Open state: which groups there are, in which slots, and what changed since the last cut.

pub(crate) mod by_start;
pub mod delta;
pub mod group;
pub mod pane;
pub mod session;
pub mod windowed;
