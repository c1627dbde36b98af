//! What the acceptance tests share: the job as a process, what its outputs hold, and what they should hold.

pub(crate) mod job;
pub(crate) mod oracle;
pub(crate) mod reader;
pub(crate) mod rows;
pub(crate) mod topic;
