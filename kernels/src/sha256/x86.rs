//! The compression of several hashes in step by the SHA instructions of x86-64: one group of hashes of the same
//! blocks, which share the message schedule, beside another group whose blocks are different.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_set_epi8, _mm_setzero_si128, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
};
use std::mem::transmute;

use super::BLOCK;

/// The constants of the rounds: the first 32 bits of the fractions of the cube roots of the first 64 primes (section
/// 4.2.2).
#[rustfmt::skip]
const ROUNDS: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5], [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3], [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc], [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7], [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13], [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3], [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5], [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208], [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];

/// The proof that this machine has the instructions: only detection makes a value.
#[derive(Clone, Copy)]
pub(super) struct Sha(());

impl Sha {
    pub(super) fn detect() -> Option<Self> {
        // AVX is wanted for its instructions with three operands: without it, half of the time goes into copies between
        // registers.
        let has = is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("sse4.1")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("avx");
        has.then_some(Self(()))
    }

    /// Adds `blocks` to each of `states`, and `other_blocks`, as many, to each of `others`, which may be empty.
    pub(super) fn compress<const N: usize, const M: usize>(
        self,
        states: [&mut [u32; 8]; N],
        blocks: &[[u8; BLOCK]],
        others: [&mut [u32; 8]; M],
        other_blocks: &[[u8; BLOCK]],
    ) {
        // SAFETY: a `Sha` exists only where the instructions were detected.
        unsafe { compress(states, blocks, others, other_blocks) }
    }
}

/// The states of `N` hashes in the order that the instructions want: of the eight words a to h, one vector holds
/// (a, b, e, f) and the other (c, d, g, h), highest first.
#[derive(Clone, Copy)]
struct HashGroup<const N: usize> {
    first: [__m128i; N],
    second: [__m128i; N],
}

impl<const N: usize> HashGroup<N> {
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3,avx")]
    fn load(states: &[&mut [u32; 8]; N]) -> Self {
        let mut group = Self { first: [_mm_setzero_si128(); N], second: [_mm_setzero_si128(); N] };
        for (s, state) in states.iter().enumerate() {
            let [a, b, c, d, e, f, g, h] = **state;
            (group.first[s], group.second[s]) = (vector([f, e, b, a]), vector([h, g, d, c]));
        }
        group
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3,avx")]
    fn store(self, states: [&mut [u32; 8]; N]) {
        for (s, state) in states.into_iter().enumerate() {
            let ([f, e, b, a], [h, g, d, c]) = (words(self.first[s]), words(self.second[s]));
            *state = [a, b, c, d, e, f, g, h];
        }
    }

    /// Computes four rounds; `words` are those of the schedule plus the constants.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3,avx")]
    fn rounds(&mut self, words: __m128i) {
        for s in 0..N {
            self.second[s] = _mm_sha256rnds2_epu32(self.second[s], self.first[s], words);
        }
        let high = _mm_shuffle_epi32::<0x0e>(words);
        for s in 0..N {
            self.first[s] = _mm_sha256rnds2_epu32(self.first[s], self.second[s], high);
        }
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3,avx")]
    fn add(&mut self, before: Self) {
        for s in 0..N {
            self.first[s] = _mm_add_epi32(self.first[s], before.first[s]);
            self.second[s] = _mm_add_epi32(self.second[s], before.second[s]);
        }
    }
}

#[target_feature(enable = "sha,sse4.1,ssse3,avx")]
fn compress<const N: usize, const M: usize>(
    states: [&mut [u32; 8]; N],
    blocks: &[[u8; BLOCK]],
    others: [&mut [u32; 8]; M],
    other_blocks: &[[u8; BLOCK]],
) {
    let (mut group, mut other) = (HashGroup::load(&states), HashGroup::load(&others));
    for (at, block) in blocks.iter().enumerate() {
        let (before, other_before) = (group, other);
        let mut schedule = [_mm_setzero_si128(); 4];
        let mut other_schedule = schedule;
        // This is a macro because a loop would be neither unrolled nor keep the schedules in registers.
        macro_rules! groups {
            ($($group:literal)*) => {$(
                let constants = vector(ROUNDS[$group]);
                group.rounds(_mm_add_epi32(next::<$group>(&mut schedule, block), constants));
                if M > 0 {
                    let words = next::<$group>(&mut other_schedule, &other_blocks[at]);
                    other.rounds(_mm_add_epi32(words, constants));
                }
            )*};
        }
        groups!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        group.add(before);
        other.add(other_before);
    }
    group.store(states);
    other.store(others);
}

/// Returns four words as a vector.
#[inline(always)]
fn vector(words: [u32; 4]) -> __m128i {
    // SAFETY: both are 16 bytes, of which every pattern is valid.
    unsafe { transmute(words) }
}

#[inline(always)]
fn words(vector: __m128i) -> [u32; 4] {
    // SAFETY: both are 16 bytes, of which every pattern is valid.
    unsafe { transmute(vector) }
}

/// Returns the message schedule's words 4 * `GROUP` to 4 * `GROUP` + 3; `last` holds the sixteen words before them.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3,avx")]
fn next<const GROUP: usize>(last: &mut [__m128i; 4], block: &[u8; BLOCK]) -> __m128i {
    let words = if GROUP < 4 {
        let big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
        // SAFETY: both are 16 bytes, of which every pattern is valid.
        let bytes = unsafe { transmute::<[u8; 16], __m128i>(block.as_chunks().0[GROUP]) };
        _mm_shuffle_epi8(bytes, big_endian)
    } else {
        let [w16, w12, w8, w4] =
            [last[GROUP % 4], last[(GROUP + 1) % 4], last[(GROUP + 2) % 4], last[(GROUP + 3) % 4]];
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w16, w12), _mm_alignr_epi8::<4>(w4, w8));
        _mm_sha256msg2_epu32(sum, w4)
    };
    last[GROUP % 4] = words;
    words
}
