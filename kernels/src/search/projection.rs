//! The running sums that score a vector of codes against the elements it stands for.

/// `lx = Σ w·x·code` and `ll = Σ w·code²`.
///
/// The best scale for fixed codes is `lx / ll`, and it removes `lx² / ll` of the weighted squared error `Σ w·x²`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Projection {
    pub(super) lx: f32,
    pub(super) ll: f32,
}

impl Projection {
    /// The sums over all elements.
    pub(super) fn of<const N: usize>(x: &[f32; N], weights: &[f32; N], codes: &[i32; N]) -> Self {
        let mut sums = Self::default();
        for ((&x, &w), &code) in x.iter().zip(weights).zip(codes) {
            sums = sums.with(w, x, code);
        }
        sums
    }

    /// With one element more.
    #[inline]
    pub(super) fn with(self, w: f32, x: f32, code: i32) -> Self {
        let code = code as f32;
        Self { lx: self.lx + w * x * code, ll: self.ll + w * code * code }
    }

    /// With one element less.
    #[inline]
    pub(super) fn without(self, w: f32, x: f32, code: i32) -> Self {
        let code = code as f32;
        Self { lx: self.lx - w * x * code, ll: self.ll - w * code * code }
    }

    /// Whether these codes leave less error than `other`.
    #[inline]
    pub(super) fn beats(self, other: Self) -> bool {
        self.lx * self.lx * other.ll > other.lx * other.lx * self.ll
    }

    /// The least-squares scale; 0 when no code counts.
    pub(super) fn scale(self) -> f32 {
        if self.ll > 0.0 { self.lx / self.ll } else { 0.0 }
    }
}
