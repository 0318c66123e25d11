//! The instruction set that the loops run on.
//!
//! A loop is written once and compiled once per instruction set. Rust neither reorders float operations nor fuses a
//! multiplication with an addition unless asked to (`mul_add`, which rounds once on every machine), so all versions
//! give the same bits; they differ in speed alone.
//!
//! The compiler compiles a function for an instruction set only when it is inlined into one that has it. A search
//! passed as an argument, or a closure called in two places, was not inlined and ran at 2 to 17 million weights per
//! second where vectors give some 100. Hence the traits and the `#[inline(always)]` throughout this crate.

use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set that this machine has. Only detection makes one, so that a value proves that the instructions
/// exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// The instructions that the target guarantees, on one number at a time.
    Scalar,
    /// Vectors of 128 bits, which every aarch64 has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Vectors of 256 bits with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Vectors of 512 bits with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Every name that some machine knows, slowest first.
pub const NAMES: &[&str] = &["scalar", "neon", "avx2", "avx512"];

/// The level that [`Isa::force`] chose, as its index in [`LEVELS`] plus 1; 0 while none is forced.
static FORCED: AtomicU8 = AtomicU8::new(0);

/// Every level that a machine of this architecture can have, in the order of its discriminant.
const LEVELS: &[Level] = &[
    Level::Scalar,
    #[cfg(target_arch = "aarch64")]
    Level::Neon,
    #[cfg(target_arch = "x86_64")]
    Level::Avx2,
    #[cfg(target_arch = "x86_64")]
    Level::Avx512,
];

impl Isa {
    /// Returns the instruction set in use: the one that [`Isa::force`] was last called on, else the fastest.
    #[inline]
    pub fn current() -> Self {
        // The level exists here: `force` takes an `Isa`, which only detection makes.
        match usize::from(FORCED.load(Ordering::Relaxed)).checked_sub(1) {
            None => Self::best(),
            Some(number) => Self(LEVELS[number]),
        }
    }

    /// Returns the fastest instruction set of this machine.
    #[inline]
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("popcnt")
            {
                return Self(Level::Avx512);
            }
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("popcnt")
            {
                return Self(Level::Avx2);
            }
            Self(Level::Scalar)
        }
        #[cfg(target_arch = "aarch64")]
        {
            Self(Level::Neon)
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            Self(Level::Scalar)
        }
    }

    /// Returns all instruction sets of this machine, slowest first.
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self(Level::Scalar)];
        let best = Self::best();
        #[cfg(target_arch = "x86_64")]
        if best.0 == Level::Avx512 {
            all.push(Self(Level::Avx2));
        }
        if best.0 != Level::Scalar {
            all.push(best);
        }
        all
    }

    /// Returns the instruction set called `name`; `None` if this machine does not have it.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::available().into_iter().find(|isa| isa.name() == name)
    }

    /// Returns the instruction set's name, one of [`NAMES`].
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar => "scalar",
            #[cfg(target_arch = "aarch64")]
            Level::Neon => "neon",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        }
    }

    /// Makes this instruction set the one in use, for the whole process. Results stay the same: this is for comparing
    /// speeds.
    pub fn force(self) {
        FORCED.store(self.0 as u8 + 1, Ordering::Relaxed);
    }

    /// Returns the level that loops match on.
    #[inline]
    pub(crate) fn level(self) -> Level {
        self.0
    }
}

/// Compiles a function's body once per instruction set: `fn name, name_on(arguments)` gives `name`, which runs the best
/// version, and `name_on`, whose first argument is the [`Isa`] to run on.
///
/// Functions that the body calls are compiled with it only if they are `#[inline(always)]`.
macro_rules! per_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident, $on:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) $(-> $out)? {
            $on($crate::isa::Isa::current(), $($arg),*)
        }

        pub(crate) fn $on(isa: $crate::isa::Isa, $($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn generic($($arg: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) $(-> $out)? {
                generic($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($arg: $type),*) $(-> $out)? {
                generic($($arg),*)
            }

            match isa.level() {
                $crate::isa::Level::Scalar => generic($($arg),*),
                // Every aarch64 target has NEON enabled, so that plain code is compiled for it already.
                #[cfg(target_arch = "aarch64")]
                $crate::isa::Level::Neon => generic($($arg),*),
                // SAFETY: an `Isa` of this level exists only where its instructions were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: an `Isa` of this level exists only where its instructions were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use per_isa;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_one_is_found_by_its_name() {
        for isa in Isa::available() {
            assert_eq!(Isa::by_name(isa.name()), Some(isa));
            assert!(NAMES.contains(&isa.name()));
        }
        assert_eq!(Isa::by_name("mmx"), None);
        assert_eq!(Isa::available().last(), Some(&Isa::best()));
    }
}
