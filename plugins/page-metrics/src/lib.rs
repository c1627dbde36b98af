//! page-metrics
