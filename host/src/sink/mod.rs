//! The sink door.
