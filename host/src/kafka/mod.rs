//! The kafka door.
