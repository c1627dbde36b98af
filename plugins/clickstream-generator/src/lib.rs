//! clickstream-generator
