//! The `wasmill` command.

fn main() {}
