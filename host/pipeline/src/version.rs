//! Versions of one aggregate that run side by side: the one in force, the one before that ends what it began, and a
//! next one that is compared.

use std::borrow::Cow;

/// What a version is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// In force: its rows are the aggregate's, and rows are counted here.
    Current,
    /// The version before the current one, which ends the windows that it began.
    Retiring,
    /// A next version, whose rows are compared with the current one's and not written.
    Shadow {
        /// The share of keys that it gets, in parts of [`ALL_KEYS`].
        keys: u64,
    },
}

/// All keys, as a share.
pub const ALL_KEYS: u64 = 1 << 24;

impl Role {
    /// Whether it gets the key with this hash.
    pub fn takes(self, hash: u64) -> bool {
        // By the lowest bits: the others say which worker has the key.
        !matches!(self, Self::Shadow { keys } if hash % ALL_KEYS >= keys)
    }

    /// Whether it is compared and not written.
    pub fn is_shadow(self) -> bool {
        matches!(self, Self::Shadow { .. })
    }

    /// The name of its state in a checkpoint.
    pub fn state_name(self, aggregate: &str) -> Cow<'_, str> {
        match self {
            Self::Current => Cow::Borrowed(aggregate),
            Self::Retiring => Cow::Owned(format!("{aggregate}/retiring")),
            Self::Shadow { .. } => Cow::Owned(format!("{aggregate}/shadow")),
        }
    }
}

/// The windows and sessions that a version answers for, by their start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starts {
    /// The first.
    pub from_us: i64,
    /// The first no more.
    pub before_us: i64,
}

impl Starts {
    /// All.
    pub const ALL: Self = Self { from_us: i64::MIN, before_us: i64::MAX };

    /// Those from an instant on.
    pub fn from(from_us: i64) -> Self {
        Self { from_us, ..Self::ALL }
    }

    /// Those before an instant.
    pub fn before(before_us: i64) -> Self {
        Self { before_us, ..Self::ALL }
    }

    /// Whether a window with this start is one of them.
    pub fn contain(&self, start_us: i64) -> bool {
        self.from_us <= start_us && (start_us < self.before_us || self.before_us == i64::MAX)
    }
}
