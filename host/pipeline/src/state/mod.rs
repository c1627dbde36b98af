//! Open state: which groups there are, in which slots, and what changed since the last cut.

pub mod delta;
pub mod group;
pub mod session;
pub mod windowed;
