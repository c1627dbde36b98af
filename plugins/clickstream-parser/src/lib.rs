//! clickstream-parser
