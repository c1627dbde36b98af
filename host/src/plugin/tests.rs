//! Facts about guests that keep the contract, and about those that do not.
