//! Properties of the encoders and decoders of the legacy types, k-quants and IQ4 beyond the recorded bytes.

use kquant_kernels::block::{self, BlockType, Importance};
use kquant_kernels::isa::Isa;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const NAMES: [&str; 12] =
    ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"];
/// The columns of a row: two superblocks.
const COLUMNS: usize = 512;

fn types() -> impl Iterator<Item = &'static BlockType> {
    NAMES.into_iter().map(|name| block::by_name(name).unwrap_or_else(|| panic!("{name} is missing")))
}

fn encode(ty: &BlockType, row: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0xa5; ty.row_bytes(row.len() as u64).unwrap() as usize];
    (ty.encode.unwrap())(Isa::best(), row, importance, &mut bytes);
    bytes
}

fn decode(ty: &BlockType, bytes: &[u8]) -> Vec<f32> {
    let mut row = vec![f32::NAN; bytes.len() / ty.bytes * ty.elements];
    (ty.decode)(bytes, &mut row);
    row
}

/// Returns a generator of numbers in 0..n that look random.
fn noise(n: u32) -> impl FnMut() -> u32 {
    let mut state = 12_345u32;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % n
    }
}

/// The grids of a type: groups of `group` weights, which are `scale * code + minimum` with the group's scale and
/// minimum.
struct Grids {
    group: usize,
    /// The codes of a group; every group holds the first and the last one.
    codes: Vec<f32>,
    /// The scales, as multiples of the unit; every superblock holds the first one.
    multiples: Vec<f32>,
    /// The minima, as negative multiples of the unit; every superblock holds the first one.
    minima: Vec<f32>,
}

impl Grids {
    fn of(name: &str) -> Self {
        let integers = |low: i32, high: i32| (low..=high).map(|code| code as f32).collect::<Vec<_>>();
        let downwards = |top: i32| (1..=top).rev().map(|code| code as f32).collect::<Vec<_>>();
        let iq4 =
            [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113].map(|v| v as f32);
        let (group, codes, multiples, minima) = match name {
            "Q4_0" => (32, integers(-8, 7), vec![1.0], vec![0.0]),
            "Q5_0" => (32, integers(-16, 15), vec![1.0], vec![0.0]),
            "Q8_0" => (32, integers(-127, 127), vec![1.0], vec![0.0]),
            "IQ4_NL" => (32, iq4.to_vec(), vec![1.0], vec![0.0]),
            "Q4_1" => (32, integers(0, 15), vec![1.0], integers(0, 9)),
            "Q5_1" => (32, integers(0, 31), vec![1.0], integers(0, 9)),
            "Q2_K" => (16, integers(0, 3), downwards(15), downwards(15)),
            "Q3_K" => (16, integers(-4, 3), [vec![-32.0], integers(1, 31)].concat(), vec![0.0]),
            "Q4_K" => (32, integers(0, 15), downwards(63), downwards(63)),
            "Q5_K" => (32, integers(0, 31), downwards(63), downwards(63)),
            "Q6_K" => (16, integers(-32, 31), [vec![-128.0], integers(1, 127)].concat(), vec![0.0]),
            "IQ4_XS" => (32, iq4.to_vec(), [vec![-32.0], integers(1, 31)].concat(), vec![0.0]),
            _ => panic!("no grids of {name}"),
        };
        Self { group, codes, multiples, minima }
    }

    /// Returns a row of weights that the type holds without error.
    fn row(&self, unit: f32) -> Vec<f32> {
        let mut random = noise(1 << 16);
        let mut pick =
            |from: &[f32], first: bool| if first { from[0] } else { from[random() as usize % from.len()] };
        let mut row = Vec::new();
        while row.len() < COLUMNS {
            let first = row.len().is_multiple_of(256);
            let (multiple, minimum) = (pick(&self.multiples, first), pick(&self.minima, first));
            for i in 0..self.group {
                let code = if i == 7 { self.codes[self.codes.len() - 1] } else { pick(&self.codes, i == 3) };
                row.push(unit * (multiple * code - minimum));
            }
        }
        row
    }
}

#[test]
fn weights_on_the_grid_come_back_exactly() {
    for ty in types() {
        for unit in [2f32.powi(-13), 2f32.powi(-9)] {
            let row = Grids::of(ty.name).row(unit);
            for importance in [None, Some([1.0; COLUMNS].as_slice())] {
                let back = decode(ty, &encode(ty, &row, importance));
                assert_eq!(back, row, "{}, weighted: {}", ty.name, importance.is_some());
            }
        }
    }
}

#[test]
fn blocks_without_any_importance_become_zero() {
    let mut random = noise(2001);
    let row: Vec<f32> = (0..COLUMNS).map(|_| random() as f32 * 0.001 - 1.0).collect();
    let mut importance = vec![1.0; COLUMNS];
    importance[..256].fill(0.0);
    for ty in types().filter(|ty| ty.importance == Importance::Optional) {
        let silenced = encode(ty, &row, Some(&importance));
        let all = encode(ty, &row, Some(&[1.0; COLUMNS]));
        assert_eq!(silenced[silenced.len() / 2..], all[all.len() / 2..], "{}: the other half", ty.name);
        let weights = decode(ty, &silenced[..silenced.len() / 2]);
        // With scale and minimum in f16 the range of the block remains when no candidate is better.
        if ["Q4_1", "Q5_1"].contains(&ty.name) {
            assert!(weights.iter().zip(&row).all(|(y, x)| (y - x).abs() < 0.07), "{}", ty.name);
        } else {
            assert!(weights.iter().all(|&y| y == 0.0), "{}", ty.name);
        }
    }
}

