//! Facts about plugins that break one law each: it is named, and shown with the smallest input.

mod aggregates;
mod parsers;
mod shrinking;
