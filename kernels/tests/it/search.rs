//! Properties of the search encoder that hold on any row.

use kquant_kernels::block::TYPES;
use kquant_kernels::codec::{Codec, Coded, Magnitude, SearchOptions, column_weights, search};
use kquant_kernels::isa::Isa;
use proptest::prelude::*;

/// The columns of a row: two superblocks.
const COLUMNS: usize = 512;

fn codecs() -> impl Iterator<Item = &'static Codec> {
    TYPES.iter().filter_map(|ty| Codec::of(ty))
}

fn decode(codec: &Codec, coded: &Coded) -> Vec<f32> {
    let mut row = vec![f32::NAN; coded.codes.len()];
    codec.decode(coded, &mut row);
    row
}

fn ggml(codec: &Codec, row: &[f32], importance: Option<&[f32]>) -> Coded {
    let mut bytes = vec![0; codec.block.row_bytes(row.len() as u64).unwrap() as usize];
    (codec.block.encode.unwrap())(Isa::best(), row, importance, &mut bytes);
    codec.read(&bytes, row.len())
}

/// Checks that fields are in their ranges, that weights are finite, and that writing and reading changes nothing.
fn check_legal(codec: &Codec, coded: &Coded) {
    let name = codec.block.name;
    assert!(coded.scales.iter().all(|scale| codec.scales.contains(scale)), "{name}");
    assert!(coded.offsets.iter().all(|offset| codec.offsets.contains(offset)), "{name}");
    assert!(coded.codes.iter().all(|&code| usize::from(code) < codec.levels.len()), "{name}");
    assert!(coded.d.iter().all(|&d| codec.float.nearest(d) == d), "{name}: {:?}", coded.d);
    if codec.offsets == (0..=0) {
        assert!(coded.dmin.iter().all(|&dmin| dmin == 0.0), "{name}");
    } else {
        assert!(coded.dmin.iter().all(|&dmin| codec.float.nearest(dmin) == dmin), "{name}: {:?}", coded.dmin);
    }
    assert!(decode(codec, coded).iter().all(|w| w.is_finite()), "{name}");
    let mut bytes = vec![0xa5; codec.block.row_bytes(coded.codes.len() as u64).unwrap() as usize];
    codec.write(coded, &mut bytes);
    assert_eq!(&codec.read(&bytes, coded.codes.len()), coded, "{name}");
}

/// Returns `Σ a (ŵ - w)²` for every superblock.
fn errors(codec: &Codec, weights: &[f64], row: &[f32], coded: &Coded) -> Vec<f64> {
    let decoded = decode(codec, coded);
    let errors: Vec<f64> =
        (0..row.len()).map(|j| weights[j] * (f64::from(decoded[j]) - f64::from(row[j])).powi(2)).collect();
    errors.chunks(codec.superblock).map(|errors| errors.iter().sum()).collect()
}

const OPTIONS: [SearchOptions; 3] = [
    SearchOptions { magnitude: Magnitude::Ignored, beside_ggml: true },
    SearchOptions { magnitude: Magnitude::Searching, beside_ggml: true },
    SearchOptions { magnitude: Magnitude::Everywhere, beside_ggml: true },
];

fn check_row(row: &[f32], importance: Option<&[f32]>) {
    for codec in codecs() {
        let theirs = ggml(codec, row, importance);
        for options in OPTIONS {
            let ours = search(codec, row, importance, options);
            check_legal(codec, &ours);
            let magnitude = options.magnitude == Magnitude::Everywhere;
            let weights = column_weights(codec, row, importance, magnitude);
            let pairs = errors(codec, &weights, row, &ours).into_iter();
            for (ours, theirs) in pairs.zip(errors(codec, &weights, row, &theirs)) {
                assert!(
                    ours <= theirs || theirs.is_nan(),
                    "{}, {options:?}: {ours} above {theirs}",
                    codec.block.name
                );
            }
        }
        check_legal(
            codec,
            &search(codec, row, importance, SearchOptions { beside_ggml: false, ..OPTIONS[0] }),
        );
    }
}

/// Returns rows of weights of one size with zeros among them.
fn row() -> impl Strategy<Value = Vec<f32>> {
    let weight = prop_oneof![8 => -1.0_f32..1.0, 1 => Just(0.0), 1 => -10.0_f32..10.0, 1 => -1e-4_f32..1e-4];
    let rows = prop::collection::vec(weight, COLUMNS);
    (rows, -12..12_i32, prop_oneof![4 => Just(0.0_f32), 1 => -2.0_f32..2.0])
        .prop_map(|(row, exponent, shift)| row.iter().map(|w| (w + shift) * 2f32.powi(exponent)).collect())
}

