//! The config door.