#[test]
fn importance_moves_the_error_to_where_it_does_not_count() {
    let mut random = noise(2001);
    let row: Vec<f32> = (0..COLUMNS).map(|_| random() as f32 * 0.001 - 1.0).collect();
    let importance: Vec<f32> = (0..COLUMNS).map(|i| if i % 4 == 0 { 1000.0 } else { 1.0 }).collect();
    let error = |ty: &BlockType, importance: &[f32]| -> f32 {
        let back = decode(ty, &encode(ty, &row, Some(importance)));
        back.iter().zip(&row).step_by(4).map(|(y, x)| (y - x) * (y - x)).sum()
    };
    for ty in types() {
        let (weighted, even) = (error(ty, &importance), error(ty, &[1.0; COLUMNS]));
        match ty.importance {
            Importance::Ignored => assert_eq!(weighted, even, "{}", ty.name),
            _ => assert!(weighted < even, "{}: {weighted} against {even}", ty.name),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Overflowing, infinite and undefined weights give useless blocks, but never a panic.
    #[test]
    fn any_floats_encode(bits in proptest::collection::vec(any::<u32>(), COLUMNS), importance in any::<[u32; 32]>()) {
        let row: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        let importance: Vec<f32> = importance.iter().cycle().take(COLUMNS).map(|&b| f32::from_bits(b)).collect();
        for ty in types() {
            encode(ty, &row, None);
            encode(ty, &row, Some(&importance));
        }
    }
}

/// The SHA-256 of what ggml 0.25.3 (x86-64) makes of [`uneven_case`], by type.
const UNEVEN: [(&str, &str); 11] = [
    ("Q4_0", "0726f6f4a88ac5eb3890c4fca85e40e3fd77a8ad5e509d6db913204af9468cda"),
    ("Q4_1", "029759986018d1ccbfc07ca4acd35c6ceefbd30a1043d300b9d55eaa41f32c12"),
    ("Q5_0", "ed456d28f4adebf64978f540dd14ee0dfc714590cb1e170a7eb8278e0e4757b4"),
    ("Q5_1", "d65eed61413485e2bbbf750a498944468f584b1aa581eb6e81e20d9c1c7d4240"),
    ("Q2_K", "6a89374fe5ddc73bcf7edb8dc6c2c7ff8a01be7b5d550a9b390616464e09a1ae"),
    ("Q3_K", "7e0e738b9d2c5a790e14e01ddde7b62d724fcb5002d9d0b8443c53fda8dc2c9d"),
    ("Q4_K", "7c755eaf5c79b49df304d776be2e4587e5adc584dada433b9ba9883895c10e25"),
    ("Q5_K", "62358b17eaf76bb33a16a04d1af6effdc6de17a8157cb3a1d4e7ec034787c838"),
    ("Q6_K", "a87edeffc26e6975bde265a23f1e7dd9b8b18820a1979bfcec8c1a5280db1271"),
    ("IQ4_NL", "b34c04f4d5f24e05f9391baed71731083f1acc5554e0465ce5e157585dc807b2"),
    ("IQ4_XS", "a8795637c8b226268b75dfe2c8f0c2c41e8db4aa2530dc57fd490c62ecbf0b78"),
];

/// Returns 1024 rows, each with its own importance vector, by which one weight in 12 counts, or weights count 2^0 to
/// 2^-31.
fn uneven_case() -> Vec<(Vec<f32>, Vec<f32>)> {
    let mut random = noise(1 << 24);
    let cubed = |number: u32| {
        let u = number as f32 / (1 << 24) as f32 - 0.5;
        u * u * u
    };
    let sparse = |number: u32| if number.is_multiple_of(12) { 1.0 } else { 0.0 };
    let graded = |number: u32| 2f32.powi(-((number % 32) as i32));
    let mut case = Vec::new();
    for row in 0..1024 {
        let weights = (0..COLUMNS).map(|_| cubed(random())).collect();
        let importance = (0..COLUMNS).map(|_| if row % 2 == 0 { sparse(random()) } else { graded(random()) });
        case.push((weights, importance.collect()));
    }
    case
}

/// Where few weights count, fits degenerate to negative scales and codes that wrap. The bytes must be ggml's even so.
#[test]
fn uneven_importance_gives_ggml_s_bytes() {
    let case = uneven_case();
    for (name, expected) in UNEVEN {
        let ty = block::by_name(name).unwrap();
        let mut hash = Sha256::new();
        for (row, importance) in &case {
            hash.update(encode(ty, row, Some(importance)));
        }
        let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, expected, "{name}");
    }
}
