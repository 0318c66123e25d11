//! The codebooks of the i-quants as the decoders use them, and the signs that go with a point.
//!
//! A point stands for 8 weights (IQ1, IQ2) or 4 (IQ3). Its coordinates are their magnitudes in IQ2 and IQ3, and the
//! weights themselves before a shift in IQ1.

use super::codebook;

/// The codebook of IQ1_S and IQ1_M.
pub(super) static IQ1: [[i8; 8]; 2048] = unpack(&codebook::IQ1, &[-1, 0, 1]);
/// The codebook of IQ2_XXS.
pub(super) static IQ2_XXS: [[i8; 8]; 256] = unpack(&codebook::IQ2_XXS, &IQ2_LEVELS);
/// The codebook of IQ2_XS.
pub(super) static IQ2_XS: [[i8; 8]; 512] = unpack(&codebook::IQ2_XS, &IQ2_LEVELS);
/// The codebook of IQ2_S.
pub(super) static IQ2_S: [[i8; 8]; 1024] = unpack(&codebook::IQ2_S, &IQ2_LEVELS);
/// The codebook of IQ3_XXS.
pub(super) static IQ3_XXS: [[i8; 4]; 256] = unpack(&codebook::IQ3_XXS, &[4, 12, 20, 28, 36, 44, 52, 62]);
/// The codebook of IQ3_S.
pub(super) static IQ3_S: [[i8; 4]; 512] = unpack(&codebook::IQ3_S, &[1, 3, 5, 7, 9, 11, 13, 15]);

const IQ2_LEVELS: [i8; 3] = [8, 25, 43];

const fn unpack<const POINTS: usize, const COORDINATES: usize>(
    packed: &[u16; POINTS],
    levels: &[i8],
) -> [[i8; COORDINATES]; POINTS] {
    let bits = 16 / COORDINATES;
    let mut points = [[0; COORDINATES]; POINTS];
    let mut i = 0;
    while i < POINTS {
        let mut j = 0;
        while j < COORDINATES {
            let level = packed[i] >> (bits * j) & ((1 << bits) - 1);
            points[i][j] = levels[level as usize];
            j += 1;
        }
        i += 1;
    }
    points
}

/// Returns the signs of 8 weights, one bit each, from the 7 bits that are stored. The number of negative weights is
/// even, from which the eighth sign follows.
pub(super) fn even_signs(stored: u32) -> u8 {
    let seven = (stored & 0x7f) as u8;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// Decodes a point to `scale * magnitude` for every coordinate, negated where its bit of `signs` (from the lowest up)
/// is set.
pub(super) fn decode_signed(magnitudes: &[i8], signs: u8, scale: f32, weights: &mut [f32]) {
    for (j, (weight, magnitude)) in weights.iter_mut().zip(magnitudes).enumerate() {
        let weight_magnitude = scale * f32::from(*magnitude);
        *weight = if signs >> j & 1 == 1 { -weight_magnitude } else { weight_magnitude };
    }
}

/// Decodes a point to `scale * (coordinate + shift)` for every coordinate.
pub(super) fn decode_shifted(coordinates: &[i8], shift: f32, scale: f32, weights: &mut [f32]) {
    for (weight, coordinate) in weights.iter_mut().zip(coordinates) {
        *weight = scale * (f32::from(*coordinate) + shift);
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn hash<const N: usize>(points: &[[i8; N]]) -> String {
        let bytes: Vec<u8> = points.iter().flatten().map(|c| c.cast_unsigned()).collect();
        Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The golden rows contain only some of the points, so that the whole tables are compared by their hashes.
    #[test]
    fn grids_are_those_of_ggml() {
        assert_eq!(hash(&IQ1), "07540ffc1aeaf6ad4d97e96b0fcc765aae39671d4ae4a27bbd0e796fde167c6a");
        assert_eq!(hash(&IQ2_XXS), "05826b5d3e472a3a78f196be62ac78acf81df0f909626e12ab9fa2a5d490dd54");
        assert_eq!(hash(&IQ2_XS), "06e47aaca60b4dc1d9b5a3f34540437058a6b142b4d7a59d5ded769b4d1bf1de");
        assert_eq!(hash(&IQ2_S), "e1aa1473412b0552c2174c30ef22ab4073f6a181b85a17056e8249bd2932fd88");
        assert_eq!(hash(&IQ3_XXS), "46e35f5a997efdee6c99ce57854c8a0d4f0ff8ca57e5e8a60c0793ea580acf5d");
        assert_eq!(hash(&IQ3_S), "bd1af4945a1717c65610b0284e4628b9a1ba3b306fae3a06f6e5f597356e349f");
    }

    #[test]
    fn an_even_number_of_signs_is_set() {
        for stored in 0..128 {
            let signs = even_signs(stored);
            assert_eq!(u32::from(signs & 0x7f), stored);
            assert_eq!(signs.count_ones() % 2, 0);
        }
    }
}
