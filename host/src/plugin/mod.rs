//! The plugin door.
