//! A generator: record `n` is made of a seed, its number and its time, and of nothing else.

use crate::bindings::generator::exports::wasmill::plugin::generator as wit;
use crate::config::Config;
use crate::output::Bytes;
use crate::time::Timestamp;
use alloc::string::String;
use alloc::vec::Vec;

pub use wit::Generated;

/// Random numbers that depend on a seed and a number only.
///
/// # Source
/// `SplitMix64`: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The numbers of record `n` under `seed`.
    #[must_use]
    pub fn new(seed: u64, n: u64) -> Self {
        // An odd constant, so that records with neighbouring numbers start far apart; `next` mixes it.
        let mut rng = Self(seed ^ n.wrapping_mul(0xD134_2543_DE82_EF95));
        rng.next();
        rng
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "an iterator that never ends would need unwrapping")]
    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// A number below `limit`, which is at most 2^32; 0 if that is 0.
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        ((self.next() >> 32) * limit) >> 32
    }

    /// True for this share of calls.
    #[inline]
    pub fn chance(&mut self, share: f64) -> bool {
        // 53 bits: as many as an f64 holds.
        ((self.next() >> 11) as f64) < share * (1u64 << 53) as f64
    }

    /// One of `items`, of which there is at least one.
    #[inline]
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}

/// Makes records.
pub trait Generator: Sized + Send + 'static {
    /// Whether records have Kafka keys.
    const KEYED: bool = false;

    /// Makes the generator; settings that it does not take are refused.
    ///
    /// # Errors
    /// A message for the author of the settings.
    fn new(config: &mut Config<'_>, seed: u64) -> Result<Self, String>;

    /// Appends the payload and, if `KEYED`, the key of record `n`, which happens at `time`: both are empty.
    fn record(&self, n: u64, time: Timestamp, value: &mut Vec<u8>, key: &mut Vec<u8>);
}

/// Records `first`, `first + 1`, …: one for each of `times`, in µs.
pub fn generate<G: Generator>(generator: &G, first: u64, times: &[i64]) -> Generated {
    let mut values = Bytes::new(times.len());
    let mut keys = Bytes::new(if G::KEYED { times.len() } else { 0 });
    let (mut value, mut key) = (Vec::new(), Vec::new());
    for (n, time) in (first..).zip(times) {
        value.clear();
        key.clear();
        generator.record(n, Timestamp(*time), &mut value, &mut key);
        values.push(&value);
        keys.push(&key);
    }
    Generated { values: values.varlen(), keys: G::KEYED.then(|| keys.varlen()) }
}

/// Makes `$plugin` this component's generator.
#[macro_export]
macro_rules! export_generator {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::generator::exports::wasmill::plugin::generator as wit;
            use $crate::prelude::{String, Vec};

            static GENERATOR: $crate::guest::Instance<$plugin> = $crate::guest::Instance::new();

            struct Component;

            impl wit::Guest for Component {
                fn init(config: String, seed: u64) -> Result<(), String> {
                    $crate::guest::report_panics();
                    let new = |config: &mut $crate::config::Config<'_>| $crate::generator::Generator::new(config, seed);
                    GENERATOR.set($crate::config::Config::make(&config, new)?);
                    Ok(())
                }

                fn generate(first: u64, times: Vec<i64>) -> wit::Generated {
                    GENERATOR.with(|generator| $crate::generator::generate(generator, first, &times))
                }
            }

    $crate::bindings::generator::export_generator_world!(Component with_types_in $crate::bindings::generator);
        };
    };
}