fn importance() -> impl Strategy<Value = Vec<f32>> {
    let column = prop_oneof![1 => Just(0.0_f32), 6 => 0.0_f32..1.0, 1 => 0.0_f32..1e6];
    prop::collection::vec(column, COLUMNS)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn never_worse_than_ggml_and_always_legal(row in row(), importance in importance()) {
        check_row(&row, None);
        check_row(&row, Some(&importance));
    }

    #[test]
    fn any_bits_encode(bits in prop::collection::vec(any::<u32>(), COLUMNS), more in prop::collection::vec(any::<u32>(), COLUMNS)) {
        let [row, importance] = [bits, more].map(|bits| bits.into_iter().map(f32::from_bits).collect::<Vec<_>>());
        for codec in codecs() {
            for importance in [None, Some(importance.as_slice())] {
                let coded = search(codec, &row, importance, SearchOptions::default());
                let finite: Vec<f32> = row.iter().map(|w| if w.is_finite() { *w } else { 1.0 }).collect();
                prop_assert!(coded.codes.iter().all(|&code| usize::from(code) < codec.levels.len()));
                check_legal(codec, &search(codec, &finite, importance, SearchOptions::default()));
            }
        }
    }
}

#[test]
fn extreme_rows_give_finite_weights() {
    let wave = |size: f32| -> Vec<f32> { (0..COLUMNS).map(|j| (j as f32 * 0.7).sin() * size).collect() };
    let mut spike = vec![0.0; COLUMNS];
    spike[37] = -3.0;
    let rows = [
        vec![0.0; COLUMNS],
        vec![-0.0; COLUMNS],
        vec![1.0; COLUMNS],
        vec![-2.5; COLUMNS],
        spike,
        wave(1e30),
        wave(f32::MAX),
        wave(1e-30),
        wave(1e-40),
        vec![f32::from_bits(1); COLUMNS],
    ];
    let mut importance = vec![0.0; COLUMNS];
    for row in rows {
        check_row(&row, None);
        check_row(&row, Some(&importance));
        importance[5] = 1.0;
        check_row(&row, Some(&importance));
    }
}

#[test]
fn rows_on_the_codec_s_levels_come_back_exactly() {
    let mut state = 1u32;
    let mut random = |n: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % n
    };
    for codec in codecs() {
        // Every group spans all levels; the first group of a superblock has the largest scale.
        let mut coded = Coded::zeros(codec, COLUMNS);
        coded.d.fill(codec.float.nearest(0.0078));
        for scale in coded.scales.iter_mut().skip(1) {
            *scale = (*codec.scales.end() - random(3) as i16).max(1);
        }
        for first in coded.scales.chunks_mut(codec.superblock / codec.group) {
            first[0] = *codec.scales.end();
        }
        for codes in coded.codes.chunks_mut(codec.group) {
            codes.iter_mut().for_each(|code| *code = random(codec.levels.len()) as u8);
            (codes[0], codes[1]) = (0, codec.levels.len() as u8 - 1);
        }
        let row = decode(codec, &coded);
        let found = search(codec, &row, None, SearchOptions { beside_ggml: false, ..Default::default() });
        assert_eq!(decode(codec, &found), row, "{}", codec.block.name);
    }
}

#[test]
fn importance_moves_the_error_to_where_it_does_not_count() {
    let row: Vec<f32> = (0..COLUMNS).map(|j| (j as f32 * 1.7).sin() + (j as f32 * 0.3).cos()).collect();
    let importance: Vec<f32> = (0..COLUMNS).map(|j| if j % 4 == 0 { 100.0 } else { 1.0 }).collect();
    for codec in codecs() {
        let error = |importance: Option<&[f32]>| -> f32 {
            let decoded = decode(codec, &search(codec, &row, importance, SearchOptions::default()));
            decoded.iter().zip(&row).step_by(4).map(|(y, x)| (y - x) * (y - x)).sum()
        };
        let (weighted, even) = (error(Some(&importance)), error(None));
        assert!(weighted < even, "{}: {weighted} against {even}", codec.block.name);
    }
}
