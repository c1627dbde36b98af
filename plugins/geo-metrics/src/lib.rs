//! geo-metrics
