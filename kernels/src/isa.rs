//! Which instruction set the loops run on.
//!
//! A loop is written once, in plain Rust, and compiled once per instruction set. Rust neither reorders float operations
//! nor fuses a multiplication with an addition unless asked to (`mul_add`, which rounds once on every machine), so all
//! versions give the same bits; they differ in speed alone.

/// An instruction set that this machine has: only detection makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Isa(Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// What the target guarantees.
    Baseline,
    /// 256-bit vectors, fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit vectors, fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The fastest one.
    #[inline]
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                return Self(Level::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self(Level::Avx2);
            }
        }
        Self(Level::Baseline)
    }

    /// Which one this is.
    #[inline]
    pub(crate) fn level(self) -> Level {
        self.0
    }

    /// All of them, for tests that compare them.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        let mut all = vec![Self(Level::Baseline)];
        #[cfg(target_arch = "x86_64")]
        {
            let best = Self::best();
            if best.0 != Level::Baseline {
                all.push(Self(Level::Avx2));
            }
            if best.0 == Level::Avx512 {
                all.push(best);
            }
        }
        all
    }
}

/// Compiles a function's body once per instruction set: `fn name, name_on(arguments)` gives `name`, which runs the best
/// version, and `name_on`, which runs that of the [`Isa`] it gets.
///
/// What the body calls is compiled with it only when `#[inline(always)]`.
macro_rules! per_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident, $on:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) $(-> $out)? {
            $on($crate::isa::Isa::best(), $($arg),*)
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
                $crate::isa::Level::Baseline => generic($($arg),*),
                // SAFETY: an `Isa` of this level exists only where its instructions were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use per_isa;
